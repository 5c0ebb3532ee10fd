package main

import (
	"context"
	"encoding/json"
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
	tickets.Get("/", identity.OwnIf("seller", signedIn), a.list)
	tickets.Get("/:id", a.get)
	tickets.Post("/", signedIn, a.create)
	tickets.Put("/:id", signedIn, a.update)
	tickets.Delete("/:id", signedIn, a.delete)
}

// ticketResponse is a ticket as clients get it.
type ticketResponse struct {
	ID       id.Ticket `json:"id"`
	Title    string    `json:"title"`
	Price    int64     `json:"price"`
	Currency string    `json:"currency"`
	UserID   id.User   `json:"userId"`
	Status   Status    `json:"status"`
	OrderID  id.Order  `json:"orderId,omitempty"`
	// Absent if the ticket has no show.
	ShowID     id.Show         `json:"showId,omitempty"`
	Seat       *placeResponse  `json:"seat,omitempty"`
	FaceValue  int64           `json:"faceValue,omitempty"`
	SalesEndAt clock.Timestamp `json:"salesEndAt,omitzero"`
	// ResaleOf is the ticket that a resale sells.
	ResaleOf  id.Ticket       `json:"resaleOf,omitempty"`
	Version   int             `json:"version"`
	CreatedAt clock.Timestamp `json:"createdAt"`
	UpdatedAt clock.Timestamp `json:"updatedAt"`
}

// placeResponse is a place as clients get it.
type placeResponse struct {
	Section string `json:"section,omitempty"`
	Row     string `json:"row,omitempty"`
	Number  string `json:"number,omitempty"`
}

func responseOf(t Ticket) ticketResponse {
	response := ticketResponse{
		ID:        t.ID,
		Title:     t.Title,
		Price:     t.Price,
		Currency:  t.Currency,
		UserID:    t.UserID,
		Status:    t.Status,
		OrderID:   t.OrderID,
		ShowID:    t.ShowID,
		FaceValue: t.FaceValue,
		Version:   t.Version,
		CreatedAt: clock.Stamp(t.CreatedAt),
		UpdatedAt: clock.Stamp(t.UpdatedAt),
	}
	if t.ShowID != "" {
		response.SalesEndAt = clock.Stamp(t.SalesEndAt)
	}
	if t.ResaleOf != nil {
		response.ResaleOf = t.ResaleOf.TicketID
	}
	if p := t.Place; p != nil {
		response.Seat = &placeResponse{p.Section, p.Row, p.Number}
	}
	return response
}

// offerRequest is a seller's offer. The bounds of the price are settings (Terms), in the currency's minor unit. An empty title is the
// same as none.
type offerRequest struct {
	Title     string `json:"title" validate:"omitempty,notblank,printable,max=200"`
	Price     *int64 `json:"price" validate:"required"`
	FaceValue *int64 `json:"faceValue" validate:"omitempty,min=1,max=99999999"`
}

func (r offerRequest) price() *int64 { return r.Price }

func (r offerRequest) offer() Offer {
	offer := Offer{Title: r.Title, Price: *r.Price}
	if r.FaceValue != nil {
		offer.FaceValue = *r.FaceValue
	}
	return offer
}

// placeRequest is a place. An empty part is the same as none.
type placeRequest struct {
	Section string `json:"section" validate:"omitempty,notblank,printable,max=50"`
	Row     string `json:"row" validate:"omitempty,notblank,printable,max=50"`
	Number  string `json:"number" validate:"omitempty,notblank,printable,max=50"`
}

type listingRequest struct {
	offerRequest
	ShowID *string       `json:"showId" validate:"omitempty,uuid"`
	Seat   *placeRequest `json:"seat"`
	// ResaleOf is the ticket that is resold; then the price is the only other member.
	ResaleOf *string `json:"resaleOf" validate:"omitempty,uuid"`
}

func (r listingRequest) listing() (Listing, error) {
	listing := Listing{Offer: r.offer()}
	if r.ResaleOf != nil {
		resold, err := id.Parse[id.Ticket](*r.ResaleOf)
		if err != nil {
			return listing, errNoResoldTicket.Because(err)
		}
		listing.ResaleOf = resold
		return listing, nil
	}
	if r.ShowID == nil {
		return listing, nil
	}
	show, err := id.Parse[id.Show](*r.ShowID)
	if err != nil {
		return listing, errNoShow.Because(err)
	}
	listing.ShowID = show
	if r.Seat != nil && *r.Seat != (placeRequest{}) {
		listing.Place = &Place{Section: r.Seat.Section, Row: r.Seat.Row, Number: r.Seat.Number}
	}
	return listing, nil
}

// errShowRequired is for a seat or a face value without a show.
var errShowRequired = problem.New(problem.Invalid, "required", "Show id is required, because only a ticket for a show has a seat or a face value.").WithField("showId")

// checkListing refuses what only a listing with a show may lack or have, and what a resale takes from the ticket that it resells.
func checkListing(r listingRequest) (refusals []*problem.Error, err error) {
	if r.ResaleOf != nil {
		for _, member := range []struct {
			name  string
			given bool
		}{{"title", r.Title != ""}, {"faceValue", r.FaceValue != nil}, {"showId", r.ShowID != nil}, {"seat", r.Seat != nil}} {
			if member.given {
				refusals = append(refusals, errResaleFixed(member.name))
			}
		}
		return refusals, nil
	}
	if r.ShowID == nil && r.Title == "" {
		refusals = append(refusals, errTitleRequired)
	}
	if r.ShowID == nil && (r.Seat != nil || r.FaceValue != nil) {
		refusals = append(refusals, errShowRequired)
	}
	return refusals, nil
}

