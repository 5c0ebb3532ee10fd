package main

import (
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/idempotency"
)

// boughtBy is an event of a buyer's order.
func boughtBy(buyer id.User, sequence int, becomes Status) events.Order {
	order := orderEvent("order-1", sequence, becomes)
	order.UserID = buyer
	return order
}

// soldForShow is a ticket for the show that "buyer" has bought.
func soldForShow(t *testing.T) Ticket {
	t.Helper()
	ticket := listedForShow(t)
	require.True(t, ticket.Apply(boughtBy("buyer", 2, Sold), noon))
	return ticket
}

func TestResell_TakesAllButThePriceFromTheTicket(t *testing.T) {
	ticket := soldForShow(t)
	version := ticket.Version
	resale, err := ticket.Resell("resale-1", "buyer", 4000, show(), noon.Add(time.Hour))
	require.NoError(t, err)
	require.Equal(t, Ticket{
		Schema: 3, ID: "resale-1", Title: "Front row", Price: 4000, Currency: "usd", UserID: "buyer", Status: Available, InSellerIndex: true,
		ShowID: "show-1", Place: row8(), FaceValue: 4500, SalesEndAt: evening, ResaleOf: &Resold{"ticket-1", "order-1"}, ShowOwnerID: "seller",
		Version: 1, ListedVersion: 1, CreatedAt: noon.Add(time.Hour), UpdatedAt: noon.Add(time.Hour),
	}, resale)
	require.EqualValues(t, "resale-1", ticket.ResaleID)
	require.Equal(t, 3, ticket.Schema, "the previous release cannot change it")
	require.Equal(t, version, ticket.Version)
	require.False(t, resale.HasPlace(), "the ticket keeps it")
	require.True(t, ticket.HasPlace())

	require.Equal(t, events.TicketCreated{Ticket: events.Ticket{
		ID: "resale-1", Title: "Front row", Price: 4000, Currency: "usd", UserID: "buyer", Status: "available",
		ShowID: "show-1", Seat: &events.Place{Section: "Block A", Row: "8", Number: "12"}, FaceValue: 4500, SalesEndAt: clock.Stamp(evening),
		ShowOwnerID: "seller", ResaleOf: &events.Resold{TicketID: "ticket-1", OrderID: "order-1"},
		Version: 1, CreatedAt: clock.Stamp(noon.Add(time.Hour)), UpdatedAt: clock.Stamp(noon.Add(time.Hour)),
	}}, resale.Event())

	again := boughtBy("second buyer", 1, Sold)
	again.Ticket.ID, again.ID = "resale-1", "order-2"
	require.True(t, resale.Apply(again, noon))
	next, err := resale.Resell("resale-2", "second buyer", 4500, show(), noon)
	require.NoError(t, err, "a resale can be resold")
	require.Equal(t, &Resold{"resale-1", "order-2"}, next.ResaleOf)
	require.EqualValues(t, "seller", next.ShowOwnerID)
}

