package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	runtime "github.com/dapr/dapr/pkg/proto/runtime/v1"
	"github.com/dapr/go-sdk/actor"
	"github.com/dapr/go-sdk/client"
	"golang.org/x/sync/errgroup"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
)

const (
	// actorType is the Dapr actor type. There is one actor a slot, with one reminder.
	actorType    = "OrderExpiration"
	reminderName = "expire"
	// firingTime limits the work of one firing. A reminder whose work failed fires again.
	firingTime = 10 * time.Second
	// earlyTime is how long before its slot's end a reminder may fire, because clocks differ.
	earlyTime = 2 * time.Second

	// registrationTime limits one registration; a failed one is retried after registrationPause.
	registrationTime    = 5 * time.Second
	registrationPause   = time.Second
	registrationsAtOnce = 8
)

// reminders registers and removes the slots' reminders. Dapr's scheduler stores them, so they survive restarts. No order is lost
// without them: the ticker publishes the slots whose reminder does not fire.
type reminders struct {
	dapr   client.Client
	clock  clock.Clock
	log    *slog.Logger
	period time.Duration // how often a reminder fires until its slot is published

	mu           sync.Mutex
	unregistered map[Slot]bool
	wake         chan struct{} // has a token while there may be unregistered ones
}

func newReminders(dapr client.Client, clock clock.Clock, log *slog.Logger, period time.Duration) *reminders {
	return &reminders{dapr: dapr, clock: clock, log: log, period: period, unregistered: map[Slot]bool{}, wake: make(chan struct{}, 1)}
}

// Add has the slot's reminder registered soon. It does not wait for the scheduler: the orders of an event are stored already, and
// a scheduler that is down must not delay deliveries.
func (r *reminders) Add(slot Slot) {
	r.mu.Lock()
	r.unregistered[slot] = true
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run registers reminders until ctx ends. It retries a failed registration until its slot has ended.
func (r *reminders) Run(ctx context.Context) error {
	for {
		select {
		case <-r.wake:
		case <-ctx.Done():
			return nil
		}
		_, _ = backoff.Retry(ctx, func() (struct{}, error) { return struct{}{}, r.registerAll(ctx) },
			backoff.WithBackOff(backoff.NewConstantBackOff(registrationPause)), backoff.WithMaxElapsedTime(0)) // fails if ctx ends
	}
}

// registerAll tries each registration once. It returns an error if one failed, which is registered by the next call.
func (r *reminders) registerAll(ctx context.Context) error {
	r.mu.Lock()
	slots := r.unregistered
	r.unregistered = map[Slot]bool{}
	r.mu.Unlock()
	var registering errgroup.Group
	registering.SetLimit(registrationsAtOnce)
	for slot := range slots {
		if slot.HasEnded(r.clock()) {
			continue // the ticker publishes it
		}
		registering.Go(func() error {
			err := r.register(ctx, slot)
			if err != nil {
				r.log.Warn("could not register a reminder; trying again until its slot ends", "slot", slot.String(), "error", err)
				r.mu.Lock()
				defer r.mu.Unlock()
				r.unregistered[slot] = true
			}
			return err
		})
	}
	return registering.Wait()
}

// register creates the slot's reminder, or replaces it with an equal one.
func (r *reminders) register(ctx context.Context, slot Slot) error {
	ctx, cancel := context.WithTimeout(ctx, registrationTime)
	defer cancel()
	return r.dapr.RegisterActorReminder(ctx, &client.RegisterActorReminderRequest{
		ActorType: actorType,
		ActorID:   slot.String(),
		Name:      reminderName,
		DueTime:   slot.Remaining(r.clock()).String(),
		Period:    r.period.String(),
	})
}

// unregister removes an actor's reminder, if there is one.
func (r *reminders) unregister(ctx context.Context, actorID string) error {
	err := r.dapr.UnregisterActorReminder(ctx, &client.UnregisterActorReminderRequest{
		ActorType: actorType,
		ActorID:   actorID,
		Name:      reminderName,
	})
	if err != nil {
		return problem.New(problem.Unavailable, "unavailable", "Reminders cannot be changed at the moment.").
			Because(fmt.Errorf("unregister the reminder of actor %s: %w", actorID, err))
	}
	return nil
}

// canRegister tests whether the scheduler accepts changes, with one that has no effect: no slot has this actor.
func (r *reminders) canRegister(ctx context.Context) error { return r.unregister(ctx, "no-slot") }

// canFire tests whether reminders reach their actors: the sidecar needs the placement service for that.
func (r *reminders) canFire(ctx context.Context) error {
	metadata, err := r.dapr.GrpcClient().GetMetadata(ctx, &runtime.GetMetadataRequest{})
	if err != nil {
		return err
	}
	if !metadata.GetActorRuntime().GetHostReady() {
		return problem.New(problem.Unavailable, "unavailable", "Reminders do not fire at the moment: the sidecar finds no placement service.")
	}
	return nil
}

// OrderExpiration is the actor of one slot. It is exported because the go-sdk calls actors by reflection and refuses a type that is
// not.
type OrderExpiration struct {
	actor.ServerImplBaseCtx
	store     *store
	reminders *reminders
}

// Type implements actor.ServerContext.
func (*OrderExpiration) Type() string { return actorType }

// ReminderCall implements actor.ReminderCallee. It cannot return an error: after a failure the reminder fires again.
func (a *OrderExpiration) ReminderCall(_ string, body []byte, _, _ string) {
	log := a.reminders.log.With("actor", a.ID())
	ctx, cancel := context.WithTimeout(context.Background(), firingTime)
	defer cancel()
	orders, err := a.fire(ctx, body)
	if err != nil {
		log.Warn("could not publish the slot of a reminder; it fires again", "error", err)
		return
	}
	if err := a.reminders.unregister(ctx, a.ID()); err != nil {
		log.Warn("could not remove a reminder; it fires again", "error", err)
		return
	}
	log.Info("published the slot of a reminder", "orders", orders)
}

// fire publishes the actor's slot and returns the number of orders. An actor of an earlier release, whose id is an order's, adds that
// order to a slot.
func (a *OrderExpiration) fire(ctx context.Context, body []byte) (orders int, err error) {
	if slot, err := parseSlot(a.ID()); err == nil {
		early := slot.Remaining(a.reminders.clock())
		if early > earlyTime {
			return 0, fmt.Errorf("it fired %s before its slot's end", early)
		}
		time.Sleep(early) // before the end some orders may not be stored yet
		return a.store.Publish(ctx, slot)
	}
	order, err := id.Parse[id.Order](a.ID())
	if err != nil {
		return 0, fmt.Errorf("the actor is neither a slot nor an order: %w", err)
	}
	deadline, err := parseDeadline(body)
	if err != nil {
		return 0, err
	}
	return 1, a.store.Add(ctx, Order{ID: order, ExpiresAt: deadline.ExpiresAt})
}
