package main

import (
	"context"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/idempotency"
	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/rest"
	"boxoffice/services/internal/state"
)

// routes are this service's REST API; every call of it is a signed-in buyer's.
func (b *box) routes(app *fiber.App, signedIn fiber.Handler) {
	orders := app.Group("/api/orders", signedIn)
	orders.Post("/", b.reserve)
	orders.Get("/", b.list)
	orders.Get("/unsettled", b.unsettled)
	orders.Get("/:id", b.show)
	orders.Delete("/:id", b.cancel)
}

// orderAnswer is an order as clients see it.
type orderAnswer struct {
	ID        string               `json:"id"`
	UserID    string               `json:"userId"`
	Status    Status               `json:"status"`
	Reason    Reason               `json:"reason,omitempty"`
	ExpiresAt time.Time            `json:"expiresAt"`
	Ticket    events.OrderedTicket `json:"ticket"`
	Version   int                  `json:"version"`
	CreatedAt time.Time            `json:"createdAt"`
	UpdatedAt time.Time            `json:"updatedAt"`
}

func answer(o Order) orderAnswer {
	return orderAnswer{o.ID, o.UserID, o.Status, o.Reason, o.ExpiresAt, o.Ticket, o.Version, o.CreatedAt, o.UpdatedAt}
}

func location(o Order) string { return "/api/orders/" + o.ID }

type reserveRequest struct {
	TicketID string `json:"ticketId" validate:"required,uuid"`
}

func (b *box) reserve(c *fiber.Ctx) error {
	request, err := rest.Decode[reserveRequest](c)
	if err != nil {
		return err
	}
	buyer, _ := identity.UserOf(c)
	once, err := idempotency.Of(c, id.User(buyer.ID))
	if err != nil {
		return err
	}
	var order Order
	var before *idempotency.Response
	err = state.Retry(rest.Context(c), func(ctx context.Context) (err error) {
		if before, err = once.Find(ctx, b.store); before != nil || err != nil {
			return err
		}
		order, err = b.Reserve(ctx, strings.ToLower(request.TicketID), buyer.ID, func(change *state.Change, order Order) error {
			return once.Keep(change, idempotency.Response{Status: fiber.StatusCreated, Location: location(order), Body: answer(order)})
		})
		if problem.KindOf(err) == problem.Conflict {
			// Perhaps because of a copy of this request, since we looked.
			var unfound error
			if before, unfound = once.Find(ctx, b.store); before != nil || unfound != nil {
				return unfound
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	if before != nil {
		return before.Send(c)
	}
	c.Location(location(order))
	return c.Status(fiber.StatusCreated).JSON(answer(order))
}

func (b *box) list(c *fiber.Ctx) error {
	limit, cursor, err := rest.Paging(c)
	if err != nil {
		return err
	}
	buyer, _ := identity.UserOf(c)
	orders, next, err := b.OrdersOf(rest.Context(c), buyer.ID, limit, cursor)
	if err != nil {
		return err
	}
	answers := make([]orderAnswer, len(orders))
	for i, order := range orders {
		answers[i] = answer(order)
	}
	rest.NextLink(c, next)
	return c.JSON(answers)
}

// unsettledAnswer is how many of the caller's orders are unpaid, or paid and their money not taken yet. Until there is none,
// the account cannot be deleted (auth asks).
type unsettledAnswer struct {
	Unsettled int `json:"unsettled"`
}

func (b *box) unsettled(c *fiber.Ctx) error {
	buyer, _ := identity.UserOf(c)
	orders, err := b.Unsettled(rest.Context(c), buyer.ID)
	if err != nil {
		return err
	}
	return c.JSON(unsettledAnswer{len(orders)})
}

func (b *box) show(c *fiber.Ctx) error {
	id, err := rest.PathID[string](c, "id")
	if err != nil {
		return err
	}
	order, err := b.Order(rest.Context(c), id)
	if err != nil {
		return err
	}
	if err := belongsTo(c)(&order.Value); err != nil {
		return err
	}
	return c.JSON(answer(order.Value))
}

func (b *box) cancel(c *fiber.Ctx) error {
	id, err := rest.PathID[string](c, "id")
	if err != nil {
		return err
	}
	if err := b.Cancel(rest.Context(c), id, ByUser, belongsTo(c)); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}

// belongsTo refuses an order that is not the caller's.
func belongsTo(c *fiber.Ctx) func(*Order) error {
	buyer, _ := identity.UserOf(c)
	return func(o *Order) error {
		if o.UserID != buyer.ID {
			return errNotYours
		}
		return nil
	}
}
