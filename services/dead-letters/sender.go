package main

import (
	"context"
	"errors"
	"fmt"
)

// sender sends dead letters again: it commits the event, publishes it, and commits that it was published. If the process ends in
// between, the next command finishes the sending.
type sender struct {
	store   *store
	publish func(ctx context.Context, topic string, event []byte) error
}

// Send publishes a dead letter's event again, for the service that could not handle it.
func (s *sender) Send(ctx context.Context, id string) (DeadLetter, error) {
	l, err := s.store.BeginSending(ctx, id)
	if err != nil {
		return l, err
	}
	return s.finish(ctx, l)
}

// SendAll sends all dead letters that were not sent yet, and returns those that it sent. If one fails, the others are still sent.
func (s *sender) SendAll(ctx context.Context) (sent []DeadLetter, err error) {
	letters, err := s.store.All(ctx)
	if err != nil {
		return nil, err
	}
	var failures []error
	for _, l := range letters {
		if l.Status() == Sent {
			continue
		}
		if l, err = s.Send(ctx, l.ID); err != nil {
			failures = append(failures, withID(l.ID, err))
			continue
		}
		sent = append(sent, l)
	}
	return sent, errors.Join(failures...)
}

// FinishAll finishes sendings that an earlier command has begun and not finished. One that fails again keeps its status.
func (s *sender) FinishAll(ctx context.Context) error {
	letters, err := s.store.All(ctx)
	if err != nil {
		return err
	}
	for _, l := range letters {
		if l.Status() != Sending {
			continue
		}
		if _, err := s.finish(ctx, l); ctx.Err() != nil {
			return err
		}
	}
	return nil
}

func (s *sender) finish(ctx context.Context, l DeadLetter) (DeadLetter, error) {
	for _, topic := range l.RetryTopics() {
		if err := s.publish(ctx, topic, l.Begun); err != nil {
			return l, err
		}
	}
	return s.store.FinishSending(ctx, l.ID, l.Sendings)
}

// withID adds the dead letter's id to an error, and a hint if there is no such dead letter.
func withID(id string, err error) error {
	if errors.Is(err, errNoDeadLetter) {
		return fmt.Errorf("%w as %q; list shows them", err, id)
	}
	return fmt.Errorf("dead letter %s: %w", id, err)
}
