package check

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/proof/client"
)

const replicaURL = "http://replica"

// onShow are the facts of sold, in which the ticket is for a show, with a second ticket that is left and a cancelled show.
func onShow() *facts {
	f := sold()
	f.history = nil
	starts := f.now.Add(24 * time.Hour)
	evening := showDoc{ID: "evening", Name: "Evening", Venue: "Hall", City: "Berlin", Country: "DE", TimeZone: "Europe/Berlin", Description: "Songs", StartsAt: starts, Category: "music",
		Image: &showImage{"picture", 4, 3}, MaxMarkup: new(20), UserID: "seller", Version: 2}
	off := showDoc{ID: "off", Name: "Off", StartsAt: starts, UserID: "seller", Cancelled: true, Version: 2}
	f.shows = map[string]showDoc{"evening": evening, "off": off}
	at := func(number string) *place { return &place{"Stalls", "C", number} }
	put(f.tickets, "seat", func(t *ticketDoc) { t.ShowID, t.Seat, t.FaceValue, t.SalesEndAt = "evening", at("1"), 500, starts })
	put(f.seats, "seat", func(s *seatDoc) { s.ShowID, s.Seat, s.SalesEndAt = "evening", at("1"), starts })
	for id := range f.orders {
		put(f.orders, id, func(o *orderDoc) { o.Ticket.ShowID, o.Ticket.Seat, o.CreatedAt = "evening", at("1"), noon })
	}
	left := ticketDoc{ID: "left", Title: "Evening", UserID: "seller", Price: 600, Currency: "usd", Status: "available", Version: 1, Listed: 1, ShowID: "evening", Seat: at("2"), FaceValue: 500, SalesEndAt: starts}
	f.tickets["left"] = left
	f.seats["left"] = seatDoc{ID: "left", Title: "Evening", Price: 600, Currency: "usd", Version: 1, ShowID: "evening", Seat: at("2"), SalesEndAt: starts}
	f.listed["left"] = client.Ticket{ID: "left", Status: "available", Version: 1}
	f.events = append(f.events, published("ticket.created", "left", 1, left),
		published("show.created", "evening", 1, evening), published("show.updated", "evening", 2, evening),
		published("show.created", "off", 1, off), published("show.cancelled", "off", 2, off))
	for i := range f.events {
		f.events[i].at = uint64(i + 1)
	}
	shown := client.Ticket{ID: "left", Title: "Evening", Price: 600, Currency: "usd", UserID: "seller", Status: "available", ShowID: "evening", FaceValue: 500,
		Seat: &client.Place{Section: "Stalls", Row: "C", Number: "2"}, SalesEndAt: starts}
	f.catalogues = []catalogueFacts{{
		replica: replicaURL, from: f.now, to: f.now, total: 1,
		facets: client.Facets{Cities: []client.Facet{{Value: "Berlin", Count: 1}}, Countries: []client.Facet{{Value: "DE", Count: 1}}, Categories: []client.Facet{{Value: "music", Count: 1}}},
		shows: map[string]client.CatalogueShow{"evening": {
			Show: client.Show{ID: "evening", Name: "Evening", Venue: "Hall", City: "Berlin", Country: "DE", StartsAt: starts, TimeZone: "Europe/Berlin", Category: "music",
				Description: "Songs", MaxMarkup: new(20), Image: &client.ShowImage{URL: "/api/shows/evening/images/picture", Width: 4, Height: 3}, Status: "scheduled", UserID: "seller", Version: 2},
			Left: 1, PriceFrom: 600,
		}},
		tickets: map[string]client.Ticket{"left": shown},
		pages: map[string]showPages{"evening": {
			tickets: []client.Ticket{shown}, sections: []client.Section{{Section: "Stalls", Left: 1, PriceFrom: 600}}, found: true,
		}},
	}}
	return f
}

func TestRules_AcceptASaleOfAShow(t *testing.T) {
	require.Empty(t, onShow().report(Options{Late: time.Minute}).Violations)
	require.Contains(t, onShow().report(Options{}).String(), "2, on the pages of 1 replicas of the catalogue")
}

// Near its start a show may be in the catalogue or not.
func TestRules_AcceptAShowThatIsStarting(t *testing.T) {
	f := onShow()
	starting := f.now.Add(time.Second)
	for id := range f.shows {
		put(f.shows, id, func(s *showDoc) { s.StartsAt = starting })
	}
	for id := range f.tickets {
		put(f.tickets, id, func(t *ticketDoc) { t.SalesEndAt = starting })
		put(f.seats, id, func(s *seatDoc) { s.SalesEndAt = starting })
	}
	require.Empty(t, f.report(Options{Late: time.Minute}).Violations)
	f.catalogues[0].shows, f.catalogues[0].tickets, f.catalogues[0].total, f.catalogues[0].facets = nil, nil, 0, client.Facets{}
	require.Empty(t, f.report(Options{Late: time.Minute}).Violations)
}

