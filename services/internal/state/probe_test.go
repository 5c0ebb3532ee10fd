package state

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dapr/go-sdk/client"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// meeting lets two transactions that are under way at once wait for each other between their conditions and their writes.
type meeting struct {
	mu      sync.Mutex
	waiting chan struct{}
}

func (m *meeting) wait() {
	m.mu.Lock()
	if m.waiting != nil {
		close(m.waiting)
		m.waiting = nil
		m.mu.Unlock()
		return
	}
	mine := make(chan struct{})
	m.waiting = mine
	m.mu.Unlock()
	select {
	case <-mine:
	case <-time.After(20 * time.Millisecond):
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.waiting == mine {
			m.waiting = nil
		}
	}
}

// holds reports whether every condition of a transaction holds.
func (m *memory) holds(ops []*client.StateOperation) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, op := range ops {
		now, wanted := m.documents[op.Item.Key].etag, ""
		if op.Item.Etag != nil {
			wanted = op.Item.Etag.Value
		}
		blind := wanted == "" && (op.Item.Options == nil || op.Item.Options.Concurrency != client.StateConcurrencyFirstWrite)
		if now != wanted && !blind {
			return false
		}
	}
	return true
}

// checksFirst behaves as Dapr's etcd store: it checks ETags before the transaction, in which each operation has a condition of
// its own; one that does not hold is left out, and the answer is OK.
type checksFirst struct {
	*memory
	meeting
}

func (l *checksFirst) ExecuteStateTransaction(_ context.Context, _ string, _ map[string]string, ops []*client.StateOperation) error {
	if !l.holds(ops) {
		return errors.New("possible etag mismatch")
	}
	l.wait()
	for _, op := range ops {
		_ = l.execute([]*client.StateOperation{op})
	}
	return nil
}

// dropsCommitErrors behaves as Dapr's MongoDB store: what the commit answers is not looked at.
type dropsCommitErrors struct {
	*memory
	meeting
}

func (d *dropsCommitErrors) ExecuteStateTransaction(_ context.Context, _ string, _ map[string]string, ops []*client.StateOperation) error {
	if !d.holds(ops) {
		return errors.New("possible etag mismatch")
	}
	d.wait()
	_ = d.execute(ops)
	return nil
}

// forgets answers OK and does not write.
type forgets struct{ *memory }

func (f forgets) ExecuteStateTransaction(_ context.Context, _ string, _ map[string]string, ops []*client.StateOperation) error {
	if !f.holds(ops) {
		return errors.New("possible etag mismatch")
	}
	if ops[0].Item.Etag != nil { // only changes, so that the first document is there
		return nil
	}
	return f.execute(ops)
}

// revives behaves as Dapr's MongoDB store: it changes documents by an upsert, which makes one that was deleted anew.
type revives struct{ *memory }

func (r revives) ExecuteStateTransaction(_ context.Context, _ string, _ map[string]string, ops []*client.StateOperation) error {
	for _, op := range ops {
		if op.Item.Etag != nil && op.Type == client.StateOperationTypeUpsert && !r.get(op.Item.Key).exists() {
			op.Item.Etag, op.Item.Options = nil, nil
		}
	}
	return r.execute(ops)
}

// caseless takes keys that differ in case for one, as databases do whose columns have such a collation.
type caseless struct{ *memory }

func (c caseless) GetState(ctx context.Context, store, key string, meta map[string]string) (*client.StateItem, error) {
	return c.memory.GetState(ctx, store, strings.ToLower(key), meta)
}

func (c caseless) ExecuteStateTransaction(_ context.Context, _ string, _ map[string]string, ops []*client.StateOperation) error {
	for _, op := range ops {
		op.Item.Key = strings.ToLower(op.Item.Key)
	}
	return c.execute(ops)
}

// countsAnew gives a document that is created again the ETag that it began with before.
type countsAnew struct {
	*memory
	version map[string]int
}

func (c countsAnew) ExecuteStateTransaction(_ context.Context, _ string, _ map[string]string, ops []*client.StateOperation) error {
	if err := c.execute(ops); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, op := range ops {
		if op.Type == client.StateOperationTypeDelete {
			delete(c.version, op.Item.Key)
			continue
		}
		c.version[op.Item.Key]++
		c.documents[op.Item.Key] = item{value: op.Item.Value, etag: strconv.Itoa(c.version[op.Item.Key])}
	}
	return nil
}

func TestProbe_RefusesStoresThatASequenceOfTransactionsDoesNotShow(t *testing.T) {
	memories := map[string]*memory{}
	on := func(name string) *memory { memories[name] = newMemory(); return memories[name] }
	for name, c := range map[string]struct {
		sidecar Sidecar
		did     string
	}{
		"answers OK to the loser of a race": {&checksFirst{memory: on("answers OK to the loser of a race")}, "two transactions at once"},
		"drops errors of the commit":        {&dropsCommitErrors{memory: on("drops errors of the commit")}, "two transactions at once"},
		"loses what it accepted":            {forgets{on("loses what it accepted")}, "it loses accepted writes"},
		"revives deleted documents":         {revives{on("revives deleted documents")}, "changes a deleted document"},
		"takes keys in any case":            {caseless{on("takes keys in any case")}, "differ in case"},
		"counts ETags anew":                 {countsAnew{on("counts ETags anew"), map[string]int{}}, "the ETag that it had before"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(t.Context(), c.sidecar, Options{Service: "tested", Instance: uuid.NewString()})
			unfit, ok := errors.AsType[*unfitStoreError](err)
			require.True(t, ok, "%v", err)
			require.Contains(t, unfit.Error(), c.did)
			require.Empty(t, memories[name].allDocuments(), "it deletes its documents")
		})
	}
}

func TestProbe_DeletesItsDocumentsAndIsQuick(t *testing.T) {
	m := newMemory()
	calls := 0
	f := &faults{Sidecar: m}
	f.transact = func(ctx context.Context, pass func(context.Context) error) error { calls++; return pass(ctx) }
	s := openOn(t, f, Options{Writers: 1})
	require.LessOrEqual(t, calls, 30, "transactions until a service is ready")
	for key := range m.allDocuments() {
		require.False(t, strings.HasPrefix(key, "probe/"), "%s is left", key)
	}
	require.NotNil(t, s)
}

// Should the process die in it, the store forgets what the probe has written.
func TestProbe_EverythingItWritesHasALife(t *testing.T) {
	m := newMemory()
	f := &faults{Sidecar: m}
	openOn(t, f, Options{Writers: 1})
	m.mu.Lock()
	defer m.mu.Unlock()
	probed := 0
	for key, life := range m.lifetimes {
		if strings.HasPrefix(key, "probe/") {
			probed++
			require.Equal(t, "600", life, key)
		}
	}
	require.NotZero(t, probed)
}

func TestProbe_ARealStorePassesInLittleTime(t *testing.T) {
	s, _ := open(t, Options{})
	began := time.Now()
	const times = 5
	for range times {
		require.NoError(t, s.runProbe(t.Context()))
	}
	t.Logf("a probe takes %v", time.Since(began)/times)
	require.Less(t, time.Since(began)/times, 2*time.Second)
}
