package state

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dapr/go-sdk/client"
	"github.com/stretchr/testify/require"
)

// listing is a document that is listed until it is deleted.
type listing struct {
	Schema   int  `json:"schema"`
	N        int  `json:"n"`
	Deleted  bool `json:"deleted,omitempty"`
	Unlisted bool `json:"unlisted,omitempty"`
}

func listingKey(id string) string { return "listing/" + id }
func listingID(n int) string      { return fmt.Sprintf("%06d", n) }

func unlist(l *listing) bool {
	l.Unlisted = l.Deleted
	return l.Deleted
}

// market is a store with listings.
type market struct {
	*Store
	t testing.TB
	n int
}

func (m *market) add(count int) {
	for range count {
		var change Change
		change.Insert(listingKey(listingID(m.n)), listing{Schema: 1, N: m.n})
		change.Append("listings", listingID(m.n))
		require.NoError(m.t, m.Commit(context.Background(), &change))
		m.n++
	}
}

func (m *market) remove(from, to int) {
	var changing sync.WaitGroup
	places := make(chan struct{}, 64)
	for n := from; n < to; n++ {
		places <- struct{}{}
		changing.Go(func() {
			defer func() { <-places }()
			doc, err := Get[listing](context.Background(), m.Store, listingKey(listingID(n)))
			if err != nil {
				m.t.Error(err)
				return
			}
			doc.Value.Deleted = true
			var change Change
			change.Update(doc.Key, doc.ETag, doc.Value)
			if err := m.Commit(context.Background(), &change); err != nil {
				m.t.Error(err)
			}
		})
	}
	changing.Wait()
}

func (m *market) list(limit int, from string) (found []int, next string) {
	listings, next, err := List(context.Background(), m.Store, "listings", limit, from, listingKey, func(l listing) bool { return !l.Deleted })
	require.NoError(m.t, err)
	for _, l := range listings {
		found = append(found, l.N)
	}
	return found, next
}

func (m *market) compactor() *Compactor[listing] {
	return NewCompactor(m.Store, "listings", listingKey, unlist)
}

// countsReads counts the documents that are read.
type countsReads struct {
	*memory
	read atomic.Int64
}

func (c *countsReads) GetState(ctx context.Context, store, key string, meta map[string]string) (*client.StateItem, error) {
	c.read.Add(1)
	return c.memory.GetState(ctx, store, key, meta)
}

func (c *countsReads) GetBulkState(ctx context.Context, store string, keys []string, meta map[string]string, parallelism int32) ([]*client.BulkStateItem, error) {
	c.read.Add(int64(len(keys)))
	return c.memory.GetBulkState(ctx, store, keys, meta, parallelism)
}

func down(from, to int) (numbers []int) {
	for n := from; n >= to; n-- {
		numbers = append(numbers, n)
	}
	return numbers
}

func TestCompact_PageOneIsFullAfterTenThousandDeletions(t *testing.T) {
	c := &countsReads{memory: newMemory()}
	m := &market{Store: openOn(t, &faults{Sidecar: c}, Options{Lease: time.Minute, Writers: 1}), t: t}
	m.add(100)
	inTheMiddle, next := m.list(30, "")
	require.Equal(t, down(99, 70), inTheMiddle)
	m.add(10_000)
	_, among := m.list(50, "") // the first of those that are deleted now
	m.remove(100, 10_100)
	m.add(5)

	removed, err := m.compactor().All(t.Context())
	require.NoError(t, err)
	require.Greater(t, removed, 9_950, "all but what is in the head")

	before := c.read.Load()
	listed, _ := m.list(50, "")
	require.Equal(t, append(down(10_104, 10_100), down(99, 55)...), listed)
	require.Less(t, c.read.Load()-before, int64(150), "documents read for a page of 50")

	before = c.read.Load()
	listed, _ = m.list(30, next)
	require.Equal(t, down(69, 40), listed, "a cursor that was given out before leads on")
	require.Less(t, c.read.Load()-before, int64(100))
	listed, _ = m.list(50, among)
	require.Equal(t, down(99, 50), listed, "so does one among the deleted")

	again, err := m.compactor().All(t.Context())
	require.NoError(t, err)
	require.Zero(t, again)
}

