package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	runtime "github.com/dapr/dapr/pkg/proto/runtime/v1"
	"github.com/dapr/go-sdk/actor"
	"github.com/dapr/go-sdk/client"
	"github.com/google/uuid"

	"boxoffice/services/internal/problem"
)

const (
	// actorType is the Dapr actor type: one actor a slot, which has one reminder.
	actorType = "OrderExpiration"
	reminder  = "expire"
	// firingTime bounds the work of one firing; a reminder that could not do it fires again.
	firingTime = 10 * time.Second
	// earlyTime is how long before its slot's end a reminder may fire: by as much may clocks differ.
	earlyTime = 2 * time.Second

	// registrationTime bounds one registration, registrationPause is the time until a failed one is tried again, and
	// registrationsAtOnce bounds those under way.
	registrationTime    = 5 * time.Second
	registrationPause   = time.Second
	registrationsAtOnce = 8
)

// reminders registers and removes the slots' reminders. They live in Dapr's scheduler, which keeps them over restarts
// of everything. Nothing is lost without them: what they miss is published by the ticker.
type reminders struct {
	dapr   client.Client
	log    *slog.Logger
	period time.Duration // how often one fires until its slot is published

	mu      sync.Mutex
	pending map[Slot]bool // have no reminder yet
	wake    chan struct{} // holds a token while there may be pending ones
}

func newReminders(dapr client.Client, log *slog.Logger, period time.Duration) *reminders {
	return &reminders{dapr: dapr, log: log, period: period, pending: map[Slot]bool{}, wake: make(chan struct{}, 1)}
}

// Want has the slot's reminder registered soon. It does not wait for the scheduler: the orders of an event are safe
// once they are stored, and a scheduler that is away must not hold up deliveries.
func (r *reminders) Want(slot Slot) {
	r.mu.Lock()
	r.pending[slot] = true
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run registers reminders until ctx ends. What fails is tried again until the slot is over.
func (r *reminders) Run(ctx context.Context) error {
	for {
		select {
		case <-r.wake:
		case <-ctx.Done():
			return nil
		}
		for failed := r.registerAll(ctx); failed; failed = r.registerAll(ctx) {
			select {
			case <-time.After(registrationPause):
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// registerAll tries each pending registration once, and says whether any is still pending.
func (r *reminders) registerAll(ctx context.Context) (failed bool) {
	r.mu.Lock()
	all := r.pending
	r.pending = map[Slot]bool{}
	r.mu.Unlock()
	var registering sync.WaitGroup
	places := make(chan struct{}, registrationsAtOnce)
	for slot := range all {
		if slot.IsOver(time.Now()) {
			continue // the ticker has it by now
		}
		places <- struct{}{}
		registering.Go(func() {
			defer func() { <-places }()
			if err := r.register(ctx, slot); err != nil {
				r.log.Warn("could not register a reminder; trying again until its slot is over", "slot", slot.String(), "error", err)
				r.mu.Lock()
				defer r.mu.Unlock()
				r.pending[slot], failed = true, true
			}
		})
	}
	registering.Wait()
	return failed
}

// register makes the slot's reminder. Doing it twice is doing it once.
func (r *reminders) register(ctx context.Context, slot Slot) error {
	ctx, cancel := context.WithTimeout(ctx, registrationTime)
	defer cancel()
	return r.dapr.RegisterActorReminder(ctx, &client.RegisterActorReminderRequest{
		ActorType: actorType,
		ActorID:   slot.String(),
		Name:      reminder,
		DueTime:   slot.Due(time.Now()).String(),
		Period:    r.period.String(),
	})
}

// end removes an actor's reminder, if there is one.
func (r *reminders) end(ctx context.Context, actorID string) error {
	err := r.dapr.UnregisterActorReminder(ctx, &client.UnregisterActorReminderRequest{
		ActorType: actorType,
		ActorID:   actorID,
		Name:      reminder,
	})
	if err != nil {
		return problem.New(problem.Unavailable, "Reminders cannot be changed at the moment.").
			Because(fmt.Errorf("unregister the reminder of actor %s: %w", actorID, err))
	}
	return nil
}

// canRegister says whether the scheduler takes changes, by one that changes nothing: no slot is this actor.
func (r *reminders) canRegister(ctx context.Context) error { return r.end(ctx, "nobody") }

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

// OrderExpiration is the actor of one slot. It is exported because the go-sdk calls actors by reflection and refuses a
// type that is not.
type OrderExpiration struct {
	actor.ServerImplBaseCtx
	calendar  *calendar
	reminders *reminders
}

// Type implements actor.ServerContext.
func (*OrderExpiration) Type() string { return actorType }

// ReminderCall implements actor.ReminderCallee. It cannot return an error; what fails is done by the next firing.
func (a *OrderExpiration) ReminderCall(_ string, body []byte, _, _ string) {
	log := a.reminders.log.With("actor", a.ID())
	ctx, cancel := context.WithTimeout(context.Background(), firingTime)
	defer cancel()
	orders, err := a.fire(ctx, body)
	if err != nil {
		log.Warn("a reminder could not be served; it repeats", "error", err)
		return
	}
	if err := a.reminders.end(ctx, a.ID()); err != nil {
		log.Warn("a reminder could not be removed; it repeats", "error", err)
		return
	}
	log.Info("reminder served", "orders", orders)
}

// fire publishes the actor's slot and returns how many orders that were. The actor of a single order, which releases
// before the slots made, puts that order into a slot.
func (a *OrderExpiration) fire(ctx context.Context, body []byte) (orders int, err error) {
	if slot, err := parseSlot(a.ID()); err == nil {
		early := slot.Due(time.Now())
		if early > earlyTime {
			return 0, fmt.Errorf("it fired %s before its slot is over", early)
		}
		time.Sleep(early) // what is read before the end may not be all
		return a.calendar.Publish(ctx, slot)
	}
	if _, err := uuid.Parse(a.ID()); err != nil {
		return 0, fmt.Errorf("the actor is neither a slot nor an order: %w", err)
	}
	deadline, err := parseDeadline(body)
	if err != nil {
		return 0, err
	}
	return 1, a.calendar.Add(ctx, Expiring{ID: a.ID(), ExpiresAt: deadline.ExpiresAt})
}