func TestResell_Refusals(t *testing.T) {
	stamp := clock.Stamp(noon)
	cases := []struct {
		name   string
		seller id.User
		of     func(t *testing.T) Ticket
		change func(*Show)
		now    time.Time
		err    error
	}{
		{name: "the buyer", err: nil},
		{name: "at the last moment", now: evening.Add(-time.Millisecond), err: nil},
		{name: "somebody else", seller: "other", err: errNotPassHolder},
		{name: "the first seller", seller: "seller", err: errNotPassHolder},
		{name: "available", of: listedForShow, err: errNotPassHolder},
		{name: "reserved by the seller", of: func(t *testing.T) Ticket {
			ticket := listedForShow(t)
			ticket.Apply(boughtBy("buyer", 1, Reserved), noon)
			return ticket
		}, err: errSaleNotYetKnown},
		{name: "reserved by somebody else", seller: "other", of: func(t *testing.T) Ticket {
			ticket := listedForShow(t)
			ticket.Apply(boughtBy("buyer", 1, Reserved), noon)
			return ticket
		}, err: errNotPassHolder},
		{name: "sold, and the previous release did not note to whom", of: func(t *testing.T) Ticket {
			ticket := soldForShow(t)
			ticket.BuyerID = ""
			return ticket
		}, err: errSaleNotYetKnown},
		{name: "refunded", of: func(t *testing.T) Ticket {
			ticket := soldForShow(t)
			ticket.Apply(boughtBy("buyer", 3, Withheld), noon)
			return ticket
		}, err: errNotPassHolder},
		{name: "revoked", of: func(t *testing.T) Ticket {
			ticket, of := soldForShow(t), show()
			of.Cancelled = true
			ticket.Follow(of, noon)
			return ticket
		}, err: errNoResoldTicket},
		{name: "without a show", of: func(*testing.T) Ticket {
			ticket := listed()
			ticket.Apply(boughtBy("buyer", 2, Sold), noon)
			return ticket
		}, err: errNoPass},
		{name: "used", of: func(t *testing.T) Ticket {
			ticket, used := soldForShow(t), boughtBy("buyer", 3, Sold)
			used.UsedAt = stamp
			require.True(t, ticket.Apply(used, noon))
			return ticket
		}, err: errPassUsed},
		{name: "used, and refunded", of: func(t *testing.T) Ticket {
			ticket, used := soldForShow(t), boughtBy("buyer", 3, Withheld)
			used.UsedAt = stamp
			require.True(t, ticket.Apply(used, noon))
			require.Equal(t, Sold, ticket.Status)
			return ticket
		}, err: errPassUsed},
		{name: "resold", of: func(t *testing.T) Ticket {
			ticket, resold := soldForShow(t), boughtBy("buyer", 3, Sold)
			resold.ResoldAt = stamp
			require.True(t, ticket.Apply(resold, noon))
			return ticket
		}, err: errPassVoid},
		{name: "resold, and given back", of: func(t *testing.T) Ticket {
			ticket, resold := soldForShow(t), boughtBy("buyer", 3, Sold)
			resold.ResoldAt = stamp
			require.True(t, ticket.Apply(resold, noon))
			require.True(t, ticket.Apply(boughtBy("buyer", 4, Sold), noon))
			return ticket
		}, err: nil},
		{name: "listed already", of: func(t *testing.T) Ticket {
			ticket := soldForShow(t)
			_, err := ticket.Resell("resale-0", "buyer", 4500, show(), noon)
			require.NoError(t, err)
			return ticket
		}, err: errResaleListed},
		{name: "started", now: evening, err: errResaleStarted},
		{name: "cancelled", change: func(s *Show) { s.Cancelled = true }, err: errResaleCancelled},
		{name: "above the cap", change: func(s *Show) { s.MaxMarkup = percent(0) }, err: errAboveCap},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			of, seller, now, shown := soldForShow(t), id.User("buyer"), noon, show()
			if c.of != nil {
				of = c.of(t)
			}
			if c.seller != "" {
				seller = c.seller
			}
			if !c.now.IsZero() {
				now = c.now
			}
			if c.change != nil {
				c.change(&shown)
			}
			before := of
			_, err := of.Resell("resale-1", seller, 4501, shown, now)
			require.ErrorIs(t, err, c.err)
			if err != nil {
				require.Equal(t, before, of, "a refusal changes nothing")
			}
		})
	}
}

func TestApply_AnEventAgainNamesTheBuyerThatTheDocumentLacks(t *testing.T) {
	ticket := soldForShow(t)
	ticket.BuyerID = "" // as a process of the previous release writes it
	require.False(t, ticket.Apply(boughtBy("other", 1, Reserved), noon), "an older event")
	require.True(t, ticket.Apply(boughtBy("buyer", 2, Sold), noon))
	require.EqualValues(t, "buyer", ticket.BuyerID)
	require.Nil(t, ticket.Event())
	require.False(t, ticket.Apply(boughtBy("buyer", 2, Sold), noon))
}

// apiWithSale is the API with a sold ticket of a show, whose buyer is "buyer".
func apiWithSale(t *testing.T) (*testAPI, Ticket) {
	a := newTestAPI(t)
	of := newShow(t, a.store)
	ticket := mustList(t, a.store, of.ID, row8())
	sale := boughtBy("buyer", 2, Sold)
	sale.Ticket.ID = ticket.ID
	require.NoError(t, a.store.ApplyOrder(t.Context(), sale))
	return a, ticket
}

