package main

import (
	"context"
	"fmt"
	"time"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/broker"
)

// eventFlow looks at how far the events of a stack have come: those that a journal still holds, those that the
// broker still holds for a service, and those that went to the dead letters.
type eventFlow struct {
	stack  *stack.Stack
	broker broker.Broker
	apps   []string
}

func watchEvents(s *stack.Stack, apps []string) (*eventFlow, error) {
	b, err := broker.Open(s.Broker())
	return &eventFlow{s, b, apps}, err
}

func (f *eventFlow) close() { f.broker.Close() }

// settled waits until every event has been handled by every service that subscribes to it, and those that were caused
// by that as well.
func (f *eventFlow) settled(ctx context.Context) error {
	quiet, quietSince := false, ""
	for {
		waiting, last, err := f.waiting(ctx)
		if err != nil {
			return err
		}
		if waiting == 0 && quiet && last == quietSince {
			return nil
		}
		quiet, quietSince = waiting == 0, last // look once more: a handler's events are in its journal before it is done
		// Looking takes processor time that is counted: the more there is to come, the less often.
		interval := 5 * time.Millisecond
		if waiting > 500 {
			interval = 100 * time.Millisecond
		}
		select {
		case <-time.After(interval):
		case <-ctx.Done():
			return fmt.Errorf("%d events are not handled yet: %w", waiting, ctx.Err())
		}
	}
}

// waiting is how many events are on their way, counted once for each service that is to have them, and the place of
// the newest one.
func (f *eventFlow) waiting(ctx context.Context) (waiting int, last string, err error) {
	state, err := f.broker.State(ctx)
	if err != nil {
		return 0, "", fmt.Errorf("look at the broker: %w", err)
	}
	if waiting = int(state.Waiting); waiting > 0 {
		return waiting, state.Last, nil // then the journals, which cost more to ask, do not matter yet
	}
	for _, app := range f.apps {
		err := f.sum(ctx, app, func(s sample) {
			if s.name == "boxoffice_journal_backlog_events" {
				waiting += int(s.value)
			}
		})
		if err != nil {
			return 0, "", err
		}
	}
	return waiting, state.Last, nil
}

// dead is how many events went to the dead letters.
func (f *eventFlow) dead(ctx context.Context) (uint64, error) {
	state, err := f.broker.State(ctx)
	return state.Dead, err
}

// sum hands out what all replicas of a service count.
func (f *eventFlow) sum(ctx context.Context, app string, each func(sample)) error {
	for _, replica := range f.stack.Replicas(app) {
		if err := scrape(ctx, f.stack.AppMetrics(replica), each); err != nil {
			return fmt.Errorf("metrics of %s: %w", replica, err)
		}
	}
	return nil
}
