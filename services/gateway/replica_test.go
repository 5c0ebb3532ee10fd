package main

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// twin is one of two replicas of a service; it can be told to fail its health check, or to hang.
type twin struct {
	url     string
	asked   atomic.Int32 // requests of the API
	unready atomic.Bool
	hangs   atomic.Pointer[chan struct{}]
}

func newTwin(t *testing.T) *twin {
	w := &twin{}
	w.url = serve(t, func(res http.ResponseWriter, req *http.Request) {
		if wait := w.hangs.Load(); wait != nil {
			<-*wait
		}
		if req.URL.Path != "/readyz" {
			w.asked.Add(1)
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
	a, b := newTwin(t), newTwin(t)
	url := gateway(t, a.url+","+b.url)
	for range 20 {
		require.Equal(t, 200, do(t, "POST", url+"/api/orders", "{}").status)
	}
	require.EqualValues(t, 20, a.asked.Load()+b.asked.Load())
	require.InDelta(t, 10, a.asked.Load(), 1)
}

func TestReplicas_OneThatIsNotReadyGetsNothingUntilItIs(t *testing.T) {
	a, b := newTwin(t), newTwin(t)
	url := gateway(t, a.url+","+b.url)
	served := func(by *twin) bool {
		before := by.asked.Load()
		for range 4 {
			require.Equal(t, 200, do(t, "POST", url+"/api/orders", "{}").status)
		}
		return by.asked.Load() > before
	}
	a.unready.Store(true)
	eventually(t, "a gets nothing more", func() bool { return !served(a) })
	a.unready.Store(false)
	eventually(t, "a gets its share again", func() bool { return served(a) })

	a.unready.Store(true)
	b.unready.Store(true)
	for range 20 {
		require.Equal(t, 200, do(t, "GET", url+"/api/orders", "").status, "if none is ready, one is asked all the same")
	}
}

func TestReplicas_OneThatHangsGetsNothing(t *testing.T) {
	a, b := newTwin(t), newTwin(t)
	url := gateway(t, a.url+","+b.url)
	released := make(chan struct{})
	a.hangs.Store(&released)
	t.Cleanup(func() { close(released) })
	client := http.Client{Timeout: time.Second}
	eventually(t, "requests do not hang any more", func() bool {
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

func TestReplicas_OneThatIsGoneIsNotNoticed(t *testing.T) {
	b := newTwin(t)
	url := gateway(t, gone(t)+","+b.url)
	for range 10 {
		require.Equal(t, 200, do(t, "POST", url+"/api/orders", "{}").status, "nothing was sent to the one that is gone")
	}
	require.EqualValues(t, 10, b.asked.Load(), "and nothing was sent twice")
}

func TestReplicas_AllGoneIsTold(t *testing.T) {
	url := gateway(t, strings.Join([]string{gone(t), gone(t)}, ","))
	require.Equal(t, "upstream_unavailable", do(t, "POST", url+"/api/orders", "{}").code(t))
}
