// Command expiration is the service that keeps time: for each order it has an actor with a reminder, and tells
// when the time to pay is over. It has no documents and no REST API of its own. Read expiration.go for the
// rules, actor.go for the reminders, subscriptions.go for what it hears.
package main

import (
	"context"
	"time"

	"boxoffice/services/internal/service"
)

type config struct {
	service.Config
	// ReminderPeriod is how often an order that stays unsettled past its time is told again.
	ReminderPeriod time.Duration `env:"REMINDER_PERIOD" envDefault:"15s" validate:"min=1s,max=1h"`
}

func main() {
	var cfg config
	service.Main("expiration", &cfg, func(_ context.Context, s *service.Service) error {
		r := &reminders{dapr: s.Dapr, log: s.Log, period: cfg.ReminderPeriod}
		s.HostActor(r.newActor)
		s.ReadyCheck("scheduler", r.canSet)
		s.ReadyCheck("placement", r.canFire)
		r.subscribe(s.Events)
		return nil
	})
}