func TestAPI_AResaleFromItsListingToItsDeletion(t *testing.T) {
	a, ticket := apiWithSale(t)
	body := `{"resaleOf":"` + string(ticket.ID) + `","price":4600}`
	first := a.send(t, "buyer", "POST", "/api/tickets", body, idempotency.Header, "key-1")
	require.Equal(t, 201, first.status, first.body)
	require.Equal(t, first.body, a.send(t, "buyer", "POST", "/api/tickets", body, idempotency.Header, "key-1").body)
	made := first.ticket(t)
	require.Equal(t, ticket.ID, made.ResaleOf)
	require.EqualValues(t, "buyer", made.UserID)
	require.Equal(t, []any{"Front row", int64(4600), int64(4500), "12"}, []any{made.Title, made.Price, made.FaceValue, made.Seat.Number})
	refused := a.send(t, "buyer", "POST", "/api/tickets", body)
	require.Equal(t, 409, refused.status)
	require.Equal(t, []string{"seat_listed", "resaleOf"}, []string{refused.errors(t)[0].Code, refused.errors(t)[0].Field})

	path := "/api/tickets/" + string(made.ID)
	require.Equal(t, 403, a.send(t, "seller", "PUT", path, `{"price":4700}`).status)
	changed := a.send(t, "buyer", "PUT", path, `{"price":4700,"showId":null,"seat":null}`)
	require.Equal(t, 200, changed.status, changed.body)
	require.EqualValues(t, 4700, changed.ticket(t).Price)

	require.Equal(t, 204, a.send(t, "buyer", "DELETE", path, "").status)
	again := a.send(t, "buyer", "POST", "/api/tickets", body)
	require.Equal(t, 201, again.status, again.body)

	var own []ticketResponse
	require.NoError(t, json.Unmarshal([]byte(a.send(t, "buyer", "GET", "/api/tickets?seller=me", "").body), &own))
	require.Len(t, own, 1)
	require.Equal(t, again.ticket(t).ID, own[0].ID)
}

func TestAPI_OnlyThePriceOfAResaleCanBeSet(t *testing.T) {
	a, ticket := apiWithSale(t)
	of := `"resaleOf":"` + string(ticket.ID) + `","price":4600`
	made := a.send(t, "buyer", "POST", "/api/tickets", "{"+of+`,"title":""}`).ticket(t)
	require.NotEmpty(t, made.ID)
	for member, field := range map[string]string{
		`"title":"Back row"`: "title", `"faceValue":9000`: "faceValue", `"showId":"` + string(ticket.ShowID) + `"`: "showId", `"seat":{"number":"13"}`: "seat",
	} {
		for _, r := range []response{
			a.send(t, "buyer", "POST", "/api/tickets", "{"+of+","+member+"}"),
			a.send(t, "buyer", "PUT", "/api/tickets/"+string(made.ID), `{"price":4600,`+member+"}"),
		} {
			require.Equal(t, 400, r.status, r.body)
			require.Equal(t, "resale_fixed", r.errors(t)[0].Code)
			require.Equal(t, field, r.errors(t)[0].Field)
		}
	}
	for body, want := range map[string][]string{
		`{"price":4600,"resaleOf":"x"}`:                                    {"uuid", "resaleOf"},
		`{"price":4600,"resaleOf":7}`:                                      {"wrong_type", "resaleOf"},
		`{"resaleOf":"` + string(ticket.ID) + `"}`:                         {"required", "price"},
		`{"price":4600,"resaleOf":"` + string(id.New[id.Ticket]()) + `"}`:  {"ticket_not_found", "resaleOf"},
		`{"price":4600,"resaleOf":"00000000-0000-4000-8000-000000000000"}`: {"ticket_not_found", "resaleOf"},
	} {
		r := a.send(t, "buyer", "POST", "/api/tickets", body)
		require.Equal(t, want, []string{r.errors(t)[0].Code, r.errors(t)[0].Field}, r.body)
	}
	require.Equal(t, 200, a.send(t, "seller", "PUT", "/api/tickets/"+string(mustList(t, a.store, ticket.ShowID, nil).ID),
		`{"title":"Standing","price":4600,"showId":7,"seat":[]}`).status, "of other tickets they are ignored, as before")
}

