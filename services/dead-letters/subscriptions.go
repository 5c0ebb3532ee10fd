package main

import (
	"context"
	"fmt"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/service"
)

// subscribe takes what comes on the topics of dead letters. Which topics these are says components/events/subscriptions.yaml.
// A letter is acknowledged when it is in the store.
func subscribe(s *service.Service, b *box, g *gauge) {
	s.Callback.Post("/letters", events.Messages(s.Log, func(ctx context.Context, topic string, message []byte) error {
		letter := newLetter(topic, message, now())
		fresh, err := b.keep(ctx, letter)
		if err != nil {
			return fmt.Errorf("keep letter %s: %w", letter.ID, err)
		}
		if fresh {
			s.Log.Info("a letter came in", "letter", letter.ID, "of", letter.Service, "event", letter.EventID, "code", letter.Code)
			g.count()
		}
		return nil
	}))
}
