package main

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
)

var evening = noon.Add(8 * time.Hour)

// percent is a show's cap.
func percent(n int) *int { return &n }

// show is a show this evening, of "seller".
func show() Show {
	return Show{Schema: 1, ID: "show-1", Name: "Radiohead", UserID: "seller", StartsAt: evening, Version: 1}
}

func row8() *Place { return &Place{Section: "Block A", Row: "8", Number: "12"} }

// listedForShow is a ticket for the show.
func listedForShow(t *testing.T) Ticket {
	t.Helper()
	ticket, err := CreateForShow("ticket-1", show(), "seller", "usd", Offer{Title: "Front row", Price: 4500}, row8(), noon)
	require.NoError(t, err)
	return ticket
}

// showEvent is an event of the show.
func showEvent(of id.Show, version int, startsAt time.Time, status events.ShowStatus) events.Show {
	return events.Show{ID: of, Name: "Radiohead", UserID: "seller", StartsAt: clock.Stamp(startsAt), Status: status, Version: version}
}

func TestCreateForShow_WhatIsMissingIsTheShows(t *testing.T) {
	ticket, err := CreateForShow("ticket-1", show(), "seller", "usd", Offer{Price: 4500}, nil, noon)
	require.NoError(t, err)
	require.Equal(t, Ticket{
		Schema: 2, ID: "ticket-1", Title: "Radiohead", Price: 4500, Currency: "usd", UserID: "seller", Status: Available, InSellerIndex: true,
		ShowID: "show-1", FaceValue: 4500, SalesEndAt: evening, Version: 1, ListedVersion: 1, CreatedAt: noon, UpdatedAt: noon,
	}, ticket)

	ticket, err = CreateForShow("ticket-1", show(), "seller", "usd", Offer{Title: "Front row", Price: 4500, FaceValue: 4000}, row8(), noon)
	require.NoError(t, err)
	require.Equal(t, events.TicketCreated{Ticket: events.Ticket{
		ID: "ticket-1", Title: "Front row", Price: 4500, Currency: "usd", UserID: "seller", Status: "available",
		ShowID: "show-1", Seat: &events.Place{Section: "Block A", Row: "8", Number: "12"}, FaceValue: 4000, SalesEndAt: clock.Stamp(evening), ShowOwnerID: "seller",
		Version: 1, CreatedAt: clock.Stamp(noon), UpdatedAt: clock.Stamp(noon),
	}}, ticket.Event())
}

func TestCreateForShow_Refusals(t *testing.T) {
	cases := []struct {
		name   string
		seller id.User
		change func(*Show)
		now    time.Time
		err    error
	}{
		{"the owner", "seller", func(*Show) {}, noon, nil},
		{"at the last moment", "seller", func(*Show) {}, evening.Add(-time.Millisecond), nil},
		{"somebody else", "other", func(*Show) {}, noon, errNotYourShow},
		{"started", "seller", func(*Show) {}, evening, errShowStarted},
		{"cancelled", "seller", func(s *Show) { s.Cancelled = true }, noon, errShowCancelled},
		{"cancelled, and its time has come", "seller", func(s *Show) { s.Cancelled = true }, evening, errShowCancelled},
		{"somebody else's cancelled show", "other", func(s *Show) { s.Cancelled = true }, noon, errNotYourShow},
		{"above the cap", "seller", func(s *Show) { s.MaxMarkup = percent(10) }, noon, errAboveCap},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			of := show()
			c.change(&of)
			_, err := CreateForShow("ticket-1", of, c.seller, "usd", Offer{Price: 4500, FaceValue: 4000}, nil, c.now)
			require.ErrorIs(t, err, c.err)
		})
	}
}

func TestCheckPrice_TheCapCountsFromTheFaceValue(t *testing.T) {
	cases := []struct {
		name             string
		markup           *int
		price, faceValue int64
		highest          int64 // 0: no refusal
	}{
		{"no cap", nil, 99_999_999, 1, 0},
		{"at the cap", percent(10), 4400, 4000, 0},
		{"above the cap", percent(10), 4401, 4000, 4400},
		{"a cap of nothing", percent(0), 4001, 4000, 4000},
		{"a part of a cent is not allowed", percent(10), 4406, 4005, 4405},
		{"below the face value", percent(0), 50, 4000, 0},
		{"the highest numbers", percent(1000), 99_999_999, 99_999_999, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			of := show()
			of.MaxMarkup = c.markup
			err := of.CheckPrice(c.price, c.faceValue)
			if c.highest == 0 {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, errAboveCap)
			refused, _ := err.(*problem.Error)
			require.Equal(t, map[string]any{"maxPrice": c.highest}, refused.Members)
		})
	}
}

