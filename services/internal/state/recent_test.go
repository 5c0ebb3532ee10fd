package state

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func TestNote_IsWrittenAtTheCreationAndWithLateChanges(t *testing.T) {
	m := newMemory()
	s, _ := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
	created := time.Date(2026, 5, 19, 23, 0, 0, 0, time.UTC)
	for _, later := range []time.Duration{0, time.Hour, notedAgainAfter, notedAgainAfter + time.Minute, 100 * time.Hour} {
		var c Change
		c.Create(newKey(), thing{1, "one more document"})
		c.Note("things", "t1", created, created.Add(later))
		require.NoError(t, s.Commit(t.Context(), &c))
	}
	noted := func(since, now time.Time) (all []string) {
		require.NoError(t, s.Recent(t.Context(), "things", since, now, func(ids []string) error { all = append(all, ids...); return nil }))
		return all
	}
	require.Len(t, noted(created, created), 1, "at its creation")
	require.Len(t, noted(created.Add(24*time.Hour), created.Add(25*time.Hour)), 1, "the change after half a day")
	require.Len(t, noted(created.Add(99*time.Hour), created.Add(101*time.Hour)), 1)
	require.Contains(t, noted(created.Add(notedAgainAfter), created.Add(notedAgainAfter)), "t1", "a change that was not noted is found by the note of the creation")
	require.Empty(t, noted(created.Add(-72*time.Hour), created.Add(-70*time.Hour)))
	for key := range m.allDocuments() {
		if len(key) > 12 && key[:12] == "index/recent" {
			require.Equal(t, "432000", m.lifetimes[key], "the store forgets it")
		}
	}
}

// BenchmarkNote shows what it costs to note what changed, with 64 clients that reserve: two documents and an entry in a list of
// one's own. (Without events, which a store takes faster than a broker.)
func BenchmarkNote(b *testing.B) {
	if oneSidecar == nil {
		b.Skip("needs a real sidecar")
	}
	s, err := Open(b.Context(), oneSidecar, Options{Service: "auth", Instance: uuid.NewString()})
	require.NoError(b, err)
	defer s.Close(context.Background())
	users := make([]string, 200)
	for i := range users {
		users[i] = uuid.NewString()
	}
	for round := range 10 { // one after the other, for the machine has other work, too
		for _, noted := range []bool{false, true} {
			b.Run(fmt.Sprintf("noted=%v/%d", noted, round), func(b *testing.B) {
				b.SetParallelism(32)
				var n atomic.Int64
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						id, now := uuid.Must(uuid.NewV7()).String(), time.Now()
						var c Change
						c.Insert("ticket/"+id, thing{1, strings.Repeat("a ticket ", 25)})
						c.Insert("order/"+id, thing{1, strings.Repeat("an order ", 40)})
						c.Append("orders/"+users[n.Add(1)%200], id)
						if noted {
							c.Note("orders", id, now, now)
						}
						if err := s.Commit(b.Context(), &c); err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		}
	}
}
