package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"boxoffice/services/internal/id"
	"boxoffice/services/internal/service"
	"boxoffice/services/internal/state"
)

// When a seller's account is deleted, the seller's tickets are withdrawn in the background. The index of a seller's tickets may lack
// tickets of the previous release. So a pass reads all tickets, for all such sellers together. A seller's tokens are valid for some
// time more and can list another ticket; the seller is removed from the document when a later pass cannot find any.
// If a process ends, another goes on from the document.

// withdrawalsSchema is the format of the document that this release writes.
const withdrawalsSchema = 1

// withdrawals is the document of the sellers whose tickets are being withdrawn.
type withdrawals struct {
	Schema  int              `json:"schema"`
	Sellers []deletedAccount `json:"sellers"`
}

// deletedAccount is a seller, and when this service received the deletion of the account.
type deletedAccount struct {
	UserID id.User   `json:"userId"`
	At     time.Time `json:"at"`
}

// withdrawalsKey is the name that earlier releases gave the document; processes of both releases must read the same one.
const withdrawalsKey = "leavers"

const (
	// tokenTime is how long after the deletion of an account its tokens may be accepted: every service refuses them
	// within a minute.
	tokenTime = 2 * time.Minute
	// ticketsAtOnce is how many tickets are read at once.
	ticketsAtOnce = 200
)

// withdrawalPace bounds how much of the time a process reads all tickets, however many accounts are deleted one after
// the other.
var withdrawalPace = service.Pace{Period: 30 * time.Second, Pause: 2 * time.Second, Share: 20}

// Add adds a seller, if it is not there.
func (w *withdrawals) Add(seller id.User, now time.Time) (changed bool) {
	if slices.ContainsFunc(w.Sellers, func(s deletedAccount) bool { return s.UserID == seller }) {
		return false
	}
	w.Schema = withdrawalsSchema
	w.Sellers = append(w.Sellers, deletedAccount{seller, now})
	return true
}

// Finish removes the sellers whose tokens were not valid any more when a pass over all tickets began.
func (w *withdrawals) Finish(passBegan time.Time) (changed bool) {
	before := len(w.Sellers)
	w.Sellers = slices.DeleteFunc(w.Sellers, func(s deletedAccount) bool { return passBegan.Sub(s.At) > tokenTime })
	return len(w.Sellers) < before
}

// BeginWithdrawal begins the withdrawal of a seller's tickets.
func (s *store) BeginWithdrawal(ctx context.Context, seller id.User) error {
	if err := s.changeWithdrawals(ctx, func(w *withdrawals) bool { return w.Add(seller, s.clock()) }); err != nil {
		return err
	}
	select {
	case s.withdrawNow <- struct{}{}:
	default: // a pass is due already
	}
	return nil
}

func (s *store) changeWithdrawals(ctx context.Context, change func(*withdrawals) (changed bool)) error {
	_, err := state.Modify(ctx, s.documents, withdrawalsKey, func(w *withdrawals, _ *state.Change) (bool, error) { return change(w), nil })
	return err
}

// RunWithdrawals withdraws the tickets of deleted sellers until ctx ends.
func (s *store) RunWithdrawals(ctx context.Context) error {
	service.Repeat(ctx, withdrawalPace, s.withdrawNow, func() {
		if withdrawn, err := s.Withdraw(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("could not withdraw the tickets of deleted accounts; trying again", "error", err)
		} else if withdrawn > 0 {
			s.log.Info("withdrew tickets of deleted accounts", "tickets", withdrawn)
		}
	})
	return nil
}

// Withdraw makes one pass over all tickets, if there are deleted sellers, and returns how many it has withdrawn. Any
// number of processes may do so at the same time.
func (s *store) Withdraw(ctx context.Context) (withdrawn int, err error) {
	deleted, err := state.Get[withdrawals](ctx, s.documents, withdrawalsKey)
	if errors.Is(err, state.ErrNotFound) || err == nil && len(deleted.Value.Sellers) == 0 {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	began := s.clock()
	sellers := map[id.User]bool{}
	for _, seller := range deleted.Value.Sellers {
		sellers[seller.UserID] = true
	}
	for cursor, more := "", true; more; more = cursor != "" {
		var tickets []Ticket
		tickets, cursor, err = state.List(ctx, s.documents, allTickets, ticketsAtOnce, cursor, keyOfIndexed,
			func(t Ticket) bool { return t.IsOnSaleBy(sellers) })
		if err != nil {
			return withdrawn, err
		}
		for _, ticket := range tickets {
			if _, err := s.decide(ctx, ticket.ID, func(t *Ticket) (bool, error) { return t.DeleteWithAccount(s.clock()), nil }); err != nil {
				return withdrawn, err
			}
			withdrawn++
		}
	}
	return withdrawn, s.changeWithdrawals(ctx, func(w *withdrawals) bool { return w.Finish(began) })
}