// updateRequest is a seller's change. ShowID and Seat never change; they are read because they are refused for a resale, and otherwise ignored.
type updateRequest struct {
	offerRequest
	Version int             `json:"version" validate:"omitempty,min=1"`
	ShowID  json.RawMessage `json:"showId"`
	Seat    json.RawMessage `json:"seat"`
}

// decode is rest.Decode for a request with a price, which it checks by the terms, and with what check refuses. The problem names all that is
// wrong, unless the body cannot be decoded.
func decode[T interface{ price() *int64 }](c *fiber.Ctx, terms Terms, check func(T) ([]*problem.Error, error)) (T, error) {
	request, err := rest.Decode[T](c)
	invalid, isProblem := errors.AsType[*problem.Error](err)
	if err != nil && (!isProblem || !isReadable(invalid)) {
		return request, err
	}
	refusals, err := check(request)
	if err != nil {
		return request, err
	}
	if invalid != nil {
		refusals = append(refusals, invalid)
	}
	if price := request.price(); price != nil {
		if refused := terms.CheckPrice(*price); refused != nil {
			refusals = append(refusals, refused)
		}
	}
	if len(refusals) == 0 {
		return request, nil
	}
	all := refusals[0]
	for _, refused := range refusals[1:] {
		all = all.And(refused)
	}
	return request, all
}

// isReadable reports whether a body that is refused was decoded, so that more can be wrong with it.
func isReadable(refused *problem.Error) bool {
	return refused.Kind == problem.Invalid && !slices.ContainsFunc(refused.Details, func(d problem.Detail) bool {
		return d.Code == "wrong_type" || d.Code == "not_json" || d.Code == "not_text"
	})
}

func (a *api) create(c *fiber.Ctx) error {
	request, err := decode(c, a.store.terms, checkListing)
	if err != nil {
		return err
	}
	listing, err := request.listing()
	if err != nil {
		return err
	}
	seller := identity.UserIDOf(c)
	decide := a.store.Create(seller, listing)
	return idempotency.Do(c, a.store.documents, seller, func(ctx context.Context) (*state.Change, idempotency.Response, error) {
		change, ticket, err := decide(ctx)
		return change, idempotency.Response{
			Status: fiber.StatusCreated, Location: "/api/tickets/" + string(ticket.ID), Version: ticket.Version, Body: responseOf(ticket),
		}, err
	})
}

// errNoStatus is the refusal of a filter. The gateway sends requests with it to catalogue, which has the available tickets.
var errNoStatus = problem.New(problem.Invalid, "invalid", "Status can only be available, in lower case: then the catalogue answers, at the public address. Without it, this list has tickets of every status.").WithField("status")

// list lists all tickets, or those of the caller who asks for the own ones (seller=me).
// errShowOfAll is the refusal of the tickets of a show without seller=me: no index lists them.
var errShowOfAll = problem.New(problem.Invalid, "invalid", "Only your own listings can be asked for by their show, with seller=me. For available tickets, read the catalogue.").WithField("showId")

func (a *api) list(c *fiber.Ctx) error {
	if c.Context().QueryArgs().Has("status") {
		return errNoStatus
	}
	limit, cursor, err := rest.Paging(c)
	if err != nil {
		return err
	}
	show, err := rest.QueryID[id.Show](c, "showId")
	if err != nil {
		return err
	}
	var tickets []Ticket
	var next string
	switch seller, own := identity.CallerOf(c); {
	case own:
		tickets, next, err = a.store.TicketsOf(rest.Context(c), seller.ID, show, limit, cursor)
	case show != "":
		return errShowOfAll
	default:
		tickets, next, err = a.store.Tickets(rest.Context(c), limit, cursor)
	}
	if err != nil {
		return err
	}
	return rest.SendPage(c, tickets, next, responseOf)
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
	request, err := decode(c, a.store.terms, func(r updateRequest) ([]*problem.Error, error) { return a.checkUpdate(rest.Context(c), ticket, r) })
	if err != nil {
		return err
	}
	expected, err := rest.ExpectedVersion[ExpectedVersion](c, request.Version)
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

// fixed are the members of the request that never change.
func (r updateRequest) fixed() (members []string) {
	for name, value := range map[string]json.RawMessage{"showId": r.ShowID, "seat": r.Seat} {
		if len(value) > 0 && string(value) != "null" {
			members = append(members, name)
		}
	}
	slices.Sort(members)
	return members
}

// checkUpdate refuses a change without a title of a ticket without a show, and a member of a resale that never changes, like every other wrong
// member: before the ticket's seller counts. (Ticket.Update refuses the title and the face value of a resale.)
func (a *api) checkUpdate(ctx context.Context, ticket id.Ticket, r updateRequest) (refusals []*problem.Error, err error) {
	fixed := r.fixed()
	if r.Title != "" && len(fixed) == 0 {
		return nil, nil
	}
	found, err := a.store.Ticket(ctx, ticket)
	if err != nil {
		return nil, err
	}
	if r.Title == "" && found.ShowID == "" {
		refusals = append(refusals, errTitleRequired)
	}
	if found.ResaleOf != nil {
		for _, member := range fixed {
			refusals = append(refusals, errResaleFixed(member))
		}
	}
	return refusals, nil
}

func (a *api) delete(c *fiber.Ctx) error {
	ticket, err := rest.PathID[id.Ticket](c, "id")
	if err != nil {
		return err
	}
	expected, err := rest.ExpectedVersion[ExpectedVersion](c, 0)
	if err != nil {
		return err
	}
	if err := a.store.Delete(rest.Context(c), ticket, identity.UserIDOf(c), expected); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}
