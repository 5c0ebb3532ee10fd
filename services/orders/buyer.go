package main

import (
	"slices"
	"time"

	"boxoffice/services/internal/id"
	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/problem"
)

// buyerSchema is the format of the buyers that this release writes.
const buyerSchema = 1

// Buyer limits how many unpaid orders one user has. Each reservation changes the buyer's document in its own
// transaction, on the condition of its ETag. So the limit holds for reservations at the same time, in any number of
// processes.
//
// Payments and cancellations do not change the document. An entry is removed when its window is over. If the limit seems
// reached, the orders are read, and those that are not unpaid are removed (RetainUnpaid).
type Buyer struct {
	Schema  int           `json:"schema"`
	Unpaid  []UnpaidOrder `json:"unpaid,omitempty"`
	Deleted bool          `json:"deleted,omitempty"` // the account was deleted; its tokens may still be valid for a time
}

// UnpaidOrder is an order that was unpaid when it was last read.
type UnpaidOrder struct {
	OrderID   id.Order  `json:"orderId"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// IsOver reports whether the order's reservation window has ended.
func (o UnpaidOrder) IsOver(now time.Time) bool { return !now.Before(o.ExpiresAt) }

var errTooMany = problem.New(problem.Conflict, "too_many_reservations", "You have as many unpaid reservations as one person may have. Pay or cancel one of them first.").
	WithField("ticketId")

// AtLimit reports whether the buyer seems to have as many unpaid orders as the terms allow, if they have a limit.
func (b *Buyer) AtLimit(now time.Time, terms Terms) bool {
	unpaid := 0
	for _, o := range b.Unpaid {
		if !o.IsOver(now) {
			unpaid++
		}
	}
	return terms.PerUser > 0 && unpaid >= terms.PerUser
}

// RetainUnpaid removes the entries of all orders but these.
func (b *Buyer) RetainUnpaid(unpaid map[id.Order]bool) {
	b.Unpaid = slices.DeleteFunc(b.Unpaid, func(o UnpaidOrder) bool { return !unpaid[o.OrderID] })
}

// AddOrder adds the buyer's new order, if the terms have a limit. It refuses one too many (errTooMany) and a deleted account
// (identity.ErrAccountDeleted).
func (b *Buyer) AddOrder(order Order, now time.Time, terms Terms) error {
	if b.Deleted {
		return identity.ErrAccountDeleted
	}
	if b.AtLimit(now, terms) {
		return errTooMany
	}
	b.Schema = buyerSchema
	if terms.PerUser == 0 {
		return nil
	}
	b.Unpaid = slices.DeleteFunc(b.Unpaid, func(o UnpaidOrder) bool { return o.IsOver(now) })
	b.Unpaid = append(b.Unpaid, UnpaidOrder{order.ID, order.ExpiresAt})
	return nil
}

// End is when the last of the buyer's windows ends. The setting may have been longer for an earlier order, so it need
// not be the newest order's.
func (b *Buyer) End() (end time.Time) {
	for _, o := range b.Unpaid {
		if o.ExpiresAt.After(end) {
			end = o.ExpiresAt
		}
	}
	return end
}

// Delete makes all later reservations of the buyer fail.
func (b *Buyer) Delete() (changed bool) {
	if b.Deleted {
		return false
	}
	*b = Buyer{Schema: buyerSchema, Deleted: true}
	return true
}
