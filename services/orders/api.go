package main

import (
	"cmp"
	"context"
	"strings"

	"github.com/gofiber/fiber/v2"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/idempotency"
	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/rest"
	"boxoffice/services/internal/state"
)

// api is this service's REST API. Every request is a signed-in user's, except that for the keys of passes.
type api struct {
	store *store
	codes *passCodes
}

func (a *api) register(app *fiber.App, signedIn fiber.Handler) {
	app.Get("/.well-known/passes/jwks.json", a.passKeySet)
	app.Post("/api/shows/:showId/checkins", signedIn, a.checkIn)
	orders := app.Group("/api/orders", signedIn)
	orders.Post("/", a.reserve)
	orders.Get("/", a.list)
	orders.Get("/unsettled", a.unsettled)
	orders.Get("/sales", a.sales)
	orders.Get("/:id", a.get)
	orders.Get("/:id/pass", a.pass)
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
	UsedAt    clock.Timestamp `json:"usedAt,omitzero"`
	ResoldAt  clock.Timestamp `json:"resoldAt,omitzero"`
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
	return ticketResponse{ID: t.ID, Title: t.Title, Price: t.Price, Currency: t.Currency, ShowID: t.ShowID, Seat: placeResponseOf(t.Place)}
}

func placeResponseOf(p *Place) *placeResponse {
	if p == nil {
		return nil
	}
	return &placeResponse{p.Section, p.Row, p.Number}
}

func responseOf(o Order) orderResponse {
	return orderResponse{
		ID:        o.ID,
		UserID:    o.UserID,
		Status:    o.Status,
		Reason:    o.Reason,
		ExpiresAt: clock.Stamp(o.ExpiresAt),
		Ticket:    ticketResponseOf(o.Ticket),
		UsedAt:    clock.Stamp(o.UsedAt),
		ResoldAt:  clock.Stamp(o.ResoldAt),
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
	return rest.SendPage(c, orders, next, responseOf)
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

// ownPassResponse is a pass as its holder gets it.
type ownPassResponse struct {
	passResponse
	Code     string          `json:"code"`
	Status   string          `json:"status"` // "valid" or "used"
	StartsAt clock.Timestamp `json:"startsAt"`
}

// pass responds with the pass of an order: in JSON, as a picture, or with the address of the page that shows it.
func (a *api) pass(c *fiber.Ctx) error {
	mediaType, err := formOf(c, passForms)
	if err != nil {
		return err
	}
	order, err := rest.PathID[id.Order](c, "id")
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderCacheControl, "private, no-store")
	c.Vary(fiber.HeaderAccept)
	if mediaType == fiber.MIMETextHTML { // the page asks for the pass itself
		return c.Redirect("/orders/"+string(order)+"/pass", fiber.StatusSeeOther)
	}
	found, seat, err := a.store.OrderAndSeat(rest.Context(c), order, identity.UserIDOf(c))
	if err == nil {
		err = found.CheckPass()
	}
	if err != nil {
		return err
	}
	code, err := a.codes.Sign(found.PassClaims())
	if err != nil {
		return err
	}
	if mediaType == pictureType {
		picture, err := passPicture(code, found.Ticket)
		if err != nil {
			return err
		}
		c.Set(fiber.HeaderContentType, pictureType)
		return c.Send(picture)
	}
	response := ownPassResponse{passResponseOf(found), code, "valid", clock.Stamp(seat.SalesEndAt)}
	if found.isUsed() {
		response.Status = "used"
	}
	return c.JSON(response)
}

// form is a media type in which the API serves something. Its name is the value of the parameter format; "" if only the header Accept can ask
// for it.
type form struct{ name, mediaType string }

// passForms are the forms of a pass. In a browser it has a page.
var passForms = []form{{"json", fiber.MIMEApplicationJSON}, {"svg", pictureType}, {"", fiber.MIMETextHTML}}

// formOf is the media type that a client wants: that of the parameter format, else of the header Accept. Without either it is the first.
func formOf(c *fiber.Ctx, forms []form) (string, error) {
	asked := c.Context().QueryArgs().Has("format")
	var names, mediaTypes []string
	for _, one := range forms {
		if asked && one.name != "" && one.name == c.Query("format") {
			return one.mediaType, nil
		}
		if one.name != "" {
			names = append(names, one.name)
		}
		mediaTypes = append(mediaTypes, one.mediaType)
	}
	if asked {
		return "", problem.New(problem.Invalid, "invalid", "Format must be %s.", strings.Join(names, " or ")).WithField("format")
	}
	return cmp.Or(c.Accepts(mediaTypes...), mediaTypes[0]), nil
}

type checkInRequest struct {
	Code string `json:"code" validate:"required,max=2000"`
}

// passResponse is a pass as the people at the door get it. UsedAt is absent until it is used.
type passResponse struct {
	OrderID  id.Order        `json:"orderId"`
	TicketID id.Ticket       `json:"ticketId"`
	ShowID   id.Show         `json:"showId"`
	Title    string          `json:"title"`
	Seat     *placeResponse  `json:"seat,omitempty"`
	UsedAt   clock.Timestamp `json:"usedAt,omitzero"`
}

func passResponseOf(o Order) passResponse {
	return passResponse{
		OrderID: o.ID, TicketID: o.Ticket.ID, ShowID: o.Ticket.ShowID, Title: o.Ticket.Title, Seat: placeResponseOf(o.Ticket.Place), UsedAt: clock.Stamp(o.UsedAt),
	}
}

func (a *api) checkIn(c *fiber.Ctx) error {
	show, err := rest.PathID[id.Show](c, "showId")
	if err != nil {
		return err
	}
	request, err := rest.Decode[checkInRequest](c)
	if err != nil {
		return err
	}
	pass, err := a.codes.Verify(request.Code)
	if err != nil {
		return err
	}
	if pass.Show != show {
		return errWrongShow
	}
	owner := identity.UserIDOf(c)
	return idempotency.Do(c, a.store.documents, owner, func(ctx context.Context) (*state.Change, idempotency.Response, error) {
		change, order, err := a.store.UsePass(ctx, pass, owner)
		return change, idempotency.Response{Status: fiber.StatusOK, Body: passResponseOf(order)}, err
	})
}

// passKeySet responds with the public keys that verify the codes of passes.
func (a *api) passKeySet(c *fiber.Ctx) error {
	c.Set(fiber.HeaderCacheControl, "public, max-age=60")
	return c.JSON(a.codes.KeySet())
}
