package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// testReplica is a replica of a service. It can fail its health check, or hang.
type testReplica struct {
	url      string
	requests atomic.Int32 // to the API
	unready  atomic.Bool
	hangs    atomic.Pointer[chan struct{}]
}

func newTestReplica(t *testing.T) *testReplica {
	w := &testReplica{}
	w.url = serve(t, func(res http.ResponseWriter, req *http.Request) {
		if wait := w.hangs.Load(); wait != nil {
			<-*wait
		}
		if req.URL.Path != "/readyz" {
			w.requests.Add(1)
		} else if w.unready.Load() {
			res.WriteHeader(503)
		}
		fmt.Fprint(res, "ok")
	})
	return w
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !condition(); {
		require.False(t, time.Now().After(deadline), "not in time: %s", what)
		time.Sleep(10 * time.Millisecond)
	}
}

func TestReplicas_ShareTheRequests(t *testing.T) {
	a, b := newTestReplica(t), newTestReplica(t)
	url := gateway(t, a.url+","+b.url)
	for range 20 {
		require.Equal(t, 200, do(t, "POST", url+"/api/orders", "{}").status)
	}
	require.EqualValues(t, 20, a.requests.Load()+b.requests.Load())
	require.InDelta(t, 10, a.requests.Load(), 1)
}

func TestReplicas_OneThatIsNotReadyGetsNoRequests(t *testing.T) {
	a, b := newTestReplica(t), newTestReplica(t)
	url := gateway(t, a.url+","+b.url)
	served := func(by *testReplica) bool {
		before := by.requests.Load()
		for range 4 {
			require.Equal(t, 200, do(t, "POST", url+"/api/orders", "{}").status)
		}
		return by.requests.Load() > before
	}
	a.unready.Store(true)
	eventually(t, "a gets no more requests", func() bool { return !served(a) })
	a.unready.Store(false)
	eventually(t, "a gets its share again", func() bool { return served(a) })

	a.unready.Store(true)
	b.unready.Store(true)
	for range 20 {
		require.Equal(t, 200, do(t, "GET", url+"/api/orders", "").status, "if none is ready, one is requests all the same")
	}
}

func TestReplicas_OneThatHangsGetsNoRequests(t *testing.T) {
	a, b := newTestReplica(t), newTestReplica(t)
	url := gateway(t, a.url+","+b.url)
	released := make(chan struct{})
	a.hangs.Store(&released)
	t.Cleanup(func() { close(released) })
	client := http.Client{Timeout: time.Second}
	eventually(t, "no request hangs", func() bool {
		for range 6 {
			res, err := client.Get(url + "/api/orders")
			if err != nil {
				return false
			}
			_ = res.Body.Close()
		}
		return true
	})
}

func TestReplicas_OneThatIsDownCausesNoError(t *testing.T) {
	b := newTestReplica(t)
	url := gateway(t, unreachable(t)+","+b.url)
	for range 10 {
		require.Equal(t, 200, do(t, "POST", url+"/api/orders", "{}").status, "nothing was sent to the replica that is down")
	}
	require.EqualValues(t, 10, b.requests.Load(), "each request was sent once")
}

func TestReplicas_AllDownIs503(t *testing.T) {
	url := gateway(t, strings.Join([]string{unreachable(t), unreachable(t)}, ","))
	require.Equal(t, "upstream_unavailable", do(t, "POST", url+"/api/orders", "{}").code(t))
}

func TestReplica_LogsAnOutageAndNotItsStart(t *testing.T) {
	up := newTestReplica(t)
	up.unready.Store(true)
	r, err := newReplica(up.url, nil)
	require.NoError(t, err)
	var out lockedBuffer
	ctx, cancel := context.WithCancel(t.Context())
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		r.watch(ctx, slog.New(slog.NewTextHandler(&out, nil)))
	}()

	eventually(t, "the check finds that it still starts", r.down.Load)
	up.unready.Store(false)
	eventually(t, "it is ready", func() bool { return !r.down.Load() })
	require.Empty(t, out.String())

	up.unready.Store(true)
	eventually(t, "the check finds the outage", func() bool { return strings.Contains(out.String(), "not ready") })
	up.unready.Store(false)
	eventually(t, "it is ready again", func() bool { return strings.Contains(out.String(), "ready again") })
	cancel()
	<-watched
	require.Equal(t, 2, strings.Count(out.String(), "\n"), out.String())
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out.String()
}