// A facet has not more than 50 values.
func TestRules_AcceptMoreCitiesThanAFacetHas(t *testing.T) {
	f := onShow()
	evening, shown := f.shows["evening"], f.catalogues[0].shows["evening"]
	evening.Version = 1
	for n := range 51 {
		of := evening
		of.ID, of.City, of.Image = fmt.Sprint("show-", n), fmt.Sprint("City ", n), nil
		f.shows[of.ID] = of
		f.events = append(f.events, published("show.created", of.ID, 1, of))
		f.catalogues[0].shows[of.ID] = client.CatalogueShow{Show: of.shown()}
	}
	cities := []client.Facet{}
	for n := range 50 {
		cities = append(cities, client.Facet{Value: fmt.Sprint("City ", n), Count: 1})
	}
	f.catalogues[0].total = 52
	f.catalogues[0].facets = client.Facets{Cities: cities, Countries: []client.Facet{{Value: shown.Country, Count: 52}}, Categories: []client.Facet{{Value: shown.Category, Count: 52}}}
	require.Empty(t, f.report(Options{Late: time.Minute}).Violations)
	cities[0].Count = 4
	require.Len(t, f.report(Options{Late: time.Minute}).Violations, 1, "53 in the cities")
}

func TestPlace_TheSameInOtherCharacters(t *testing.T) {
	for _, same := range [][2]string{
		{"Block A", " block  a "}, {"Balk\u00f3n", "Balko\u0301n"}, {"A", "\uff21"}, {"STRASSE", "Stra\u00dfe"}, {"X", "x\u00ad"}, {"Y", "y\u034f"}, {"Z", "z\u200b\ufe0f"},
		{"\u1fb3", "\u1fbc"}, {"Caf\u00c9", "cafe\u0301"},
	} {
		require.Equal(t, place{Section: same[0]}.key(), place{Section: same[1]}.key(), same)
	}
	for _, other := range [][2]string{{"Balk\u00f3n", "Balkon"}, {"A1", "A 1"}, {"A", "B"}} {
		require.NotEqual(t, place{Section: other[0]}.key(), place{Section: other[1]}.key(), other)
	}
}

