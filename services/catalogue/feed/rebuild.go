package feed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"boxoffice/services/catalogue/index"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/state"
)

// This file begins the feed anew, for the command `catalogue rebuild`.

// keepReservations is how old the reservations are that a rebuild keeps. Tickets are published again with the reservation that the
// tickets service knows. Until it has handled an order's event, only the feed has that reservation.
const keepReservations = 10 * time.Minute

// Rebuild begins the feed anew, in a new epoch: every replica drops what it has. Then it appends the reservations of the last minutes, and
// the changes of what the catalogue owns itself: own calls its argument with them, some at a time. Rebuild returns how many it has appended.
// Replicas may append at the same time.
//
// If it fails, run it again. What other services own has to be published again afterwards.
func Rebuild(ctx context.Context, store *state.Store, log *slog.Logger, own func(add func([]index.Change) error) error) (appended int, err error) {
	f := New(store, nothing{}, Options{Log: log})
	before, last, err := f.empty(ctx)
	if err != nil {
		return 0, fmt.Errorf("begin the change feed anew: %w", err)
	}
	kept, err := f.recentReservations(ctx, before, last)
	if err != nil {
		return 0, fmt.Errorf("read the reservations of the last minutes: %w", err)
	}

	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- f.Run(running) }()
	defer func() {
		stop()
		err = errors.Join(err, <-ended)
	}()
	add := func(changes []index.Change) error {
		appended += len(changes)
		return f.appendAll(ctx, changes)
	}
	if err := add(kept); err != nil {
		return appended, err
	}
	return appended, own(add)
}

// empty begins a new epoch without a snapshot and without batches. It returns the manifest as it was, and the last batch.
func (f *Feed) empty(ctx context.Context) (before manifest, last uint64, err error) {
	err = state.Retry(ctx, func(ctx context.Context) error {
		end, contents, err := f.documents(ctx)
		if err != nil {
			return err
		}
		before, last = contents.Value, max(end.Value.Last, contents.Value.Until)
		now := f.now()
		m := contents.Value
		m.Schema, m.Epoch = 1, newEpoch()
		m.discard(now)
		m.First, m.Position, m.Until, m.MadeAt, m.Marks = last+1, last, last, time.Time{}, nil
		if m.Oldest == 0 {
			m.Oldest = m.First
		}
		var change state.Change
		change.Put(headKey, end.ETag, head{Schema: 1, Epoch: m.Epoch, Last: last, ID: end.Value.ID})
		change.Put(manifestKey, contents.ETag, m)
		return f.store.Commit(ctx, &change)
	})
	return before, last, err
}

// recentReservations returns the newest reservation of each ticket in the batches of the last minutes, of which last is the last. It also reads
// batches before First that are not deleted yet: those of a rebuild that did not come to its end.
func (f *Feed) recentReservations(ctx context.Context, m manifest, last uint64) ([]index.Change, error) {
	newest := map[id.Ticket]*index.Reservation{}
	oldest := max(cmp.Or(m.Oldest, m.First), 1)
	for to := last; to >= oldest; to -= min(to, firstBatches) {
		docs, err := f.batches(ctx, max(oldest, to-min(to, firstBatches)+1), to)
		if err != nil {
			return nil, err
		}
		old := false
		for _, doc := range docs {
			if doc == nil || f.now().Sub(doc.At) > keepReservations {
				old = true
				continue
			}
			for _, change := range doc.Changes {
				if r := change.Reservation; r != nil && (newest[r.TicketID] == nil || newest[r.TicketID].Sequence < r.Sequence) {
					newest[r.TicketID] = r
				}
			}
		}
		if old {
			break
		}
	}
	kept := make([]index.Change, 0, len(newest))
	for _, r := range newest {
		kept = append(kept, index.Change{Reservation: r})
	}
	return kept, nil
}

// appendAll appends changes, many at once.
func (f *Feed) appendAll(ctx context.Context, changes []index.Change) error {
	appending, ctx := errgroup.WithContext(ctx)
	appending.SetLimit(maxBatchChanges)
	for _, change := range changes {
		appending.Go(func() error { return f.Append(ctx, change) })
	}
	return appending.Wait()
}

// nothing is the model of a process that only appends.
type nothing struct{}

func (nothing) Reset()                               {}
func (nothing) Load([]index.Change)                  {}
func (nothing) Loaded(string, uint64)                {}
func (nothing) Apply(string, uint64, []index.Change) {}
func (nothing) Changes() iter.Seq[index.Change]      { return func(func(index.Change) bool) {} }
