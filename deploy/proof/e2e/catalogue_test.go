package e2e

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"boxoffice/deploy/proof/client"
)

// What clients search and read in the catalogue: shows with what is left of them.

// search returns a page of the catalogue. Parameters are pairs of a name and a value.
func (s *testStack) search(t testing.TB, parameters ...string) client.Found {
	t.Helper()
	r := client.SearchShows()
	for i := 0; i < len(parameters); i += 2 {
		r = r.WithQuery(parameters[i], parameters[i+1])
	}
	response := s.call(t, r)
	requireStatus(t, 200, response)
	return decode[client.Found](t, response)
}

// waitLeft waits until the catalogue has so many listings of a show, and returns the show.
func (s *testStack) waitLeft(t testing.TB, show string, left int) (found client.CatalogueShow) {
	t.Helper()
	eventually(t, "the catalogue has what is left", func() bool {
		r := s.call(t, client.ReadCatalogueShow(show))
		if r.Status != 200 {
			return false
		}
		found = decode[client.CatalogueShow](t, r)
		return found.Left == left
	})
	return found
}

func (s *testStack) ticketsLeft(t testing.TB, show string) (ids []string) {
	t.Helper()
	r := s.call(t, client.ReadShowTickets(show))
	requireStatus(t, 200, r)
	for _, ticket := range decode[[]client.Ticket](t, r) {
		ids = append(ids, ticket.ID)
	}
	return ids
}

func TestCatalogue_HasWhatIsLeftOfAShow(t *testing.T) {
	t.Parallel()
	s := pooledStack(t, nil)
	owner, buyer := s.signUp(t), s.signUp(t)
	word := "w" + strings.ReplaceAll(uuid.NewString(), "-", "")[:12]
	wanted := newShow(inDays(30))
	wanted.Name, wanted.City, wanted.Country = "Die Fledermaus "+word, "Zürich", "CH"
	show := owner.announce(t, wanted)

	s.waitLeft(t, show.ID, 0)
	seat := owner.listPlace(t, client.Offer{ShowID: show.ID, Seat: row1(1), Price: 5000})
	standing := owner.listPlace(t, client.Offer{ShowID: show.ID, Seat: &client.Place{Section: "Standing"}, Price: 3000})
	found := s.waitLeft(t, show.ID, 2)
	require.EqualValues(t, 3000, found.PriceFrom)
	require.Equal(t, "usd", found.Currency)
	require.Equal(t, []client.Section{{Section: "Stalls", Left: 1, PriceFrom: 5000}, {Section: "Standing", Left: 1, PriceFrom: 3000}}, found.Sections)
	require.Equal(t, show, found.Show)

	require.Equal(t, []string{standing.ID, seat.ID}, s.ticketsLeft(t, show.ID), "the cheapest first")
	inStalls := s.call(t, client.ReadShowTickets(show.ID).WithQuery("section", "Stalls"))
	requireStatus(t, 200, inStalls)
	require.Equal(t, []client.Ticket{s.ticket(t, seat.ID)}, decode[[]client.Ticket](t, inStalls), "in the form in which tickets has it")
	available := s.call(t, client.ReadAvailable().WithQuery("limit", 200))
	requireStatus(t, 200, available)
	require.True(t, slices.ContainsFunc(decode[[]client.Ticket](t, available), func(l client.Ticket) bool { return l.ID == seat.ID }))

	eventually(t, "the search finds the show by its name", func() bool { return s.search(t, "q", word).Total == 1 })
	for _, text := range []string{word, word[:8], "zurich " + word, word[:4] + word[5:], "fledermaus " + word} { // also with a letter too few
		page := s.search(t, "q", text, "country", "CH", "available", "true")
		require.Len(t, page.Shows, 1, text)
		require.Equal(t, show.ID, page.Shows[0].ID)
		require.Equal(t, 2, page.Shows[0].Left)
		require.Equal(t, []client.Facet{{Value: "Zürich", Count: 1}}, page.Facets.Cities)
	}
	require.Zero(t, s.search(t, "q", word, "city", "Bern").Total)
	require.Zero(t, s.search(t, "q", word, "to", inDays(10).Format("2006-01-02")).Total)

	order := buyer.reserve(t, standing.ID)
	require.EqualValues(t, 5000, s.waitLeft(t, show.ID, 1).PriceFrom)
	require.Equal(t, []string{seat.ID}, s.ticketsLeft(t, show.ID))
	buyer.cancel(t, order.ID)
	s.waitLeft(t, show.ID, 2)

	for _, ticket := range []client.Ticket{seat, standing} {
		order := buyer.reserve(t, ticket.ID)
		buyer.payUntilAccepted(t, order.ID, "pm_card_visa")
		buyer.orderBecomes(t, "complete", order.ID)
	}
	soldOut := s.waitLeft(t, show.ID, 0)
	require.Empty(t, soldOut.Sections)
	require.Equal(t, 1, s.search(t, "q", word).Total, "a sold-out show is on all the same")
	require.Zero(t, s.search(t, "q", word, "available", "true").Total)

	requireStatus(t, 204, owner.call(t, client.CancelShow(show.ID)))
	eventually(t, "the cancelled show is gone", func() bool { return s.call(t, client.ReadCatalogueShow(show.ID)).Status == 404 })
	require.Zero(t, s.search(t, "q", word).Total)
	requireProblem(t, 404, s.call(t, client.ReadShowTickets(show.ID)), "not_found")
}

