package state

import (
	"context"
	"log/slog"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/state/statetest"
)

// BenchmarkCommit measures the committer alone: 64 callers change documents of their own, with an event each, on a store that
// takes no time.
func BenchmarkCommit(b *testing.B) {
	s, err := Open(b.Context(), statetest.New(), Options{Service: "tested", Instance: "here", Log: slog.New(slog.DiscardHandler)})
	require.NoError(b, err)
	defer func() { _ = s.Close(context.Background()) }()
	var callers atomic.Int64
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		caller := "caller-" + strconv.FormatInt(callers.Add(1), 10)
		for n := 1; pb.Next(); n++ {
			var change Change
			doc, err := Get[tally](b.Context(), s, caller)
			if err != nil {
				change.Create(caller, tally{1, 1})
			} else {
				change.Update(doc.Key, doc.ETag, tally{1, doc.Value.N + 1})
			}
			change.Emit(b.Context(), events.UserCreated{User: events.User{ID: id.User(caller), Version: n}})
			for err = s.Commit(b.Context(), &change); err != nil; err = s.Commit(b.Context(), &change) {
				time.Sleep(time.Millisecond) // the journal is full
			}
		}
	})
}