func TestRules_FindViolationsOfShows(t *testing.T) {
	tests := []struct {
		promise int
		finds   string
		spoil   func(*facts)
	}{
		{1, "2 listings have it", func(f *facts) { put(f.tickets, "left", func(t *ticketDoc) { t.Seat = &place{"stalls", " C", "1"} }) }},
		{1, "2 live orders have it", func(f *facts) {
			third := order("third", "created", 1, 1)
			third.Ticket.ID, third.Ticket.ShowID, third.Ticket.Seat = "left", "evening", &place{"Stalls", "C", "1"}
			f.orders["third"] = third
		}},
		{1, "it was made 1s after its show had started", func(f *facts) {
			put(f.orders, "first", func(o *orderDoc) { o.CreatedAt = f.shows["evening"].StartsAt.Add(time.Second) })
		}},
		{2, "it was acknowledged to its owner, and does not exist", func(f *facts) { f.history.Showed("lost", ShowVersion{1, "Lost"}) }},
		{2, "its version 3 was acknowledged to its owner, and not published", func(f *facts) { f.history.Showed("evening", ShowVersion{3, "Night"}) }},
		{2, "its cancellation was acknowledged, and it is scheduled", func(f *facts) { f.history.ShowCancelled("evening") }},
		{2, "its version 2 was not published", func(f *facts) { without(f, "show.updated:evening:2") }},
		{2, "its version 2 was not published", func(f *facts) { without(f, "show.cancelled:off:2") }},
		{2, "show.updated:evening:2 was published, and the last version is 1", func(f *facts) { put(f.shows, "evening", func(s *showDoc) { s.Version = 1 }) }},
		{2, "the aggregate does not exist", func(f *facts) { delete(f.shows, "off") }},
		{3, "its show off is cancelled, and it is complete", func(f *facts) { put(f.orders, "second", func(o *orderDoc) { o.Ticket.ShowID = "off" }) }},
		{5, "its face value is 500, and its show allows 20 % more", func(f *facts) {
			f.events = append(f.events, published("ticket.updated", "left", 1, ticketDoc{ShowID: "evening", Price: 601, FaceValue: 500}))
		}},
		{5, "both granted as version 2", func(f *facts) {
			f.history.Showed("evening", ShowVersion{2, "Evening"})
			f.history.Showed("evening", ShowVersion{2, "Night"})
		}},
		{5, `acknowledged as "Night", and published as "Evening"`, func(f *facts) { f.history.Showed("evening", ShowVersion{2, "Night"}) }},
		{6, "its show off is cancelled, and it is available", func(f *facts) { put(f.tickets, "left", func(t *ticketDoc) { t.ShowID = "off" }) }},
		{6, "the account of its owner seller is deleted, and it is scheduled", func(f *facts) {
			f.events = append(f.events, published("user.deleted", "seller", 2, map[string]any{"id": "seller", "version": 2}))
		}},
		{6, "its show none does not exist", func(f *facts) { put(f.tickets, "left", func(t *ticketDoc) { t.ShowID = "none" }) }},
		{6, "its sales end at", func(f *facts) { put(f.shows, "evening", func(s *showDoc) { s.StartsAt = s.StartsAt.Add(time.Hour) }) }},
		{6, "its seller is not the owner", func(f *facts) { put(f.shows, "evening", func(s *showDoc) { s.UserID = "other" }) }},
		{6, "and in the orders service", func(f *facts) { put(f.seats, "left", func(s *seatDoc) { s.SalesEndAt = noon }) }},
		{6, "and in the orders service", func(f *facts) { put(f.seats, "left", func(s *seatDoc) { s.Seat = nil }) }},
		{6, "the catalogue at " + replicaURL + " has it: false", func(f *facts) { delete(f.catalogues[0].tickets, "left") }},
		{6, "the catalogue at " + replicaURL + " has it: true", func(f *facts) { f.catalogues[0].tickets["seat"] = client.Ticket{ID: "seat"} }},
		{6, "has it, and it does not exist", func(f *facts) { f.catalogues[0].tickets["ghost"] = client.Ticket{ID: "ghost"} }},
		{6, `and in the catalogue at ` + replicaURL + ` "Evening" for 700`, func(f *facts) {
			shown := f.catalogues[0].tickets["left"]
			shown.Price = 700
			f.catalogues[0].tickets["left"] = shown
		}},
		{6, `at none (available)`, func(f *facts) {
			shown := f.catalogues[0].tickets["left"]
			shown.Seat = nil
			f.catalogues[0].tickets["left"] = shown
		}},
		{6, "it is on: true, and the catalogue at " + replicaURL + " has it: false", func(f *facts) { delete(f.catalogues[0].shows, "evening") }},
		{6, "it is on: false, and the catalogue at " + replicaURL + " has it: true", func(f *facts) { f.catalogues[0].shows["off"] = client.CatalogueShow{} }},
		{6, "has version 1", func(f *facts) { spoilShown(f, func(s *client.CatalogueShow) { s.Version = 1 }) }},
		{6, "1 tickets are left, from 600, and in the catalogue at " + replicaURL + " 2, from 600", func(f *facts) { spoilShown(f, func(s *client.CatalogueShow) { s.Left = 2 }) }},
		{6, replicaURL + " 1, from 500", func(f *facts) { spoilShown(f, func(s *client.CatalogueShow) { s.PriceFrom = 500 }) }},
		{6, "with other members", func(f *facts) { spoilShown(f, func(s *client.CatalogueShow) { s.Country = "FR" }) }},
		{6, "with other members", func(f *facts) { spoilShown(f, func(s *client.CatalogueShow) { s.TimeZone = "UTC" }) }},
		{6, "with other members", func(f *facts) { spoilShown(f, func(s *client.CatalogueShow) { s.Description = "" }) }},
		{6, "with other members", func(f *facts) { spoilShown(f, func(s *client.CatalogueShow) { s.MaxMarkup = nil }) }},
		{6, "with other members", func(f *facts) { spoilShown(f, func(s *client.CatalogueShow) { s.Image = nil }) }},
		{6, "with other members", func(f *facts) {
			spoilShown(f, func(s *client.CatalogueShow) {
				s.Image = &client.ShowImage{URL: "/api/shows/evening/images/older", Width: 4, Height: 3}
			})
		}},
		{6, "its sales end at", func(f *facts) { put(f.catalogues[0].tickets, "left", func(t *client.Ticket) { t.SalesEndAt = noon }) }},
		{6, `it resells "", and in the catalogue at ` + replicaURL + ` "seat"`, func(f *facts) { put(f.catalogues[0].tickets, "left", func(t *client.Ticket) { t.ResaleOf = "seat" }) }},
		{6, "its pages in the catalogue at " + replicaURL + " have 0", func(f *facts) { spoilPages(f, func(p *showPages) { p.tickets = nil }) }},
		{6, "are in the sections", func(f *facts) { spoilPages(f, func(p *showPages) { p.sections[0].Left = 2 }) }},
		{6, "are in the sections", func(f *facts) { spoilPages(f, func(p *showPages) { p.sections[0].PriceFrom = 500 }) }},
		{6, "are in the sections", func(f *facts) { spoilPages(f, func(p *showPages) { p.sections = nil }) }},
		{6, "does not find it by its name", func(f *facts) { spoilPages(f, func(p *showPages) { p.found = false }) }},
		{6, "has 1 shows on its pages, and 2 as total", func(f *facts) { f.catalogues[0].total = 2 }},
		{6, "and its cities count 0", func(f *facts) { f.catalogues[0].facets.Cities = nil }},
		{6, "and its cities count 2", func(f *facts) { f.catalogues[0].facets.Cities[0].Count = 2 }},
		{6, "and its countries count 1", func(f *facts) { f.catalogues[0].facets.Countries[0].Value = "FR" }},
		{6, "and its categories count 1", func(f *facts) { f.catalogues[0].facets.Categories[0].Value = "dance" }},
	}
	for _, c := range tests {
		t.Run(c.finds, func(t *testing.T) {
			f := onShow()
			f.history = NewHistory()
			c.spoil(f)
			found := f.report(Options{Late: time.Minute}).Violations
			require.True(t, slices.ContainsFunc(found, func(v Violation) bool {
				return v.Promise == c.promise && strings.Contains(v.What, c.finds)
			}), "found %v", found)
		})
	}
}

