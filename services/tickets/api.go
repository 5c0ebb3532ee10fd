package main

import (
	"context"
	"errors"
	"slices"

	"github.com/gofiber/fiber/v2"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/idempotency"
	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/rest"
	"boxoffice/services/internal/state"
)

// api is this service's REST API. Everybody may read; sellers must be signed in.
type api struct{ store *store }

func (a *api) register(app *fiber.App, signedIn fiber.Handler) {
	tickets := app.Group("/api/tickets")
	tickets.Get("/", a.list)
	tickets.Get("/:id", a.get)
	tickets.Post("/", signedIn, a.create)
	tickets.Put("/:id", signedIn, a.update)
	tickets.Delete("/:id", signedIn, a.delete)
}

// ticketResponse is a ticket as clients get it.
type ticketResponse struct {
	ID        id.Ticket       `json:"id"`
	Title     string          `json:"title"`
	Price     int64           `json:"price"`
	Currency  string          `json:"currency"`
	UserID    id.User         `json:"userId"`
	Status    Status          `json:"status"`
	OrderID   id.Order        `json:"orderId,omitempty"`
	Version   int             `json:"version"`
	CreatedAt clock.Timestamp `json:"createdAt"`
	UpdatedAt clock.Timestamp `json:"updatedAt"`
}

func responseOf(t Ticket) ticketResponse {
	return ticketResponse{
		ID:        t.ID,
		Title:     t.Title,
		Price:     t.Price,
		Currency:  t.Currency,
		UserID:    t.UserID,
		Status:    t.Status,
		OrderID:   t.OrderID,
		Version:   t.Version,
		CreatedAt: clock.Stamp(t.CreatedAt),
		UpdatedAt: clock.Stamp(t.UpdatedAt),
	}
}

// offerRequest is a seller's offer. The bounds of the price are settings (Terms), in the currency's minor unit.
type offerRequest struct {
	Title string `json:"title" validate:"required,notblank,printable,max=200"`
	Price *int64 `json:"price" validate:"required"`
}

func (r offerRequest) price() *int64 { return r.Price }
func (r offerRequest) offer() Offer  { return Offer{Title: r.Title, Price: *r.Price} }

type updateRequest struct {
	offerRequest
	Version int `json:"version" validate:"omitempty,min=1"`
}

// decode is rest.Decode for a request with a price, which it checks by the terms. The problem names all that is wrong.
func decode[T interface{ price() *int64 }](c *fiber.Ctx, terms Terms) (T, error) {
	request, err := rest.Decode[T](c)
	if request.price() == nil {
		return request, err
	}
	refused := terms.CheckPrice(*request.price())
	invalid, ok := errors.AsType[*problem.Error](err)
	switch {
	case refused == nil:
		return request, err
	case err == nil:
		return request, refused
	case ok && !slices.ContainsFunc(invalid.Details, func(d problem.Detail) bool { return d.Field == "price" }):
		return request, invalid.And(refused)
	}
	return request, err
}

func (a *api) create(c *fiber.Ctx) error {
	request, err := decode[offerRequest](c, a.store.terms)
	if err != nil {
		return err
	}
	seller := identity.UserIDOf(c)
	return idempotency.Do(c, a.store.documents, seller, func(ctx context.Context) (*state.Change, idempotency.Response, error) {
		change, ticket := a.store.Create(ctx, seller, request.offer())
		return change, idempotency.Response{
			Status: fiber.StatusCreated, Location: "/api/tickets/" + string(ticket.ID), Version: ticket.Version, Body: responseOf(ticket),
		}, nil
	})
}

func (a *api) list(c *fiber.Ctx) error {
	limit, cursor, err := rest.Paging(c)
	if err != nil {
		return err
	}
	tickets, next, err := a.store.Tickets(rest.Context(c), limit, cursor)
	if err != nil {
		return err
	}
	responses := make([]ticketResponse, len(tickets))
	for i, ticket := range tickets {
		responses[i] = responseOf(ticket)
	}
	rest.NextLink(c, next)
	return c.JSON(responses)
}

func (a *api) get(c *fiber.Ctx) error {
	ticket, err := rest.PathID[id.Ticket](c, "id")
	if err != nil {
		return err
	}
	found, err := a.store.Ticket(rest.Context(c), ticket)
	if err != nil {
		return err
	}
	rest.SetETag(c, found.Version)
	return c.JSON(responseOf(found))
}

func (a *api) update(c *fiber.Ctx) error {
	ticket, err := rest.PathID[id.Ticket](c, "id")
	if err != nil {
		return err
	}
	request, err := decode[updateRequest](c, a.store.terms)
	if err != nil {
		return err
	}
	expected, err := readExpectedVersion(c, request.Version)
	if err != nil {
		return err
	}
	updated, err := a.store.Update(rest.Context(c), ticket, identity.UserIDOf(c), expected, request.offer())
	if err != nil {
		return err
	}
	rest.SetETag(c, updated.Version)
	return c.JSON(responseOf(updated))
}

func (a *api) delete(c *fiber.Ctx) error {
	ticket, err := rest.PathID[id.Ticket](c, "id")
	if err != nil {
		return err
	}
	expected, err := readExpectedVersion(c, 0)
	if err != nil {
		return err
	}
	if err := a.store.Delete(rest.Context(c), ticket, identity.UserIDOf(c), expected); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}

// readExpectedVersion reads the version on which the request is based: from the body, the If-Match header, or neither.
func readExpectedVersion(c *fiber.Ctx, inBody int) (ExpectedVersion, error) {
	inHeader, present, err := rest.IfMatch(c)
	switch {
	case err != nil:
		return 0, err
	case present && inBody != 0 && inHeader != inBody:
		return 0, problem.New(problem.Invalid, "invalid", "The version in the body and the one in If-Match differ. Send one of them.").WithField("version")
	case present:
		return ExpectedVersion(inHeader), nil
	}
	return ExpectedVersion(inBody), nil
}
