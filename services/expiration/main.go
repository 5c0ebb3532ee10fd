// Command expiration cancels nothing itself: it publishes which orders' reservation windows have ended. It puts each order into a
// slot of time, which is an actor with a reminder, and publishes all orders of a slot at the slot's end. It has no REST API.
//
// Read slot.go for the rules, store.go and batch.go for the documents, actor.go for the reminders, ticker.go for slots whose
// reminder does not fire, subscriptions.go for the events that it handles.
package main

import (
	"context"
	"time"

	"github.com/dapr/go-sdk/actor"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/service"
)

type config struct {
	service.Config
	// ReminderPeriod is how often a slot's reminder fires until the slot is published.
	ReminderPeriod time.Duration `env:"REMINDER_PERIOD" envDefault:"15s" validate:"min=1s,max=1h"`
}

func main() {
	var cfg config
	service.Main("expiration", &cfg, func(ctx context.Context, s *service.Service) error {
		documents, err := s.OpenStore(ctx)
		if err != nil {
			return err
		}
		reminders := newReminders(s.Dapr, clock.System, s.Log, cfg.ReminderPeriod)
		store := newStore(documents, clock.System, reminders.Add)
		// Before the first order is added: no slot may end before the first watermark.
		if _, err := store.Watermark(ctx); err != nil {
			return err
		}
		s.HostActor(func() actor.ServerContext { return &OrderExpiration{store: store, reminders: reminders} })
		s.ReadyCheck("scheduler", reminders.canRegister)
		s.ReadyCheck("placement", reminders.canFire)
		(&subscriptions{store}).register(s.Events)
		s.Go("register reminders", reminders.Run)
		s.Go("publish slots without a reminder", (&ticker{store: store, log: s.Log}).Run)
		return nil
	})
}
