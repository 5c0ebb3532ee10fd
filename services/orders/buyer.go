package main

import (
	"slices"
	"time"

	"boxoffice/services/internal/problem"
)

// Buyer is what is kept of a buyer for as long as reservations of theirs may be unpaid: it bounds how many tickets one
// person keeps from others. Each reservation changes it in its own transaction, on the condition that nobody else has
// (its ETag), so the bound holds whatever is reserved at the same time, in however many processes. Orders that are paid or
// cancelled do not touch it: an entry is removed when its time is over, or when the bound seems reached and the order turns
// out not to be unpaid any more.
type Buyer struct {
	Schema int           `json:"schema"`
	Unpaid []UnpaidOrder `json:"unpaid,omitempty"`
	// Deleted: the account was deleted. Its tokens may be good for a while.
	Deleted bool `json:"deleted,omitempty"`
}

// UnpaidOrder is one that was unpaid when it was last looked at.
type UnpaidOrder struct {
	OrderID   string    `json:"orderId"`
	ExpiresAt time.Time `json:"expiresAt"`
}

var (
	errTooMany = problem.New(problem.Conflict, "You have as many unpaid reservations as one person may have. Pay or cancel one of them first.").
			WithField("ticketId").WithCode("too_many_reservations")
	errAccountDeleted = problem.New(problem.Unauthorized, "This account was deleted.").WithCode("account_deleted")
)

// Full says whether the buyer seems to have as many unpaid reservations as they may.
func (b *Buyer) Full(now time.Time, terms Terms) bool {
	return len(b.Unpaid)-b.over(now) >= terms.PerUser
}

func (b *Buyer) over(now time.Time) (n int) {
	for _, o := range b.Unpaid {
		if !now.Before(o.ExpiresAt) {
			n++
		}
	}
	return n
}

// Keep removes the entries of orders that are not in unpaid.
func (b *Buyer) Keep(unpaid map[string]bool) {
	b.Unpaid = slices.DeleteFunc(b.Unpaid, func(o UnpaidOrder) bool { return !unpaid[o.OrderID] })
}

// Hold adds the buyer's new order, unless that is one too many (errTooMany) or the account was deleted (errAccountDeleted).
func (b *Buyer) Hold(order Order, now time.Time, terms Terms) error {
	if b.Deleted {
		return errAccountDeleted
	}
	if b.Full(now, terms) {
		return errTooMany
	}
	b.Schema = 1
	b.Unpaid = slices.DeleteFunc(b.Unpaid, func(o UnpaidOrder) bool { return !now.Before(o.ExpiresAt) })
	b.Unpaid = append(b.Unpaid, UnpaidOrder{order.ID, order.ExpiresAt})
	return nil
}

// End is when the last of the buyer's reservations is over. It is not a window away if the window was longer when an earlier
// one was made.
func (b *Buyer) End() (end time.Time) {
	for _, o := range b.Unpaid {
		if o.ExpiresAt.After(end) {
			end = o.ExpiresAt
		}
	}
	return end
}

// Delete refuses the buyer every reservation from now on.
func (b *Buyer) Delete() (changed bool) {
	if b.Deleted {
		return false
	}
	*b = Buyer{Schema: 1, Deleted: true}
	return true
}

// Unsettled says whether the account of the order's buyer may not be deleted yet: the order is unpaid, or its money is
// not taken.
func (o *Order) Unsettled() bool {
	return o.Status == Created || o.Status == Complete && !o.Captured
}
