package state

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/dapr/go-sdk/client"

	"boxoffice/deploy/local/stack"
)

// oneSidecar serves all tests of this package: a real sidecar with the embedded components. It is nil under
// go test -short.
var oneSidecar client.Client

func TestMain(m *testing.M) {
	code, err := withSidecar(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func withSidecar(run func() int) (int, error) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	if slices.Contains(os.Args, "-test.short=true") {
		return run(), nil
	}
	folder, err := os.MkdirTemp("", "state")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(folder)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := stack.Start(ctx, stack.Options{Folder: folder, Sidecars: []stack.Sidecar{{ID: "auth"}}})
	if err != nil {
		return 1, err
	}
	defer s.Stop()
	oneSidecar, err = client.NewClientWithAddressContext(ctx, s.SidecarGRPC("auth"))
	if err != nil {
		return 1, err
	}
	defer oneSidecar.Close()
	oneSidecar.WithAuthToken(s.SidecarToken("auth"))
	return run(), nil
}

func sidecar(t *testing.T) client.Client {
	if oneSidecar == nil {
		t.Skip("needs a real sidecar")
	}
	return oneSidecar
}

// slowReads holds every read up until release is closed.
type slowReads struct {
	Sidecar
	entered, release chan struct{}
}

func (s *slowReads) GetState(ctx context.Context, store, key string, meta map[string]string) (*client.StateItem, error) {
	s.entered <- struct{}{}
	<-s.release
	return s.Sidecar.GetState(ctx, store, key, meta)
}

func (s *slowReads) GetBulkState(ctx context.Context, store string, keys []string, meta map[string]string, parallelism int32) ([]*client.BulkStateItem, error) {
	s.entered <- struct{}{}
	<-s.release
	return s.Sidecar.GetBulkState(ctx, store, keys, meta, parallelism)
}

// waiting counts the keys that wait for a call.
func (r *reader) waiting() (keys int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, shared := range r.queue {
		keys += len(shared.keys)
	}
	return keys
}

// keepsHalf behaves as Dapr's Redis store: the writes of a transaction are done one by one, and those whose
// condition holds stay when another's does not.
type keepsHalf struct{ client.Client }

func (k keepsHalf) ExecuteStateTransaction(ctx context.Context, store string, meta map[string]string, ops []*client.StateOperation) error {
	var failed error
	for _, op := range ops {
		if err := k.Client.ExecuteStateTransaction(ctx, store, meta, []*client.StateOperation{op}); err != nil {
			failed = err
		}
	}
	return failed
}

// ignoresConditions writes whatever comes.
type ignoresConditions struct{ client.Client }

func (i ignoresConditions) ExecuteStateTransaction(ctx context.Context, store string, meta map[string]string, ops []*client.StateOperation) error {
	for _, op := range ops {
		op.Item.Etag = nil
		op.Item.Options = &client.StateOptions{Concurrency: client.StateConcurrencyLastWrite}
	}
	return i.Client.ExecuteStateTransaction(ctx, store, meta, ops)
}

// queued counts the changes that no writer has taken.
func (c *committer) queued() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiting)
}