func spoilPages(f *facts, change func(*showPages)) { put(f.catalogues[0].pages, "evening", change) }

func spoilShown(f *facts, change func(*client.CatalogueShow)) {
	put(f.catalogues[0].shows, "evening", change)
}

func TestReadCatalogues_ReadsAllPagesOfEachReplica(t *testing.T) {
	starts := "2030-06-12T20:00:00.5Z"
	one := client.Show{ID: "a", Name: "Café & \u201cBar\u201d", StartsAt: time.Date(2030, 6, 12, 22, 0, 0, 5e8, time.FixedZone("", 7200))}
	searches := 0
	answers := map[string]any{
		"/api/catalogue/shows?limit=100":           client.Found{Shows: []client.CatalogueShow{{Show: one}}, Total: 2},
		"/api/catalogue/shows?limit=100&cursor=2":  client.Found{Shows: []client.CatalogueShow{{Show: client.Show{ID: "b"}}}, Total: 2, Facets: client.Facets{Cities: []client.Facet{{Value: "Berlin", Count: 2}}}},
		"/api/tickets?status=available&limit=100":  []client.Ticket{{ID: "one"}},
		"/api/catalogue/shows/a":                   client.CatalogueShow{Show: one, Sections: []client.Section{{Section: "Stalls", Left: 1}}},
		"/api/catalogue/shows/a/tickets?limit=100": []client.Ticket{{ID: "one"}},
	}
	replica := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, is := answers[r.URL.RequestURI()]
		if query := r.URL.Query(); query.Get("q") == one.Name && query.Get("from") == starts && query.Get("to") == starts {
			found := client.Found{}
			if searches++; searches == 2 { // its words are written later than the rest
				found.Shows = []client.CatalogueShow{{Show: one}}
			}
			answer, is = found, true
		}
		if !is {
			w.WriteHeader(http.StatusNotFound) // for example of a show that has started
			return
		}
		if r.URL.RequestURI() == "/api/catalogue/shows?limit=100" {
			w.Header().Set("Link", `</api/catalogue/shows?limit=100&cursor=2>; rel="next"`)
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(replica.Close)
	r := &reader{target: Target{Services: map[string][]string{catalogueApp: {replica.URL}}}, api: client.New("", client.Options{})}
	f := &facts{}
	require.NoError(t, r.readCatalogues(t.Context(), f))
	require.Len(t, f.catalogues, 1)
	require.Equal(t, []string{"a", "b"}, slices.Sorted(maps.Keys(f.catalogues[0].shows)))
	require.Equal(t, 2, f.catalogues[0].total)
	require.Equal(t, []client.Facet{{Value: "Berlin", Count: 2}}, f.catalogues[0].facets.Cities)
	require.Contains(t, f.catalogues[0].tickets, "one")
	require.Equal(t, map[string]showPages{"a": {
		tickets: []client.Ticket{{ID: "one"}}, sections: []client.Section{{Section: "Stalls", Left: 1}}, found: true,
	}}, f.catalogues[0].pages)
	require.Equal(t, 2, searches)
}
