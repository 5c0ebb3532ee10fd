package main

import (
	"time"

	"github.com/gofiber/fiber/v2"

	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/rest"
)

// routes are this service's REST API. Everybody may look; sellers must be signed in.
func (l *listings) routes(app *fiber.App, signedIn fiber.Handler) {
	tickets := app.Group("/api/tickets")
	tickets.Get("/", l.list)
	tickets.Get("/:id", l.show)
	tickets.Post("/", signedIn, l.create)
	tickets.Put("/:id", signedIn, l.change)
	tickets.Delete("/:id", signedIn, l.withdraw)
}

// ticketAnswer is a ticket as clients see it.
type ticketAnswer struct {
	ID        string    `json:"id"`
	Title     string    `json:"title"`
	Price     int64     `json:"price"`
	Currency  string    `json:"currency"`
	UserID    string    `json:"userId"`
	Status    Status    `json:"status"`
	OrderID   string    `json:"orderId,omitempty"`
	Version   int       `json:"version"`
	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"`
}

func answer(t Ticket) ticketAnswer {
	return ticketAnswer{t.ID, t.Title, t.Price, t.Currency, t.UserID, t.Status, t.OrderID, t.Version, t.CreatedAt, t.UpdatedAt}
}

// offerRequest is what a seller sends. Price is in the currency's minor unit; Stripe takes at most 99999999.
type offerRequest struct {
	Title string `json:"title" validate:"required,notblank,printable,max=200"`
	Price int64  `json:"price" validate:"required,min=1,max=99999999"`
}

func (r offerRequest) offer() Offer { return Offer(r) }

type changeRequest struct {
	offerRequest
	Version int `json:"version" validate:"omitempty,min=1"`
}

func (l *listings) create(c *fiber.Ctx) error {
	request, err := rest.Decode[offerRequest](c)
	if err != nil {
		return err
	}
	seller, _ := identity.UserOf(c)
	ticket, err := l.Create(rest.Context(c), seller.ID, request.offer())
	if err != nil {
		return err
	}
	c.Location("/api/tickets/" + ticket.ID)
	rest.SetETag(c, ticket.Version)
	return c.Status(fiber.StatusCreated).JSON(answer(ticket))
}

func (l *listings) list(c *fiber.Ctx) error {
	limit, cursor, err := rest.Paging(c)
	if err != nil {
		return err
	}
	tickets, next, err := l.All(rest.Context(c), limit, cursor)
	if err != nil {
		return err
	}
	answers := make([]ticketAnswer, len(tickets))
	for i, ticket := range tickets {
		answers[i] = answer(ticket)
	}
	rest.NextLink(c, next)
	return c.JSON(answers)
}

func (l *listings) show(c *fiber.Ctx) error {
	id, err := rest.PathID[string](c, "id")
	if err != nil {
		return err
	}
	ticket, err := l.Ticket(rest.Context(c), id)
	if err != nil {
		return err
	}
	rest.SetETag(c, ticket.Value.Version)
	return c.JSON(answer(ticket.Value))
}

func (l *listings) change(c *fiber.Ctx) error {
	id, err := rest.PathID[string](c, "id")
	if err != nil {
		return err
	}
	request, err := rest.Decode[changeRequest](c)
	if err != nil {
		return err
	}
	expect, err := expected(c, request.Version)
	if err != nil {
		return err
	}
	seller, _ := identity.UserOf(c)
	ticket, err := l.Change(rest.Context(c), id, seller.ID, expect, request.offer())
	if err != nil {
		return err
	}
	rest.SetETag(c, ticket.Version)
	return c.JSON(answer(ticket))
}

func (l *listings) withdraw(c *fiber.Ctx) error {
	id, err := rest.PathID[string](c, "id")
	if err != nil {
		return err
	}
	expect, err := expected(c, 0)
	if err != nil {
		return err
	}
	seller, _ := identity.UserOf(c)
	if err := l.Delete(rest.Context(c), id, seller.ID, expect); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}

// expected is the version that the caller's change was made on: from the body, the If-Match header, or neither.
func expected(c *fiber.Ctx, inBody int) (Expect, error) {
	inHeader, present, err := rest.IfMatch(c)
	switch {
	case err != nil:
		return 0, err
	case present && inBody != 0 && inHeader != inBody:
		return 0, problem.New(problem.Invalid, "The version in the body and the one in If-Match differ. Send one of them.").WithField("version")
	case present:
		return Expect(inHeader), nil
	}
	return Expect(inBody), nil
}
