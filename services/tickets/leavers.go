package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"boxoffice/services/internal/state"
)

// When a seller deletes the account, the listings are withdrawn. There is no list of a seller's own tickets, so all tickets are
// looked through; that is rare, and is done for all such sellers together, in the background. It is done again until no token of
// theirs can have listed another ticket. What is left to do is a document, so a process that dies leaves nothing undone.

// Leavers are the sellers whose listings are being withdrawn.
type Leavers struct {
	Schema  int      `json:"schema"`
	Sellers []Leaver `json:"sellers"`
}

// Leaver is a seller whose account was deleted, as was heard at that time.
type Leaver struct {
	UserID string    `json:"userId"`
	At     time.Time `json:"at"`
}

const (
	leaversKey = "leavers"
	// leavingTime is for how long, after an account was deleted, a token of its user may still be accepted somewhere: every
	// service refuses it within a minute.
	leavingTime = 2 * time.Minute
	// leaversPeriod is how often a process looks whether listings are to be withdrawn.
	leaversPeriod = 30 * time.Second
	// leaversPause is for how long a process rests after it has looked, at least, and leaversShare how many times as long as it
	// took: whoever deletes one account after the other must not keep it looking through all tickets for ever.
	leaversPause = 2 * time.Second
	leaversShare = 20
	// listingsAtOnce is how many tickets are read at once.
	listingsAtOnce = 200
)

// Add adds a seller, unless they are there.
func (l *Leavers) Add(seller string, now time.Time) (changed bool) {
	if slices.ContainsFunc(l.Sellers, func(s Leaver) bool { return s.UserID == seller }) {
		return false
	}
	l.Schema = 1
	l.Sellers = append(l.Sellers, Leaver{seller, now})
	return true
}

// Finish removes the sellers of whom nothing can be left after all tickets have been looked through since a time.
func (l *Leavers) Finish(since time.Time) (changed bool) {
	before := len(l.Sellers)
	l.Sellers = slices.DeleteFunc(l.Sellers, func(s Leaver) bool { return since.Sub(s.At) > leavingTime })
	return len(l.Sellers) < before
}

// DeleteSeller has the listings of a seller withdrawn, whose account was deleted.
func (l *listings) DeleteSeller(ctx context.Context, seller string) error {
	if err := l.changeLeavers(ctx, func(all *Leavers) bool { return all.Add(seller, now()) }); err != nil {
		return err
	}
	select {
	case l.leaving <- struct{}{}:
	default:
	}
	return nil
}

func (l *listings) changeLeavers(ctx context.Context, change func(*Leavers) (changed bool)) error {
	return state.Retry(ctx, func(ctx context.Context) error {
		doc, err := state.Get[Leavers](ctx, l.store, leaversKey)
		if err != nil && !errors.Is(err, state.ErrNotFound) {
			return err
		}
		if !change(&doc.Value) {
			return nil
		}
		var c state.Change
		c.Put(doc.Key, doc.ETag, doc.Value)
		return l.store.Commit(ctx, &c)
	})
}

// RunWithdrawals withdraws listings of sellers whose accounts were deleted, until ctx ends.
func (l *listings) RunWithdrawals(ctx context.Context) error {
	withRests(ctx, l.leaving, func() {
		if withdrawn, err := l.Withdraw(ctx); err != nil && ctx.Err() == nil {
			l.log.Warn("could not withdraw the listings of deleted accounts; trying again", "error", err)
		} else if withdrawn > 0 {
			l.log.Info("withdrew listings of deleted accounts", "tickets", withdrawn)
		}
	})
	return nil
}

// withRests calls pass, again once a leaversPeriod, or sooner when wake says so, until ctx ends. Between two passes it rests; what
// wakes it meanwhile leads to one pass after the rest.
func withRests(ctx context.Context, wake <-chan struct{}, pass func()) {
	for {
		began := time.Now()
		pass()
		rest := time.After(max(leaversPause, leaversShare*time.Since(began)))
		period := time.After(leaversPeriod)
		select {
		case <-rest:
		case <-ctx.Done():
			return
		}
		select {
		case <-wake:
		case <-period:
		case <-ctx.Done():
			return
		}
	}
}

// Withdraw looks through all tickets, if some are to be withdrawn, and returns how many were. Several processes may do so at
// once.
func (l *listings) Withdraw(ctx context.Context) (withdrawn int, err error) {
	leavers, err := state.Get[Leavers](ctx, l.store, leaversKey)
	if errors.Is(err, state.ErrNotFound) || err == nil && len(leavers.Value.Sellers) == 0 {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	since := now()
	leaves := map[string]bool{}
	for _, leaver := range leavers.Value.Sellers {
		leaves[leaver.UserID] = true
	}
	for cursor, more := "", true; more; more = cursor != "" {
		var some []Ticket
		some, cursor, err = state.List(ctx, l.store, allTickets, listingsAtOnce, cursor, ticketKey, func(t Ticket) bool { return leaves[t.UserID] && !t.Deleted && !t.Withdrawn && !t.Ending })
		if err != nil {
			return withdrawn, err
		}
		for _, ticket := range some {
			if _, err := l.decide(ctx, ticket.ID, func(t *Ticket) (bool, error) { return t.Withdraw(now()), nil }); err != nil {
				return withdrawn, err
			}
			withdrawn++
		}
	}
	return withdrawn, l.changeLeavers(ctx, func(all *Leavers) bool { return all.Finish(since) })
}