func TestUpdate_OfATicketWithAShow(t *testing.T) {
	ticket := listedForShow(t)
	of := show()
	of.MaxMarkup = percent(20)
	require.NoError(t, ticket.Update("seller", 0, Offer{Price: 5400}, of, noon))
	require.Equal(t, "Front row", ticket.Title, "it stays")
	require.EqualValues(t, 4500, ticket.FaceValue, "it stays")
	require.EqualValues(t, 5400, ticket.Price)

	before := ticket
	require.ErrorIs(t, ticket.Update("seller", 0, Offer{Price: 5401}, of, noon), errAboveCap)
	require.Equal(t, before, ticket, "a refusal changes nothing")
	require.NoError(t, ticket.Update("seller", 0, Offer{Title: "Row 8", Price: 6000, FaceValue: 5000}, of, noon))
	require.Equal(t, Offer{"Row 8", 6000, 5000}, Offer{ticket.Title, ticket.Price, ticket.FaceValue})
	require.Equal(t, row8(), ticket.Place)
}

func TestUpdate_OnceTheShowHasStarted(t *testing.T) {
	ticket, of := listedForShow(t), show()
	require.NoError(t, ticket.Update("seller", 0, Offer{Price: 4400}, of, evening.Add(-time.Millisecond)))
	before := ticket
	require.ErrorIs(t, ticket.Update("seller", 0, Offer{Price: 4300}, of, evening), errSalesEnded)
	require.ErrorIs(t, ticket.Update("other", 0, Offer{Price: 4300}, of, evening), errNotYours)
	require.Equal(t, before, ticket)

	of.StartsAt = evening.Add(-time.Hour) // it was moved, and the ticket has not followed yet
	require.ErrorIs(t, ticket.Update("seller", 0, Offer{Price: 4300}, of, evening.Add(-time.Minute)), errSalesEnded)
	of.StartsAt = evening.Add(time.Hour)
	require.NoError(t, ticket.Update("seller", 0, Offer{Price: 4300}, of, evening))
	require.NoError(t, ticket.Delete("seller", 0, evening.Add(2*time.Hour)), "a listing can always be withdrawn")
}

func TestUpdate_OfATicketWithoutAShow(t *testing.T) {
	ticket := listed()
	require.ErrorIs(t, ticket.Update("seller", 0, Offer{Price: 4500}, Show{}, noon), errTitleRequired)
	require.ErrorIs(t, ticket.Update("seller", 0, Offer{Title: "Front row", Price: 4500, FaceValue: 4500}, Show{}, noon), errNoFaceValue)
	require.ErrorIs(t, ticket.Update("other", 0, Offer{Price: 4500}, Show{}, noon), errNotYours, "that comes first")
	require.Equal(t, listed(), ticket)
}

