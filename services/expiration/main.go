// Command expiration is the service that keeps time: it puts orders into slots, an actor with a reminder for each, and
// publishes a slot's orders when their time is over. It has no REST API of its own. Read slot.go for the rules, store.go
// for the documents, actor.go for the reminders, ticker.go for slots whose reminder does not fire, subscriptions.go for
// the events that it handles.
package main

import (
	"context"
	"time"

	"github.com/dapr/go-sdk/actor"

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
		store, err := s.OpenStore(ctx)
		if err != nil {
			return err
		}
		r := newReminders(s.Dapr, s.Log, cfg.ReminderPeriod)
		c := newCalendar(store, s.Log, r.Want)
		// Before the first order is added: no slot may be older than the first watermark.
		if _, err := c.Watermark(ctx); err != nil {
			return err
		}
		s.HostActor(func() actor.ServerContext { return &OrderExpiration{calendar: c, reminders: r} })
		s.ReadyCheck("scheduler", r.canRegister)
		s.ReadyCheck("placement", r.canFire)
		c.subscribe(s.Events)
		s.Go("register reminders", r.Run)
		s.Go("look for slots", (&ticker{calendar: c}).Run)
		return nil
	})
}
