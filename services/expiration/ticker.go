package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"boxoffice/services/internal/state"
)

// The ticker publishes slots that no reminder has published: a reminder is lost with the scheduler's data, or was never registered,
// or a page was added after its slot was read, because clocks differ. It runs in each process and not as a Dapr job, which would be
// lost together with the reminders.

const (
	// tickPeriod is how often the slots that have just ended are checked. sweepPeriod is how often all slots after the watermark are.
	tickPeriod  = 500 * time.Millisecond
	sweepPeriod = 30 * time.Second
	// reminderTime is how long after a slot's end the ticker waits for its reminder.
	reminderTime = time.Second
	// A tick checks slots up to tickAge after their end, a sweep up to sweepAge. A page that is added later, by a process whose clock
	// is that much behind, is lost.
	tickAge  = 10 * time.Second
	sweepAge = 10 * time.Minute
	// One tick does at most stepsAtOnce steps of a sweep. Each reads stepLength slots.
	stepLength  = 256
	stepsAtOnce = 4
)

// ticker is the work of each tick.
type ticker struct {
	store *store
	log   *slog.Logger
	swept time.Time // when the last sweep was complete
	at    int64     // how far the current sweep has come, as Unix time in seconds; 0: there is none
}

// Run ticks until ctx ends.
func (t *ticker) Run(ctx context.Context) error {
	ticks := time.NewTicker(tickPeriod)
	defer ticks.Stop()
	for {
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return nil
		}
		if err := t.Tick(ctx); err != nil && ctx.Err() == nil {
			t.log.Warn("could not check slots whose reminder did not fire; trying again", "error", err)
		}
	}
}

// Tick checks the slots that have just ended. When a sweep is due, it also does some steps of it.
func (t *ticker) Tick(ctx context.Context) error {
	now := t.store.clock()
	until := now.Add(-reminderTime).Unix()
	if _, _, err := t.publish(ctx, slotsWithin(now.Add(-tickAge).Unix(), until)); err != nil {
		return err
	}
	if now.Sub(t.swept) < sweepPeriod {
		return nil
	}
	complete, err := t.sweep(ctx, until, now.Add(-sweepAge).Unix())
	if complete {
		t.swept, t.at = now, 0
	}
	return err
}

// publish publishes the unpublished orders of slots that have ended. It returns how many slots had some, and the documents of all
// slots as they were before.
func (t *ticker) publish(ctx context.Context, slots []Slot) (published int, before map[Slot]state.Doc[Progress], err error) {
	unpublished, before, err := t.store.Unpublished(ctx, slots)
	if err != nil {
		return 0, nil, fmt.Errorf("read slots: %w", err)
	}
	for _, slot := range unpublished {
		orders, err := t.store.Publish(ctx, slot)
		if err != nil {
			return published, before, err
		}
		published++
		if orders > 0 { // 0: its reminder has just fired
			t.log.Info("published a slot whose reminder did not fire", "slot", slot.String(), "orders", orders)
		}
	}
	return published, before, nil
}

// sweep publishes the slots between the watermark and until, and removes those that end up to old. It returns whether the sweep is
// complete.
func (t *ticker) sweep(ctx context.Context, until, old int64) (complete bool, err error) {
	watermark, err := t.store.Watermark(ctx)
	if err != nil {
		return false, fmt.Errorf("read the watermark: %w", err)
	}
	t.at = max(t.at, watermark.Value.End)
	for range stepsAtOnce {
		end := min(until, t.at+stepLength*int64(slotLength/time.Second)/shardCount)
		if end <= t.at {
			return true, nil
		}
		published, documents, err := t.publish(ctx, slotsWithin(t.at, end))
		if err != nil {
			return false, err
		}
		// The documents of slots that were just published have changed. The next sweep removes them.
		if remove := min(end, old); published == 0 && t.at == watermark.Value.End && remove > t.at {
			err := t.store.Remove(ctx, watermark, remove, documents)
			if errors.Is(err, state.ErrConflict) {
				return true, nil // another process sweeps
			}
			if err != nil {
				return false, fmt.Errorf("remove slots: %w", err)
			}
			if watermark, err = t.store.Watermark(ctx); err != nil {
				return false, fmt.Errorf("read the watermark: %w", err)
			}
		}
		t.at = end
	}
	return false, nil
}