func TestFollow_AMovedShow(t *testing.T) {
	moved := show()
	moved.StartsAt = evening.Add(time.Hour)
	for name, c := range map[string]struct {
		prepare   func(*Ticket)
		published events.TicketStatus // "": nothing is published
	}{
		"available": {func(*Ticket) {}, "available"},
		"reserved":  {func(t *Ticket) { t.Apply(orderEvent("order-1", 1, Reserved), noon) }, "reserved"},
		"sold":      {func(t *Ticket) { t.Apply(orderEvent("order-1", 2, Sold), noon) }, "sold"},
		"withheld":  {func(t *Ticket) { t.Apply(orderEvent("order-1", 3, Withheld), noon) }, "withheld"},
		"sold, its seller's account is deleted": {func(t *Ticket) {
			t.Apply(orderEvent("order-1", 2, Sold), noon)
			t.DeleteWithAccount(noon)
		}, "sold"},
		"deleted": {func(t *Ticket) { _ = t.Delete("seller", 0, noon) }, ""},
		"deleted, and restored by a late sale": {func(t *Ticket) {
			_ = t.Delete("seller", 0, noon)
			t.Apply(orderEvent("order-1", 2, Sold), noon)
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			ticket := listedForShow(t)
			c.prepare(&ticket)
			before := ticket
			require.False(t, ticket.Follow(show(), noon), "nothing has changed")
			require.Equal(t, before, ticket)

			require.True(t, ticket.Follow(moved, evening))
			require.Equal(t, moved.StartsAt, ticket.SalesEndAt)
			require.Equal(t, before.Version+1, ticket.Version)
			require.Equal(t, before.Deleted, ticket.Deleted)
			if c.published == "" {
				require.Nil(t, ticket.Event(), "the deletion stays the last event")
				require.IsType(t, events.TicketDeleted{}, ticket.ListingEvent())
			} else {
				event, _ := ticket.Event().(events.TicketUpdated)
				require.Equal(t, c.published, event.Status)
				require.Equal(t, clock.Stamp(moved.StartsAt), event.SalesEndAt)
				require.Equal(t, ticket.Version, event.Version)
			}
			require.False(t, ticket.Follow(moved, evening), "once is enough")
		})
	}
}

func TestFollow_ACancelledShow(t *testing.T) {
	cancelled := show()
	cancelled.Cancelled = true
	for name, prepare := range map[string]func(*Ticket){
		"available": func(*Ticket) {},
		"reserved":  func(t *Ticket) { t.Apply(orderEvent("order-1", 1, Reserved), noon) },
		"sold":      func(t *Ticket) { t.Apply(orderEvent("order-1", 2, Sold), noon) },
		"withheld":  func(t *Ticket) { t.Apply(orderEvent("order-1", 3, Withheld), noon) },
		"sold, its seller's account is deleted": func(t *Ticket) {
			t.Apply(orderEvent("order-1", 2, Sold), noon)
			t.DeleteWithAccount(noon)
		},
		"deleted: a late sale could restore it": func(t *Ticket) { _ = t.Delete("seller", 0, noon) },
		"deleted, and restored by a late sale": func(t *Ticket) {
			_ = t.Delete("seller", 0, noon)
			t.Apply(orderEvent("order-1", 2, Sold), noon)
		},
	} {
		t.Run(name, func(t *testing.T) {
			ticket := listedForShow(t)
			prepare(&ticket)
			order, status := ticket.OrderID, ticket.Status
			require.True(t, ticket.Follow(cancelled, evening))
			event, _ := ticket.Event().(events.TicketDeleted)
			require.True(t, event.Revoked)
			require.Equal(t, order, event.OrderID)
			require.Equal(t, events.TicketStatus(status), event.Status)
			require.Equal(t, event, ticket.ListingEvent(), "whenever it is published again")

			require.False(t, ticket.Follow(cancelled, evening), "once is enough")
			require.ErrorIs(t, ticket.Update("seller", 0, Offer{Price: 4500}, cancelled, evening), errNoTicket)
			require.ErrorIs(t, ticket.Delete("seller", 0, evening), errNoTicket)
			require.False(t, ticket.DeleteWithAccount(evening))
			for i, next := range []Status{Reserved, Sold, Withheld, Available} {
				require.True(t, ticket.Apply(orderEvent("order-2", 10+i, next), evening))
				require.True(t, ticket.Deleted, "no event of an order restores it")
				require.Nil(t, ticket.Event())
				listing, _ := ticket.ListingEvent().(events.TicketDeleted)
				require.True(t, listing.Revoked)
				require.Equal(t, event.Version, listing.Version)
			}
		})
	}
}

func TestShow_AppliesOnlyNewerEvents(t *testing.T) {
	var known Show
	created := showEvent("show-1", 1, evening, events.ShowStatusScheduled)
	created.MaxMarkup = percent(20)
	require.True(t, known.Apply(created))
	want := show()
	want.MaxMarkup = percent(20)
	require.Equal(t, want, known)
	require.False(t, known.Apply(created), "a repeat")

	before := known
	require.True(t, known.Apply(showEvent("show-1", 3, evening, events.ShowStatusCancelled)))
	require.True(t, known.Cancelled)
	require.Nil(t, known.MaxMarkup)
	require.True(t, known.ConcernsTickets(before))
	require.False(t, known.Apply(showEvent("show-1", 2, evening, events.ShowStatusScheduled)), "it comes late")
	require.False(t, known.ConcernsTickets(Show{}), "a show that was not known had no tickets")
}

