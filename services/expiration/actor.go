package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	runtime "github.com/dapr/dapr/pkg/proto/runtime/v1"
	"github.com/dapr/go-sdk/actor"
	"github.com/dapr/go-sdk/client"
	"github.com/google/uuid"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/problem"
)

const (
	// actorType is the Dapr actor type: one actor an order, which has one reminder.
	actorType = "OrderExpiration"
	reminder  = "expire"
	// publishTime bounds one telling; a reminder that could not tell fires again.
	publishTime = 5 * time.Second
)

// reminders registers and removes the orders' reminders. They live in Dapr's scheduler, which keeps them over
// restarts of everything.
type reminders struct {
	dapr   client.Client
	log    *slog.Logger
	period time.Duration
}

// Set makes the order's reminder, due at expiresAt. Doing it twice is doing it once.
func (r *reminders) Set(ctx context.Context, orderID string, expiresAt time.Time) error {
	deadline := Deadline{Schema: 1, ExpiresAt: expiresAt}
	body, err := json.Marshal(deadline)
	if err != nil {
		return err
	}
	err = r.dapr.RegisterActorReminder(ctx, &client.RegisterActorReminderRequest{
		ActorType: actorType,
		ActorID:   orderID,
		Name:      reminder,
		DueTime:   deadline.Due(time.Now()).String(),
		Period:    r.period.String(),
		Data:      body,
	})
	if err != nil {
		return away(fmt.Errorf("set the reminder of order %s: %w", orderID, err))
	}
	return nil
}

// Drop removes the order's reminder, if there is one.
func (r *reminders) Drop(ctx context.Context, orderID string) error {
	err := r.dapr.UnregisterActorReminder(ctx, &client.UnregisterActorReminderRequest{
		ActorType: actorType,
		ActorID:   orderID,
		Name:      reminder,
	})
	if err != nil {
		return away(fmt.Errorf("drop the reminder of order %s: %w", orderID, err))
	}
	return nil
}

// canSet says whether the scheduler takes changes, by one that changes nothing: no order has this actor.
func (r *reminders) canSet(ctx context.Context) error { return r.Drop(ctx, "nobody") }

// canFire says whether reminders reach their actors here: for that the sidecar needs the placement service.
func (r *reminders) canFire(ctx context.Context) error {
	metadata, err := r.dapr.GrpcClient().GetMetadata(ctx, &runtime.GetMetadataRequest{})
	if err != nil {
		return err
	}
	if !metadata.GetActorRuntime().GetHostReady() {
		return problem.New(problem.Unavailable, "Reminders do not fire at the moment: the sidecar finds no placement service.")
	}
	return nil
}

// away says of every failed call that the scheduler cannot be reached: nothing in such a call is wrong, and Dapr's
// errors do not tell a scheduler that is gone from others. The event that caused it is tried until it can be.
func away(err error) error {
	return problem.New(problem.Unavailable, "Reminders cannot be changed at the moment.").Because(err)
}

// tell publishes that an order's time is over. It needs no journal: the reminder that calls it repeats until
// the order is settled, so a telling that is lost is told again.
func (r *reminders) tell(ctx context.Context, e events.ExpirationComplete) error {
	event, err := events.New(ctx, e)
	if err != nil {
		return err
	}
	event.Source = "/expiration"
	// As bytes: the go-sdk sends a struct as plain JSON whatever the content type says, and Dapr then wraps our
	// envelope into one of its own.
	body, err := json.Marshal(event)
	if err != nil {
		return err
	}
	return r.dapr.PublishEvent(ctx, events.PubSub, events.TopicOf(event.Type), body, client.PublishEventWithContentType(events.ContentType))
}

// OrderExpiration is the actor of one order. It is exported because the go-sdk calls actors by reflection and
// refuses a type that is not.
type OrderExpiration struct {
	actor.ServerImplBaseCtx
	reminders *reminders
}

func (r *reminders) newActor() actor.ServerContext { return &OrderExpiration{reminders: r} }

// Type implements actor.ServerContext.
func (*OrderExpiration) Type() string { return actorType }

// ReminderCall implements actor.ReminderCallee. It cannot return an error; what fails is done by the next call.
func (a *OrderExpiration) ReminderCall(_ string, body []byte, _, _ string) {
	log := a.reminders.log.With("order", a.ID())
	deadline, err := parseDeadline(body)
	if err != nil {
		log.Error("a reminder cannot be read; its order is not told to be over", "error", err)
		return
	}
	if _, err := uuid.Parse(a.ID()); err != nil {
		log.Error("a reminder of something that is no order", "error", err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), publishTime)
	defer cancel()
	told := deadline.Told(a.ID(), time.Now(), a.reminders.period)
	if err := a.reminders.tell(ctx, told); err != nil {
		log.Warn("could not tell that the order's time is over; the reminder repeats", "firing", told.Firing, "error", err)
		return
	}
	log.Info("told that the order's time is over", "firing", told.Firing)
}
