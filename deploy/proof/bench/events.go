package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/broker"
)

// eventReader reads how many events of a stack are not handled yet: those in journals, those that the broker has not delivered, and
// the dead letters.
type eventReader struct {
	stack  *stack.Stack
	broker broker.Broker
	apps   []string
}

func newEventReader(s *stack.Stack, apps []string) (*eventReader, error) {
	b, err := broker.Open(s.Broker())
	return &eventReader{s, b, apps}, err
}

func (r *eventReader) close() { r.broker.Close() }

var errNotHandled = errors.New("events are not handled yet")

// waitHandled waits until every event has been handled by every service that subscribes to it, with the events that its handlers
// published.
func (r *eventReader) waitHandled(ctx context.Context) error {
	quiet, lastWhenQuiet := false, ""
	waiting := 0
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		var last string
		var err error
		if waiting, last, err = r.waiting(ctx); err != nil {
			return struct{}{}, backoff.Permanent(err)
		}
		// It must be quiet twice: a handler's events are in its journal before the handler ends.
		if waiting == 0 && quiet && last == lastWhenQuiet {
			return struct{}{}, nil
		}
		quiet, lastWhenQuiet = waiting == 0, last
		return struct{}{}, errNotHandled
	}, backoff.WithBackOff(readingPauses{&waiting}), backoff.WithMaxElapsedTime(0))
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%d events are not handled yet: %w", waiting, ctx.Err())
	}
	return err
}

// readingPauses are short if few events are waiting. Reading takes processor time that is measured, so with many events the pauses
// are long.
type readingPauses struct{ waiting *int }

func (p readingPauses) NextBackOff() time.Duration {
	if *p.waiting > 500 {
		return 100 * time.Millisecond
	}
	return 5 * time.Millisecond
}

func (readingPauses) Reset() {}

// waiting is the number of events that are not handled, counted once for each service that subscribes to them, and the place of the
// newest event.
func (r *eventReader) waiting(ctx context.Context) (waiting int, last string, err error) {
	state, err := r.broker.State(ctx)
	if err != nil {
		return 0, "", fmt.Errorf("read the broker: %w", err)
	}
	if waiting = int(state.Waiting); waiting > 0 {
		return waiting, state.Last, nil // the journals cost more to read, and do not matter yet
	}
	for _, app := range r.apps {
		err := r.metrics(ctx, app, func(s sample) {
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

// dead is the number of dead letters.
func (r *eventReader) dead(ctx context.Context) (uint64, error) {
	state, err := r.broker.State(ctx)
	return state.Dead, err
}

// metrics calls each with the samples of all replicas of a service.
func (r *eventReader) metrics(ctx context.Context, app string, each func(sample)) error {
	for _, replica := range r.stack.Replicas(app) {
		if err := scrape(ctx, r.stack.AppMetrics(replica), each); err != nil {
			return fmt.Errorf("metrics of %s: %w", replica, err)
		}
	}
	return nil
}