// What is removed in pieces, in any order, is stepped over at once.
func TestCompact_RunsOfRemovedPagesGrowTogether(t *testing.T) {
	c := &countsReads{memory: newMemory()}
	m := &market{Store: openOn(t, &faults{Sidecar: c}, Options{Lease: time.Minute, Writers: 1}), t: t}
	const pages = 60
	m.add(pages * pageLength)
	for _, part := range [][2]int{{40, 60}, {10, 25}, {25, 40}, {1, 10}} {
		m.remove(part[0]*pageLength, part[1]*pageLength)
		_, err := m.compactor().All(t.Context())
		require.NoError(t, err)
	}
	m.add(pageLength + 1)
	_, err := m.compactor().All(t.Context())
	require.NoError(t, err)
	before := c.read.Load()
	listed, _ := m.list(2*pageLength+1, "")
	require.Len(t, listed, 2*pageLength+1)
	require.Less(t, c.read.Load()-before, int64(120))
}

func TestCompact_RunsInTheBackgroundAfterADeletion(t *testing.T) {
	s, _ := onMemory(t, newMemory(), Options{Lease: time.Minute, Writers: 1})
	m := &market{Store: s, t: t}
	m.add(10)
	m.add(400)
	compactor := m.compactor()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- compactor.Run(ctx) }()
	m.remove(10, 410)
	compactor.Wake()
	soon(t, "page one is full", func() bool { listed, _ := m.list(10, ""); return slices.Equal(listed, down(9, 0)) })
	stop()
	require.NoError(t, <-ended)
}

// A document that is listed again in the moment of its removal keeps its entry, or is marked as one without.
func TestCompact_NeverRemovesWhatIsListedAgain(t *testing.T) {
	m := newMemory()
	s, f := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
	mk := &market{Store: s, t: t}
	mk.add(2 * pageLength)
	mk.remove(0, pageLength)
	script(f, func(pass func() error) error { // the first transaction of the compactor
		key := listingKey(listingID(3))
		now := m.get(key)
		require.NoError(t, m.execute([]*client.StateOperation{write{key: key, etag: now.etag, value: []byte(`{"schema":1,"n":3}`)}.operation()}))
		return pass()
	})
	_, err := mk.compactor().All(t.Context())
	require.NoError(t, err)
	listed, _ := mk.list(100, "")
	require.Contains(t, listed, 3)
	_, err = mk.compactor().All(t.Context())
	require.NoError(t, err)
	listed, _ = mk.list(100, "")
	require.Equal(t, append(down(2*pageLength-1, pageLength), 3), listed)
	doc, err := Get[listing](t.Context(), s, listingKey(listingID(4)))
	require.NoError(t, err)
	require.True(t, doc.Value.Unlisted)
}

func TestForward_StepsOverRemovedPages(t *testing.T) {
	s, _ := onMemory(t, newMemory(), Options{Lease: time.Minute, Writers: 1})
	m := &market{Store: s, t: t}
	m.add(10*pageLength + 3)
	m.remove(pageLength-1, 8*pageLength+2)
	_, err := m.compactor().All(t.Context())
	require.NoError(t, err)
	var met []string
	var from Places
	for {
		entries, next, err := s.Forward(t.Context(), "listings", from)
		require.NoError(t, err)
		if len(entries) == 0 {
			break
		}
		for _, entry := range entries {
			met = append(met, entry.ID)
		}
		from = next
	}
	require.True(t, slices.IsSorted(met))
	require.Len(t, met, (pageLength-1)+(2*pageLength+1))
}

func TestTrim_DeletesPagesThatAreWorkedOff(t *testing.T) {
	mem := newMemory()
	s, _ := onMemory(t, mem, Options{Lease: time.Minute, Writers: 1})
	m := &market{Store: s, t: t}
	m.add(30 * pageLength)
	pages := func() (n int) {
		for key := range mem.allDocuments() {
			if strings.HasPrefix(key, "index/listings@") && strings.Count(key, "/") == 2 {
				n++
			}
		}
		return n
	}
	require.Equal(t, 29, pages())
	var end, trimmed Places
	for {
		entries, next, err := s.Forward(t.Context(), "listings", end)
		require.NoError(t, err)
		if len(entries) == 0 {
			break
		}
		end = next
	}
	for _, left := range []int{19, 9, 0, 0} {
		var change Change
		trimmed = change.Trim("listings", trimmed, end, 10)
		require.NoError(t, s.Commit(t.Context(), &change))
		require.Equal(t, left, pages())
	}
	m.add(3)
	entries, _, err := s.Forward(t.Context(), "listings", end)
	require.NoError(t, err)
	require.Len(t, entries, 3, "reading goes on")
}
