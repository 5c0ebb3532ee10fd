package e2e

import (
	"encoding/csv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/proof/client"
)

// What sellers see: their listings, their shows and their sales. And how a page in a browser signs in.

func TestSales_ASellerSeesWhatWasSold(t *testing.T) {
	t.Parallel()
	s := pooledStack(t, nil)
	owner, first, second := s.signUp(t), s.signUp(t), s.signUp(t)
	show := owner.announce(t, newShow(inDays(30)))
	plain := owner.list(t, "=1+1", 1500)
	ticket := owner.listPlace(t, client.Offer{ShowID: show.ID, Seat: row1(7), Price: 5000})
	refunded := first.buy(t, plain.ID)
	bought := first.buy(t, ticket.ID)
	s.refund(t, refunded.StripeID, "")
	first.orderBecomes(t, "cancelled", refunded.OrderID)
	again := second.buy(t, first.resell(t, ticket.ID, 5500).ID)

	r := owner.call(t, client.ReadSales())
	requireStatus(t, 200, r)
	require.NotContains(t, string(r.Body), first.ID, "who the buyer is does not concern the seller")
	sales := onlyPage[client.Sale](t, r)
	require.Len(t, sales, 2)
	require.Equal(t, client.Sale{
		OrderID: bought.OrderID, TicketID: ticket.ID, ShowID: show.ID, Title: show.Name, Seat: row1(7), Price: 5000, Currency: "usd", Status: "complete", SoldAt: sales[0].SoldAt,
	}, sales[0])
	require.Equal(t, client.Sale{
		OrderID: refunded.OrderID, TicketID: plain.ID, Title: "=1+1", Price: 1500, Currency: "usd", Status: "cancelled", Reason: "refunded",
		SoldAt: sales[1].SoldAt, CancelledAt: sales[1].CancelledAt,
	}, sales[1])
	require.False(t, sales[1].CancelledAt.Before(sales[1].SoldAt))
	ofShow := onlyPage[client.Sale](t, owner.call(t, client.ReadSales().WithQuery("showId", show.ID)))
	require.Equal(t, sales[:1], ofShow)
	own := onlyPage[client.Sale](t, first.call(t, client.ReadSales()))
	require.Len(t, own, 1, "a resale is its seller's")
	require.Equal(t, []any{again.OrderID, int64(5500)}, []any{own[0].OrderID, own[0].Price})
	require.Empty(t, onlyPage[client.Sale](t, second.call(t, client.ReadSales())))

	for _, request := range []client.Request{client.ReadSales().WithQuery("format", "csv"), client.ReadSales().With("Accept", "text/csv")} {
		file := owner.call(t, request)
		requireStatus(t, 200, file)
		require.Equal(t, `attachment; filename="sales.csv"`, file.Header.Get("Content-Disposition"))
		require.NotContains(t, string(file.Body), first.ID)
		rows, err := csv.NewReader(strings.NewReader(string(file.Body))).ReadAll()
		require.NoError(t, err)
		require.Len(t, rows, 3)
		require.Equal(t, []string{"orderId", "ticketId", "showId", "title"}, rows[0][:4])
		require.Equal(t, []string{bought.OrderID, ticket.ID, show.ID, show.Name, "Stalls", "1", "7", "50.00", "usd", "complete"}, rows[1][:10])
		require.Equal(t, "'=1+1", rows[2][3], "not a formula")
		require.Equal(t, 3, strings.Count(string(file.Body), "\r\n"))
	}

	requireProblem(t, 401, s.call(t, client.ReadSales()), "not_signed_in")
	requireProblem(t, 400, owner.call(t, client.ReadSales().WithQuery("showId", "x")), "uuid")
	requireProblem(t, 400, owner.call(t, client.ReadSales().WithQuery("format", "xml")), "invalid")
}

