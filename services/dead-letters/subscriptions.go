package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/go-chi/chi/v5"

	"boxoffice/services/internal/events"
)

// subscriptions handles the messages of the topics of dead letters, which components/events/subscriptions.yaml lists.
type subscriptions struct {
	store   *store
	waiting *gauge
	log     *slog.Logger
}

func (s *subscriptions) register(r chi.Router) {
	r.Post("/letters", events.Messages(s.log, s.deadLetter))
}

// deadLetter stores a dead letter. The message is acknowledged after the commit.
func (s *subscriptions) deadLetter(ctx context.Context, topic string, message []byte) error {
	letter := newDeadLetter(topic, message, s.store.clock())
	created, err := s.store.Create(ctx, letter)
	if err != nil {
		return fmt.Errorf("store dead letter %s: %w", letter.ID, err)
	}
	if created {
		s.log.Info("stored a dead letter", "letter", letter.ID, "of", letter.Service, "event", letter.EventID, "code", letter.Code)
		s.waiting.CountSoon()
	}
	return nil
}
