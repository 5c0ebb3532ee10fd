package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"boxoffice/services/internal/state"
)

// The ticker publishes what no reminder has published: reminders are lost with the scheduler's data, or were never
// registered, and a page can come after its slot was read, when clocks differ. It runs in each process, for a job of
// Dapr's would be lost with the reminders.

const (
	// tickTime is how often the slots that ended a moment ago are looked at, sweepTime how often all after the watermark.
	tickTime  = 500 * time.Millisecond
	sweepTime = 30 * time.Second
	// reminderTime is how long after a slot's end its reminder has the slot for itself.
	reminderTime = time.Second
	// momentTime is for how long after its end a slot is looked at with each tick, and lookAgainTime for how long with
	// each sweep. What a process adds later than that, by a clock that is so much behind, is lost.
	momentTime    = 10 * time.Second
	lookAgainTime = 10 * time.Minute
	// sweepLength bounds the slots that are read at once, and sweepsAtOnce how often that is done in one tick.
	sweepLength  = 256
	sweepsAtOnce = 4
)

// ticker is the work of each tick.
type ticker struct {
	calendar *calendar
	swept    time.Time // when the last sweep came to its end
	at       int64     // how far the sweep under way has come, as a watermark; 0 if none is
}

// Run ticks until ctx ends.
func (t *ticker) Run(ctx context.Context) error {
	clock := time.NewTicker(tickTime)
	defer clock.Stop()
	for {
		select {
		case <-clock.C:
		case <-ctx.Done():
			return nil
		}
		if err := t.Tick(ctx); err != nil && ctx.Err() == nil {
			t.calendar.log.Warn("could not look for slots whose reminder did not fire; trying again", "error", err)
		}
	}
}

// Tick looks at the slots that ended a moment ago and, if it is time, at a part of all others. Its work is bounded.
func (t *ticker) Tick(ctx context.Context) error {
	now := t.calendar.now()
	ended := now.Add(-reminderTime).Unix()
	if _, _, err := t.look(ctx, slotsWithin(now.Add(-momentTime).Unix(), ended)); err != nil {
		return err
	}
	if now.Sub(t.swept) < sweepTime {
		return nil
	}
	done, err := t.sweep(ctx, ended, now.Add(-lookAgainTime).Unix())
	if done {
		t.swept, t.at = now, 0
	}
	return err
}

// look publishes what is not published of slots that are over. It returns how many slots that were, and the documents of
// all of them as they were before.
func (t *ticker) look(ctx context.Context, slots []Slot) (published int, before map[Slot]state.Doc[Progress], err error) {
	left, before, err := t.calendar.Unpublished(ctx, slots)
	if err != nil {
		return 0, nil, fmt.Errorf("read slots: %w", err)
	}
	for _, slot := range left {
		orders, err := t.calendar.Publish(ctx, slot)
		if err != nil {
			return published, before, err
		}
		published++
		if orders > 0 { // or its reminder fired in this moment
			t.calendar.log.Info("published a slot whose reminder did not", "slot", slot.String(), "orders", orders)
		}
	}
	return published, before, nil
}

// sweep looks at the next slots between the watermark and ended, and forgets those that end up to old. It says whether it
// came to the end.
func (t *ticker) sweep(ctx context.Context, ended, old int64) (done bool, err error) {
	watermark, err := t.calendar.Watermark(ctx)
	if err != nil {
		return false, fmt.Errorf("read the watermark: %w", err)
	}
	t.at = max(t.at, watermark.Value.End)
	for range sweepsAtOnce {
		until := min(ended, t.at+sweepLength*int64(slotLength/time.Second)/shards)
		if until <= t.at {
			return true, nil
		}
		published, slots, err := t.look(ctx, slotsWithin(t.at, until))
		if err != nil {
			return false, err
		}
		// The documents of slots that were published just now have changed; the next sweep forgets them.
		if forget := min(until, old); published == 0 && t.at == watermark.Value.End && forget > t.at {
			err := t.calendar.Forget(ctx, watermark, forget, slots)
			if errors.Is(err, state.ErrConflict) {
				return true, nil // another process sweeps
			}
			if err != nil {
				return false, fmt.Errorf("forget slots: %w", err)
			}
			if watermark, err = t.calendar.Watermark(ctx); err != nil {
				return false, fmt.Errorf("read the watermark: %w", err)
			}
		}
		t.at = until
	}
	return false, nil
}