func TestSales_ASellerSeesTheOwnListingsAndShows(t *testing.T) {
	t.Parallel()
	s := pooledStack(t, nil)
	owner, other, buyer := s.signUp(t), s.signUp(t), s.signUp(t)
	other.list(t, "Not mine", 1500)
	other.announce(t, newShow(inDays(30)))
	var tickets, shows []string // newest first
	for range 5 {
		show := owner.announce(t, newShow(inDays(30)))
		shows = append([]string{show.ID}, shows...)
		tickets = append([]string{owner.listPlace(t, client.Offer{ShowID: show.ID, Price: 1500}).ID}, tickets...)
	}
	buyer.buy(t, tickets[0])
	s.ticketBecomes(t, "sold", tickets[0])
	requireStatus(t, 204, owner.call(t, client.DeleteTicket(tickets[2])))
	requireStatus(t, 204, owner.call(t, client.CancelShow(shows[4])))
	eventually(t, "the ticket of the cancelled show is revoked", func() bool { return s.call(t, client.ReadTicket(tickets[4])).Status == 404 })
	tickets = []string{tickets[0], tickets[1], tickets[3]}

	require.Equal(t, tickets, listedIDs(t, owner, client.ReadOwnTickets().WithQuery("limit", 2)))
	require.Equal(t, tickets[1:2], listedIDs(t, owner, client.ReadOwnTickets().WithQuery("limit", 2).WithQuery("showId", shows[1])))
	require.Equal(t, shows, listedIDs(t, owner, client.ReadOwnShows().WithQuery("limit", 2)))
	require.Empty(t, listedIDs(t, buyer, client.ReadOwnTickets()))
	requireProblem(t, 401, s.call(t, client.ReadOwnTickets()), "not_signed_in")
	requireProblem(t, 401, s.call(t, client.ReadOwnShows()), "not_signed_in")
	requireProblem(t, 400, owner.call(t, client.ReadTickets().WithQuery("seller", other.ID)), "invalid")
	requireProblem(t, 400, owner.call(t, client.ReadShows().WithQuery("owner", other.ID)), "invalid")
	requireProblem(t, 400, owner.call(t, client.ReadOwnTickets().WithQuery("showId", "x")), "uuid")
	requireProblem(t, 400, owner.call(t, client.ReadTickets().WithQuery("showId", shows[1])), "invalid")
}

// listedIDs reads a list to its end.
func listedIDs(t testing.TB, u *testUser, r client.Request) (ids []string) {
	t.Helper()
	for r.Path != "" {
		page := u.call(t, r)
		requireStatus(t, 200, page)
		for _, entry := range decode[[]struct{ ID string }](t, page) {
			ids = append(ids, entry.ID)
		}
		r.Path = page.Next()
	}
	return ids
}

func TestSessions_APageSignsInWithCookiesAlone(t *testing.T) {
	t.Parallel()
	s := pooledStack(t, nil)
	email := newEmail()
	const only = "cookieOnly"
	isInCookies := func(status int, r client.Response) (token, refresh string) {
		t.Helper()
		requireStatus(t, status, r)
		require.NotContains(t, string(r.Body), "oken")
		for _, name := range []string{"jwt", "refresh"} {
			require.NotNil(t, r.Cookie(name), name)
			require.True(t, r.Cookie(name).HttpOnly)
			require.NotContains(t, string(r.Body), r.Cookie(name).Value)
		}
		return r.Cookie("jwt").Value, r.Cookie("refresh").Value
	}
	isInCookies(201, s.request(t, "POST", "/api/users/signup", map[string]any{"email": email, "password": password, only: true}))
	_, refresh := isInCookies(200, s.request(t, "POST", "/api/users/signin", map[string]any{"email": email, "password": password, only: true}))
	token, _ := isInCookies(200, s.call(t, newRequest("POST", "/api/users/refresh", map[string]any{only: true}).WithCookie("refresh", refresh)))
	listed := s.call(t, client.ListTicket("By cookie", 1500).WithCookie("jwt", token))
	requireStatus(t, 201, listed)
	token, _ = isInCookies(200, s.call(t, newRequest("POST", "/api/users/password",
		map[string]any{"oldPassword": password, "newPassword": "battery staple", only: true}).WithCookie("jwt", token)))
	own := s.call(t, client.ReadOwnTickets().WithCookie("jwt", token))
	requireStatus(t, 200, own)
	require.Len(t, decode[[]client.Ticket](t, own), 1)
}
