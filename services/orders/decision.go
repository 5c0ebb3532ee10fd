package main

import (
	"context"
	"errors"
	"fmt"

	"boxoffice/services/internal/id"
	"boxoffice/services/internal/state"
)

// This file carries out decisions about an order: it reads the documents of a Chain, lets a rule change their values, and makes one change
// of what has become different, with the events.

// decide lets a transition change an order and its seat, and commits both with the order's event, and with what the change leads to
// for its neighbours in a chain of resales.
func (s *store) decide(ctx context.Context, order id.Order, transition func(*Chain) (changed bool, err error)) (Order, error) {
	return state.Decide(ctx, s.documents, func(ctx context.Context) (*state.Change, Order, error) {
		return s.decision(ctx, order, transition)
	})
}

// decision is one try of decide. The caller commits the change.
func (s *store) decision(ctx context.Context, order id.Order, transition func(*Chain) (changed bool, err error)) (*state.Change, Order, error) {
	docs, err := s.chainOf(ctx, order)
	if err != nil {
		return nil, Order{}, err
	}
	chain, before := docs.chain(), docs.own.order.Value
	changed, err := transition(&chain)
	if err == nil && changed {
		err = chain.Follow(before.Status, s.clock(), s.terms)
	}
	switch {
	case errors.Is(err, errNotHeld):
		return nil, Order{}, fmt.Errorf("%w: order %s and what it is decided with were read at different times", state.ErrConflict, order)
	case err != nil || !changed:
		return nil, docs.own.order.Value, err
	}
	return docs.change(ctx), docs.own.order.Value, nil
}

// holdingDocs has the documents of a Holding. Order and seat change in one transaction.
type holdingDocs struct {
	order state.Doc[Order]
	seat  state.Doc[Seat]
	read  Order // the order as it was read
}

// chainDocs has the documents of a Chain.
type chainDocs struct {
	own           holdingDocs
	origin, buyer *holdingDocs // nil: there is none
}

// chainOf reads an order with its neighbours. Most orders have none.
func (s *store) chainOf(ctx context.Context, order id.Order) (docs chainDocs, err error) {
	if docs.own.order, docs.own.seat, err = s.orderAndSeat(ctx, order); err != nil {
		return docs, err
	}
	own := docs.own.order.Value
	docs.own.read = own
	if of := own.ResaleOf; of != nil {
		if docs.origin, err = s.neighbour(ctx, of.OrderID, of.TicketID); err != nil {
			return docs, fmt.Errorf("the order that order %s resells: %w", order, err)
		}
	}
	if to := own.Transfer; to != nil {
		if docs.buyer, err = s.neighbour(ctx, to.OrderID, to.TicketID); err != nil {
			return docs, fmt.Errorf("the order that reserves the place of order %s: %w", order, err)
		}
	}
	return docs, nil
}

// neighbour reads an order whose ticket is known, with its seat.
func (s *store) neighbour(ctx context.Context, order id.Order, ticket id.Ticket) (*holdingDocs, error) {
	s.ticketOf.Add(order, ticket)
	o, seat, err := s.orderAndSeat(ctx, order)
	if errors.Is(err, errNoOrder) { // a defect: an order is never deleted
		err = fmt.Errorf("order %s does not exist", order)
	}
	return &holdingDocs{order: o, seat: seat, read: o.Value}, err
}

// chain are the values of the documents. The rules change them.
func (d *chainDocs) chain() Chain {
	c := Chain{Holding: d.own.values()}
	if d.origin != nil {
		origin := d.origin.values()
		c.Origin = &origin
	}
	if d.buyer != nil {
		buyer := d.buyer.values()
		c.Buyer = &buyer
	}
	return c
}

func (h *holdingDocs) values() Holding { return Holding{Order: &h.order.Value, Seat: &h.seat.Value} }

// change is the change of the documents that the rules have changed, with the orders' events.
func (d *chainDocs) change(ctx context.Context) *state.Change {
	change := &state.Change{}
	for _, h := range []*holdingDocs{d.buyer, &d.own, d.origin} {
		if h != nil {
			h.addTo(ctx, change)
		}
	}
	return change
}

// addTo adds to a change what has changed since the documents were read. An order whose version has not grown has no event: it was
// noted on it who reserves its place.
func (h *holdingDocs) addTo(ctx context.Context, change *state.Change) {
	if h.order.Value == h.read {
		return
	}
	change.Update(h.order.Key, h.order.ETag, h.order.Value)
	if h.order.Value.Version > h.read.Version {
		change.Update(h.seat.Key, h.seat.ETag, h.seat.Value)
		emit(ctx, change, h.order.Value)
	}
}

// orderAndSeat reads an order and its seat: with one call, if the order's ticket is in ticketOf.
func (s *store) orderAndSeat(ctx context.Context, order id.Order) (o state.Doc[Order], seat state.Doc[Seat], err error) {
	ticket, cached := s.ticketOf.Get(order)
	if !cached {
		if o, err = s.readOrder(ctx, order); err != nil {
			return o, seat, err
		}
		ticket = o.Value.Ticket.ID
		s.ticketOf.Add(order, ticket)
		seat, err = state.Get[Seat](ctx, s.documents, seatKey(ticket))
	} else {
		o, seat, err = state.GetBoth[Order, Seat](ctx, s.documents, orderKey(order), seatKey(ticket))
		if err == nil && o.ETag == "" {
			return o, seat, errNoOrder
		}
		if err == nil && seat.ETag == "" {
			err = state.ErrNotFound
		}
	}
	if err != nil {
		return o, seat, fmt.Errorf("the seat of order %s: %w", order, err)
	}
	return o, seat, nil
}