func TestShow_AChangeOfItsTextsOrItsCapConcernsNoTicket(t *testing.T) {
	known := show()
	before := known
	event := showEvent("show-1", 2, evening, events.ShowStatusScheduled)
	event.Name, event.MaxMarkup = "Another name", percent(0)
	require.True(t, known.Apply(event))
	require.False(t, known.ConcernsTickets(before))
	require.True(t, known.Apply(showEvent("show-1", 3, evening.Add(time.Minute), events.ShowStatusScheduled)))
	require.True(t, known.ConcernsTickets(before))
}

func TestPlace_TheSameInOtherWords(t *testing.T) {
	place := Place{"Block A", "8", "12"}
	for _, same := range []Place{{"Block A", "8", "12"}, {"block a", "8", "12"}, {" Block  A ", "8", " 12"}} {
		require.Equal(t, place.key("show-1"), same.key("show-1"), same)
	}
	for _, other := range []Place{{"Block B", "8", "12"}, {"Block A", "81", "2"}, {"Block A 8", "", "12"}, {"", "8", "12"}, {"8", "Block A", "12"}} {
		require.NotEqual(t, place.key("show-1"), other.key("show-1"), other)
	}
	for _, same := range [][2]string{
		{"Balk\u00f3n", "Balko\u0301n"},    // an accent as a part of its letter, and after it
		{"A", "\uff21"},                    // full width
		{"STRASSE", "Stra\u00dfe"},         // one letter and two
		{"X", "x\u00ad"}, {"Y", "y\u034f"}, // a soft hyphen, a grapheme joiner
		{"Z", "z\u200b\ufe0f"}, {"Z", "\u3164z"}, // a space without width, a variation selector, a filler
		{"Block A", "Block\u00a0\u2003A"},   // other spaces
		{"\u1fb3", "\u1fbc"}, {"Ⅷ", "viii"}, // letters whose lower case has two, a number as one letter
		{"Caf\u00c9", "cafe\u0301"}, {"ΛΟΓΟΣ", "λογος"}, // both at once
	} {
		require.Equal(t, (&Place{Section: same[0], Number: "1"}).key("show-1"), (&Place{Section: same[1], Number: "1"}).key("show-1"), same)
		require.Equal(t, (&Place{Number: same[0]}).key("show-1"), (&Place{Number: same[1]}).key("show-1"), same)
	}
	for _, other := range [][2]string{{"Balk\u00f3n", "Balkon"}, {"A1", "A 1"}, {"\u00f8", "o"}} {
		require.NotEqual(t, (&Place{Section: other[0], Number: "1"}).key("show-1"), (&Place{Section: other[1], Number: "1"}).key("show-1"), other)
	}
	require.NotEqual(t, place.key("show-1"), place.key("show-2"))
	require.Equal(t, "place/show-1/bb5274926e0a51379c2e52c8716434fc", place.key("show-1"), "stored documents have it")
	require.False(t, (*Place)(nil).isNumbered())
	require.False(t, (&Place{Section: "Standing"}).isNumbered())
}

func TestFollowing_EndsWhenNoListingOfTheOldShowCanFollow(t *testing.T) {
	var f following
	f.Add("show-1", noon)
	f.Add("show-2", noon)
	first := slices.Clone(f.Shows)
	require.False(t, f.Finish(first, noon.Add(listingTime)), "a listing may still be committed")
	f.Add("show-1", noon.Add(time.Second))
	require.Len(t, f.Shows, 2, "its last change counts")
	require.True(t, f.Finish(first, noon.Add(listingTime+time.Minute)))
	require.Equal(t, []followedShow{{"show-1", noon.Add(time.Second)}}, f.Shows, "the pass was of its change before")
	require.True(t, f.Finish(f.Shows, noon.Add(listingTime+time.Minute)))
	require.Empty(t, f.Shows)
}
