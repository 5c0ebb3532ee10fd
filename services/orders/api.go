package main

import (
	"context"

	"github.com/gofiber/fiber/v2"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/idempotency"
	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/rest"
	"boxoffice/services/internal/state"
)

// api is this service's REST API. Every request is a signed-in buyer's.
type api struct{ store *store }

func (a *api) register(app *fiber.App, signedIn fiber.Handler) {
	orders := app.Group("/api/orders", signedIn)
	orders.Post("/", a.reserve)
	orders.Get("/", a.list)
	orders.Get("/unsettled", a.unsettled)
	orders.Get("/:id", a.get)
	orders.Delete("/:id", a.cancel)
}

// orderResponse is an order as its buyer gets it.
type orderResponse struct {
	ID        id.Order        `json:"id"`
	UserID    id.User         `json:"userId"`
	Status    Status          `json:"status"`
	Reason    Reason          `json:"reason,omitempty"`
	ExpiresAt clock.Timestamp `json:"expiresAt"`
	Ticket    ticketResponse  `json:"ticket"`
	Version   int             `json:"version"`
	CreatedAt clock.Timestamp `json:"createdAt"`
	UpdatedAt clock.Timestamp `json:"updatedAt"`
}

// ticketResponse is the ticket as it was when it was reserved. The last two are absent if it has no show.
type ticketResponse struct {
	ID       id.Ticket      `json:"id"`
	Title    string         `json:"title"`
	Price    int64          `json:"price"`
	Currency string         `json:"currency"`
	ShowID   id.Show        `json:"showId,omitempty"`
	Seat     *placeResponse `json:"seat,omitempty"`
}

// placeResponse is a place as clients get it.
type placeResponse struct {
	Section string `json:"section,omitempty"`
	Row     string `json:"row,omitempty"`
	Number  string `json:"number,omitempty"`
}

func ticketResponseOf(t TicketSnapshot) ticketResponse {
	response := ticketResponse{ID: t.ID, Title: t.Title, Price: t.Price, Currency: t.Currency, ShowID: t.ShowID}
	if p := t.Place; p != nil {
		response.Seat = &placeResponse{p.Section, p.Row, p.Number}
	}
	return response
}

func responseOf(o Order) orderResponse {
	return orderResponse{
		ID:        o.ID,
		UserID:    o.UserID,
		Status:    o.Status,
		Reason:    o.Reason,
		ExpiresAt: clock.Stamp(o.ExpiresAt),
		Ticket:    ticketResponseOf(o.Ticket),
		Version:   o.Version,
		CreatedAt: clock.Stamp(o.CreatedAt),
		UpdatedAt: clock.Stamp(o.UpdatedAt),
	}
}

type reserveRequest struct {
	TicketID string `json:"ticketId" validate:"required,uuid"`
}

func (a *api) reserve(c *fiber.Ctx) error {
	request, err := rest.Decode[reserveRequest](c)
	if err != nil {
		return err
	}
	ticket, err := id.Parse[id.Ticket](request.TicketID)
	if err != nil {
		return errNoTicket.Because(err)
	}
	buyer := identity.UserIDOf(c)
	return idempotency.Do(c, a.store.documents, buyer, func(ctx context.Context) (*state.Change, idempotency.Response, error) {
		change, order, err := a.store.Reserve(ctx, ticket, buyer)
		return change, idempotency.Response{Status: fiber.StatusCreated, Location: "/api/orders/" + string(order.ID), Body: responseOf(order)}, err
	})
}

func (a *api) list(c *fiber.Ctx) error {
	limit, cursor, err := rest.Paging(c)
	if err != nil {
		return err
	}
	orders, next, err := a.store.OrdersOf(rest.Context(c), identity.UserIDOf(c), limit, cursor)
	if err != nil {
		return err
	}
	responses := make([]orderResponse, len(orders))
	for i, order := range orders {
		responses[i] = responseOf(order)
	}
	rest.NextLink(c, next)
	return c.JSON(responses)
}

// unsettledResponse is how many of the buyer's orders are unpaid, or not captured yet. Auth deletes an account only
// if there are none.
type unsettledResponse struct {
	Unsettled int `json:"unsettled"`
}

func (a *api) unsettled(c *fiber.Ctx) error {
	orders, err := a.store.Unsettled(rest.Context(c), identity.UserIDOf(c))
	if err != nil {
		return err
	}
	return c.JSON(unsettledResponse{len(orders)})
}

func (a *api) get(c *fiber.Ctx) error {
	order, err := rest.PathID[id.Order](c, "id")
	if err != nil {
		return err
	}
	found, err := a.store.OrderOfBuyer(rest.Context(c), order, identity.UserIDOf(c))
	if err != nil {
		return err
	}
	return c.JSON(responseOf(found))
}

func (a *api) cancel(c *fiber.Ctx) error {
	order, err := rest.PathID[id.Order](c, "id")
	if err != nil {
		return err
	}
	if err := a.store.CancelByBuyer(rest.Context(c), order, identity.UserIDOf(c)); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}
