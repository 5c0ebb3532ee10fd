package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dapr/go-sdk/client"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
)

// ledgerPage is a document that many changes are made of: it holds the names of all that were.
type ledgerPage struct {
	Changes []int `json:"changes"`
}

// attempt is one change that was tried: it enters its number in ledgers, makes a document, adds to an index and
// emits an event.
type attempt struct {
	number  int
	ledgers []string
	err     error
}

func (a *attempt) mark() string  { return "mark/" + strconv.Itoa(a.number) }
func (a *attempt) event() string { return fmt.Sprintf("user.created:user-%d:1", a.number) }

func (a *attempt) commit(ctx context.Context, s *Store) error {
	docs := make([]Doc[ledgerPage], len(a.ledgers))
	for i, key := range a.ledgers {
		var err error
		if docs[i], err = Get[ledgerPage](ctx, s, key); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	var change Change
	for _, doc := range docs {
		doc.Value.Changes = append(doc.Value.Changes, a.number)
		if doc.ETag == "" {
			change.Create(doc.Key, doc.Value)
		} else {
			change.Update(doc.Key, doc.ETag, doc.Value)
		}
	}
	change.Create(a.mark(), thing{1, "made"})
	change.Append("all", strconv.Itoa(a.number))
	change.Emit(ctx, events.UserCreated{User: events.User{ID: id.User(fmt.Sprintf("user-%d", a.number)), Version: 1}})
	return s.Commit(ctx, &change)
}

// household is a service of two replicas on one store, in a bad time.
type household struct {
	memory   *memory
	stores   [2]*Store
	attempts []*attempt
}

func (h *household) open(t *rapid.T, replica int) {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		s, err := Open(ctx, h.memory, Options{
			Service: "tested", Instance: fmt.Sprintf("replica-%d", replica), Lease: time.Second, MaxTransactions: 4,
			Log: slog.New(slog.DiscardHandler),
		})
		cancel()
		if err == nil {
			h.stores[replica] = s
			return
		}
		if _, unfit := errors.AsType[*unfitStoreError](err); unfit {
			t.Fatal(err)
		}
	}
}

func (h *household) anyFaults(t *rapid.T) {
	bad := rapid.SampledFrom([]fault{works, works, refuses, silent, happensLate, failsInPart, breaksOff})
	faults := rapid.SliceOfN(bad, 0, 12).Draw(t, "faults")
	h.memory.mu.Lock()
	defer h.memory.mu.Unlock()
	h.memory.faults = faults
}

// commitSome tries several changes at once, at either replica; one may die meanwhile.
func (h *household) commitSome(t *rapid.T) {
	h.anyFaults(t)
	dies := rapid.IntRange(-6, 1).Draw(t, "dies, if not negative")
	var trying sync.WaitGroup
	for range rapid.IntRange(1, 6).Draw(t, "changes") {
		a := &attempt{number: len(h.attempts)}
		a.ledgers = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"ledger/a", "ledger/b", "ledger/c"}), 0, 2, rapid.ID).Draw(t, "ledgers")
		store := h.stores[rapid.IntRange(0, 1).Draw(t, "replica")]
		patience := time.Duration(rapid.SampledFrom([]int{1, 50, 60_000}).Draw(t, "patience in ms")) * time.Millisecond
		h.attempts = append(h.attempts, a)
		trying.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			a.err = a.commit(ctx, store)
		})
	}
	if dies >= 0 {
		time.Sleep(time.Millisecond)
		abandon(h.stores[dies])
		trying.Wait()
		h.open(t, dies)
	}
	trying.Wait()
}