func TestCatalogue_PagesAreComparedAndCompressed(t *testing.T) {
	t.Parallel()
	s := pooledStack(t, nil)
	owner := s.signUp(t)
	wanted := newShow(inDays(30))
	wanted.Description = strings.Repeat("Words that describe the show. ", 60)
	show := owner.announce(t, wanted)
	ticket := owner.listPlace(t, client.Offer{ShowID: show.ID, Price: 3000})
	s.waitLeft(t, show.ID, 1)

	plain := s.call(t, client.ReadCatalogueShow(show.ID))
	requireStatus(t, 200, plain)
	require.Equal(t, "public, no-cache", plain.Header.Get("Cache-Control"))
	unchanged := s.call(t, client.ReadCatalogueShow(show.ID).With("If-None-Match", plain.Header.Get("ETag")))
	requireStatus(t, 304, unchanged)
	require.Empty(t, unchanged.Body)

	compressed, err := http.Get(s.GatewayURL() + "/api/catalogue/shows/" + show.ID) // Go's client asks for gzip, and decodes it
	require.NoError(t, err)
	defer compressed.Body.Close()
	require.True(t, compressed.Uncompressed)
	body, err := io.ReadAll(compressed.Body)
	require.NoError(t, err)
	require.Equal(t, string(plain.Body), string(body))

	s.signUp(t).reserve(t, ticket.ID)
	eventually(t, "a reservation changes the page", func() bool {
		return s.call(t, client.ReadCatalogueShow(show.ID).With("If-None-Match", plain.Header.Get("ETag"))).Status == 200
	})
}

func TestCatalogue_TheLinksOfAvailableTicketsHaveEachOnce(t *testing.T) {
	t.Parallel()
	s := pooledStack(t, nil)
	owner := s.signUp(t)
	show := owner.announce(t, newShow(inDays(30)))
	var want []string
	for range 7 {
		want = append(want, owner.listPlace(t, client.Offer{ShowID: show.ID, Price: 3000}).ID)
	}
	s.waitLeft(t, show.ID, 7)
	var got []string
	for r := client.ReadShowTickets(show.ID).WithQuery("limit", 3); r.Path != ""; {
		response := s.call(t, r)
		requireStatus(t, 200, response)
		for _, ticket := range decode[[]client.Ticket](t, response) {
			got = append(got, ticket.ID)
		}
		r = client.Request{Method: "GET", Path: response.Next()}
	}
	slices.Sort(want)
	require.Equal(t, want, got, "of one price: in the order of their ids")
}