func TestAPI_ResalesAtTheSameTimeMakeOne(t *testing.T) {
	a, ticket := apiWithSale(t)
	statuses := make([]int, 16)
	var all sync.WaitGroup
	for i := range statuses {
		all.Go(func() {
			statuses[i] = a.send(t, "buyer", "POST", "/api/tickets", `{"resaleOf":"`+string(ticket.ID)+`","price":4600}`).status
		})
	}
	all.Wait()
	counts := map[int]int{}
	for _, status := range statuses {
		counts[status]++
	}
	require.Equal(t, map[int]int{201: 1, 409: 15}, counts)
}

// soldResale is a store with a sold ticket of a show, and its resale that is sold too.
func soldResale(t *testing.T) (s *store, ticket, resale Ticket, publish func(of Ticket, order id.Order, sequence int, becomes Status, change func(*events.Order))) {
	a, ticket := apiWithSale(t)
	s = a.store
	change, resale, err := s.Create("buyer", Listing{Offer: Offer{Price: 4500}, ResaleOf: ticket.ID})(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.documents.Commit(t.Context(), change))
	publish = func(of Ticket, order id.Order, sequence int, becomes Status, change func(*events.Order)) {
		event := orderEvent(order, sequence, becomes)
		event.Ticket.ID, event.UserID = of.ID, "buyer"
		if change != nil {
			change(&event)
		}
		require.NoError(t, s.ApplyOrder(t.Context(), event))
	}
	publish(resale, "order-2", 2, Sold, func(o *events.Order) { o.UserID = "second buyer" })
	return s, ticket, resale, publish
}

func TestApplyOrder_AResaleThatIsGivenBackMayBeOfferedAgain(t *testing.T) {
	s, ticket, resale, publish := soldResale(t)
	publish(ticket, "order-1", 3, Sold, func(o *events.Order) { o.ResoldAt = clock.Stamp(s.clock()) })
	publish(resale, "order-2", 3, Withheld, nil)
	publish(ticket, "order-1", 4, Sold, nil)
	_, err := s.Update(t.Context(), resale.ID, "buyer", 0, Offer{Price: 4600})
	require.NoError(t, err)
	require.Equal(t, Available, stored(t, s, resale.ID).Status)
	require.Equal(t, resale.ID, stored(t, s, ticket.ID).ResaleID)
}

func TestApplyOrder_AResaleWhoseSellerGotTheMoneyBackIsNotOfferedAgain(t *testing.T) {
	s, ticket, resale, publish := soldResale(t)
	publish(ticket, "order-1", 4, Withheld, func(o *events.Order) { o.ResoldAt = clock.Stamp(s.clock()) })
	require.Equal(t, Sold, stored(t, s, ticket.ID).Status, "the place is not sold a second time")
	require.False(t, stored(t, s, resale.ID).Deleted, "its buyer has it")
	publish(resale, "order-2", 3, Withheld, nil)
	require.True(t, stored(t, s, resale.ID).Deleted)
	require.Empty(t, stored(t, s, ticket.ID).ResaleID)
}

func TestApplyOrder_AResaleEndsWhenThePassIsUsed(t *testing.T) {
	a, ticket := apiWithSale(t)
	made := a.send(t, "buyer", "POST", "/api/tickets", `{"resaleOf":"`+string(ticket.ID)+`","price":4600}`).ticket(t)
	used := boughtBy("buyer", 3, Sold)
	used.Ticket.ID, used.UsedAt = ticket.ID, clock.Stamp(noon)
	for range 2 {
		require.NoError(t, a.store.ApplyOrder(t.Context(), used))
	}
	ended := stored(t, a.store, made.ID)
	require.True(t, ended.Deleted)
	require.IsType(t, events.TicketDeleted{}, ended.Event())
	refused := a.send(t, "buyer", "POST", "/api/tickets", `{"resaleOf":"`+string(ticket.ID)+`","price":4600}`)
	require.Equal(t, "pass_used", refused.errors(t)[0].Code)
}