// check compares the outcomes of all changes with the store, when nothing is under way.
func (h *household) check(t *rapid.T) {
	documents := h.memory.allDocuments()
	entered := map[int][]string{}
	for _, key := range []string{"ledger/a", "ledger/b", "ledger/c"} {
		var page ledgerPage
		if doc, found := documents[key]; found {
			require.NoError(t, json.Unmarshal(doc.value, &page))
		}
		for _, number := range page.Changes {
			entered[number] = append(entered[number], key)
		}
	}
	listed := map[string]int{}
	for cursor := ""; ; {
		ids, next, err := h.stores[0].Page(context.Background(), "all", 7, cursor)
		require.NoError(t, err)
		for _, id := range ids {
			listed[id]++
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	for _, a := range h.attempts {
		_, happened := documents[a.mark()]
		switch {
		case a.err == nil:
			require.True(t, happened, "change %d was acknowledged and is lost", a.number)
		case errors.Is(a.err, ErrConflict):
			require.False(t, happened, "change %d was refused and happened", a.number)
		default:
			refused, ok := errors.AsType[*problem.Error](a.err)
			require.True(t, ok, "change %d: %v", a.number, a.err)
			require.Equal(t, problem.Unavailable, refused.Kind, "change %d: %v", a.number, a.err)
			if refused.Details[0].Code != "outcome_unknown" {
				require.Equal(t, "unavailable", refused.Details[0].Code)
				require.False(t, happened, "nothing was to be written of change %d, and it happened: %v", a.number, a.err)
			}
		}
		if !happened {
			require.Empty(t, entered[a.number], "change %d happened by half", a.number)
			require.Zero(t, listed[strconv.Itoa(a.number)], "change %d happened by half", a.number)
			require.Zero(t, h.memory.published[a.event()], "there is an event of change %d, which did not happen", a.number)
			continue
		}
		slices.Sort(a.ledgers)
		require.Equal(t, append([]string(nil), a.ledgers...), entered[a.number], "change %d happened by half, or twice", a.number)
		require.Equal(t, 1, listed[strconv.Itoa(a.number)], "change %d in the index", a.number)
		require.NotZero(t, h.memory.published[a.event()], "the event of change %d was not published", a.number)
	}
}

// Whatever the store and the broker do, and whenever a process dies: what Commit acknowledged has happened, what it
// refused has not (as a conflict, or as unavailable), nothing happened by half, and every event of what happened is published.
func TestCommit_KeepsItsGuaranteesUnderFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // time passes by itself
		undated := struct{ testing.TB }{t} // rapid would ask for the test's deadline, which is of no use in here
		rapid.Check(undated, func(t *rapid.T) {
			h := &household{memory: newMemory()}
			for replica := range h.stores {
				h.open(t, replica)
			}
			defer func() { // else the bubble waits for them
				for _, s := range h.stores {
					select {
					case <-s.committer.closing:
					default:
						abandon(s)
					}
				}
			}()
			for range rapid.IntRange(1, 8).Draw(t, "rounds") {
				h.commitSome(t)
			}
			h.memory.meetNoMore()
			time.Sleep(5 * time.Second) // what is late comes; a lease, for what the dead have left; the pauses of the publishers
			h.check(t)

			for _, s := range h.stores {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				err := s.Close(ctx)
				cancel()
				require.NoError(t, err)
			}
			for key, doc := range h.memory.allDocuments() {
				if strings.HasPrefix(key, "journal/") && strings.Count(key, "/") == 2 {
					var entry entryDocument
					require.NoError(t, json.Unmarshal(doc.value, &entry))
					require.True(t, entry.Fence && len(entry.Events) == 0, "an entry of the journal is left: %s", key)
				}
			}
		})
	})
}

// paging is somebody who reads an index, page by page.
type paging struct {
	limit  int
	cursor string
	begun  bool
	wants  []string // what was there when it began and was not shown yet, newest first
}

// However long the index grows meanwhile, and whatever is removed and compacted, a list that is read to its end shows each entry
// that was there at its beginning and is not removed, once, newest first, and none that came later.
func TestPage_ShowsEachEntryOnceWhateverIsAppendedMeanwhile(t *testing.T) {
	m := newMemory()
	s, err := Open(t.Context(), m, Options{Service: "tested", Instance: "one", Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		index := fmt.Sprintf("index-%d", run)
		var entries []string // oldest first
		var readers []*paging
		deleted := map[string]bool{}
		alive := func(ids []string) (left []string) {
			for _, id := range ids {
				if !deleted[id] {
					left = append(left, id)
				}
			}
			return left
		}
		compactor := NewCompactor(s, index, func(id string) string { return index + "/" + id }, func(*thing) bool { return false })
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				var change Change
				for range rapid.SampledFrom([]int{1, 2, 30, pageLength - 1, pageLength, pageLength + 1, 2*pageLength + 7}).Draw(t, "entries") {
					id := fmt.Sprintf("%06d", len(entries)) // sorts by age, as a UUIDv7 does
					entries = append(entries, id)
					change.Append(index, id)
					change.Insert(index+"/"+id, thing{1, id})
				}
				require.NoError(t, s.Commit(context.Background(), &change))
			},
			"delete": func(t *rapid.T) {
				if len(entries) == 0 {
					return
				}
				from := rapid.IntRange(0, len(entries)-1).Draw(t, "from")
				most := rapid.SampledFrom([]int{1, 3, pageLength, 3 * pageLength}).Draw(t, "most")
				var ops []*client.StateOperation
				for _, id := range entries[from:min(len(entries), from+most)] {
					deleted[id] = true
					ops = append(ops, removal(index+"/"+id))
				}
				require.NoError(t, m.execute(ops))
			},
			"compact": func(t *rapid.T) {
				_, err := compactor.pass(context.Background(), rapid.SampledFrom([]int{10, 10 * pageLength, 1 << 30}).Draw(t, "enough"))
				require.NoError(t, err)
			},
			"begin to read": func(t *rapid.T) {
				limit := rapid.SampledFrom([]int{1, 3, 50, pageLength, 3 * pageLength}).Draw(t, "limit")
				readers = append(readers, &paging{limit: limit})
			},
			"read on": func(t *rapid.T) {
				if len(readers) == 0 {
					return
				}
				at := rapid.IntRange(0, len(readers)-1).Draw(t, "reader")
				r := readers[at]
				if !r.begun {
					r.wants, r.begun = slices.Clone(entries), true
					slices.Reverse(r.wants)
				}
				ids, next, err := s.Page(context.Background(), index, r.limit, r.cursor)
				require.NoError(t, err)
				require.LessOrEqual(t, len(ids), r.limit)
				want, got := alive(r.wants), alive(ids)
				require.LessOrEqual(t, len(got), len(want))
				require.True(t, slices.Equal(want[:len(got)], got), "read %v, want %v", got, want)
				r.wants = want[len(got):]
				if r.cursor = next; next == "" {
					require.Empty(t, r.wants)
					readers = slices.Delete(readers, at, at+1)
					return
				}
				if len(got) < len(want) {
					require.Len(t, ids, r.limit)
				}
				place, err := parseCursor(next)
				require.NoError(t, err)
				require.Equal(t, next, place.String())
			},
		})
	})
}
