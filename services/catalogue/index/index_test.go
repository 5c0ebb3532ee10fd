package index

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/id"
)

var noon = time.Date(2030, 6, 1, 12, 0, 0, 0, time.UTC)

// fixture is an index at a time that a test chooses.
type fixture struct {
	*Index
	now   time.Time
	batch uint64
}

func newFixture(t require.TestingT) *fixture {
	f := &fixture{now: noon}
	index, err := New(func() time.Time { return f.now })
	require.NoError(t, err)
	f.Index = index
	return f
}

func fixtureOf(t *testing.T) *fixture {
	f := newFixture(t)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f
}

// apply applies changes of the types of Change's members.
func (f *fixture) apply(changes ...any) []Update {
	f.batch++
	var all []Change
	for _, c := range changes {
		switch c := c.(type) {
		case Show:
			all = append(all, Change{Show: &c})
		case Listing:
			all = append(all, Change{Listing: &c})
		case Reservation:
			all = append(all, Change{Reservation: &c})
		default:
			panic(fmt.Sprintf("%T", c))
		}
	}
	return f.Apply(f.batch, all)
}

func (f *fixture) search(t require.TestingT, q Query) Page {
	require.NoError(t, f.Flush(context.Background()))
	if q.Limit == 0 {
		q.Limit = 100
	}
	page, err := f.Search(q)
	require.NoError(t, err)
	return page
}

func showID(n int) id.Show     { return id.Show(fmt.Sprintf("01990c3f-6a00-7abc-8def-%012d", n)) }
func ticketID(n int) id.Ticket { return id.Ticket(fmt.Sprintf("01990c3f-6a00-7abc-8eee-%012d", n)) }

// aShow starts n days after noon.
func aShow(n int) Show {
	return Show{
		ID: showID(n), Name: fmt.Sprintf("Show %d", n), Venue: "Hallenstadion", City: "Zürich", Country: "CH", StartsAt: noon.AddDate(0, 0, n),
		TimeZone: "Europe/Zurich", Category: "music", UserID: "owner", Version: 1, CreatedAt: noon, UpdatedAt: noon,
	}
}

func aListing(n int, of Show, price int64) Listing {
	return Listing{
		ID: ticketID(n), ShowID: of.ID, Title: of.Name, Price: price, Currency: "usd", UserID: "owner", SalesEndAt: of.StartsAt,
		Status: Available, Version: 1, CreatedAt: noon.Add(time.Duration(n) * time.Second), UpdatedAt: noon,
	}
}

func names(page Page) []string {
	names := []string{}
	for _, s := range page.Shows {
		names = append(names, s.Name)
	}
	return names
}

func idsOf(listings []Listing) []id.Ticket {
	ids := []id.Ticket{}
	for _, l := range listings {
		ids = append(ids, l.ID)
	}
	return ids
}

func TestIndex_AReservationLowersWhatIsLeftAndItsEndRaisesIt(t *testing.T) {
	f := fixtureOf(t)
	show := aShow(1)
	updates := f.apply(show, aListing(1, show, 50), aListing(2, show, 40))
	require.Equal(t, []Update{
		{Position{1, 0}, ShowUpdated, show.ID, "", 0, "", nil, 0, noPrice},
		{Position{1, 1}, ListingNew, show.ID, ticketID(1), 50, "usd", nil, 1, 50},
		{Position{1, 2}, ListingNew, show.ID, ticketID(2), 40, "usd", nil, 2, 40},
	}, updates)

	updates = f.apply(Reservation{TicketID: ticketID(2), Sequence: 1, Status: Reserved})
	require.Equal(t, []Update{{Position{2, 0}, ListingReserved, show.ID, ticketID(2), 40, "usd", nil, 1, 50}}, updates)
	found, _, ok := f.Show(show.ID)
	require.True(t, ok)
	require.Equal(t, Found{Show: found.Show, Left: 1, PriceFrom: 50, Currency: "usd"}, found)

	require.Empty(t, f.apply(Reservation{TicketID: ticketID(2), Sequence: 1, Status: Reserved}), "a repeat")
	updates = f.apply(Reservation{TicketID: ticketID(2), Sequence: 2, Status: Available})
	require.Equal(t, []Update{{Position{4, 0}, ListingFree, show.ID, ticketID(2), 40, "usd", nil, 2, 40}}, updates)
	updates = f.apply(Reservation{TicketID: ticketID(2), Sequence: 4, Status: Sold}, Reservation{TicketID: ticketID(2), Sequence: 3, Status: Reserved})
	require.Equal(t, []Update{{Position{5, 0}, ListingSold, show.ID, ticketID(2), 40, "usd", nil, 1, 50}}, updates)
}

func TestIndex_UpdatesOfAListing(t *testing.T) {
	show := aShow(1)
	offered := aListing(1, show, 50)
	offered.Place = &Place{Section: "A", Number: "7"}
	changed := offered
	changed.Version, changed.Price = 2, 60
	deleted := Listing{ID: offered.ID, Version: 3, Deleted: true, Status: Available}
	withheld := Reservation{TicketID: offered.ID, Sequence: 9, Status: Withheld}
	reserved := Reservation{TicketID: offered.ID, Sequence: 1, Status: Reserved}
	sold := Reservation{TicketID: offered.ID, Sequence: 2, Status: Sold}
	again := changed
	again.Sequence = 9
	moved := offered
	moved.Version, moved.SalesEndAt = 2, noon
	for _, test := range []struct {
		name   string
		before []any
		change any
		kind   Kind
	}{
		{"new", []any{show}, offered, ListingNew},
		{"changed", []any{show, offered}, changed, ListingChanged},
		{"deleted", []any{show, offered}, deleted, ListingWithdrawn},
		{"deleted while it is reserved", []any{show, offered, reserved}, deleted, ListingWithdrawn},
		{"deleted again", []any{show, deleted}, Listing{ID: offered.ID, Version: 4, Deleted: true}, ""},
		{"reserved", []any{show, offered}, reserved, ListingReserved},
		{"reserved before it is listed", []any{show}, reserved, ""},
		{"listed after it was reserved", []any{show, reserved}, offered, ""},
		{"sold", []any{show, offered, reserved}, sold, ListingSold},
		{"refunded", []any{show, offered, reserved, sold}, withheld, ""},
		{"offered again by the seller", []any{show, offered, withheld}, again, ListingFree},
		{"the sale has ended", []any{show, offered}, moved, ListingWithdrawn},
		{"the show is not known", []any{}, offered, ""},
		{"the show is cancelled", []any{cancelled(show), offered}, reserved, ""},
		{"no show", nil, Listing{ID: offered.ID, Version: 1, Status: Available}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := fixtureOf(t)
			f.apply(test.before...)
			updates := f.apply(test.change)
			if test.kind == "" {
				require.Empty(t, updates)
				return
			}
			require.Len(t, updates, 1)
			require.Equal(t, test.kind, updates[0].Kind)
			require.Equal(t, show.ID, updates[0].Show)
			require.Equal(t, offered.Place, updates[0].Place)
			require.NotZero(t, updates[0].Price)
		})
	}
}

func cancelled(show Show) Show {
	show.Cancelled = true
	show.Version++
	return show
}

func TestIndex_ACancelledShowIsGoneWithItsListings(t *testing.T) {
	f := fixtureOf(t)
	show := aShow(1)
	f.apply(show, aListing(1, show, 50))
	require.Equal(t, []Update{{Position{2, 0}, ShowCancelled, show.ID, "", 0, "", nil, 0, 0}}, f.apply(cancelled(show)))
	require.Empty(t, f.apply(cancelled(show)), "a repeat")
	require.Zero(t, f.search(t, Query{}).Total)
	_, _, ok := f.Show(show.ID)
	require.False(t, ok)
	_, _, ok, err := f.Listings(show.ID, nil, 10, "")
	require.NoError(t, err)
	require.False(t, ok)
	newest, _, err := f.Newest(10, "")
	require.NoError(t, err)
	require.Empty(t, newest)
}

func TestIndex_AShowThatStartsIsGoneByItself(t *testing.T) {
	f := fixtureOf(t)
	show, later := aShow(1), aShow(2)
	f.apply(show, later, aListing(1, show, 50), aListing(2, later, 50))
	require.Equal(t, 2, f.search(t, Query{}).Total)
	f.now = show.StartsAt
	require.Equal(t, []string{later.Name}, names(f.search(t, Query{})))
	newest, _, err := f.Newest(10, "")
	require.NoError(t, err)
	require.Equal(t, []id.Ticket{ticketID(2)}, idsOf(newest))
	f.tidy()
	require.Equal(t, 1, f.newest.size())
}

func TestIndex_AListingWhoseSaleEndsBeforeItsShowIsNotLeft(t *testing.T) {
	f := fixtureOf(t)
	show := aShow(1)
	f.apply(show, aListing(1, show, 50), aListing(2, show, 60))
	postponed := show
	postponed.Version, postponed.StartsAt = 2, show.StartsAt.AddDate(0, 0, 1)
	f.apply(postponed)
	f.now = show.StartsAt
	require.Zero(t, f.search(t, Query{}).Shows[0].Left, "tickets have not followed the show yet")
	followed := aListing(2, postponed, 60)
	followed.Version = 2
	updates := f.apply(followed)
	require.Equal(t, ListingFree, updates[0].Kind)
	require.Equal(t, 1, updates[0].Left)
}

func TestIndex_AShowThatIsUpdatedKeepsWhatIsLeft(t *testing.T) {
	f := fixtureOf(t)
	show := aShow(1)
	f.apply(aListing(1, show, 50))
	require.Zero(t, f.search(t, Query{}).Total, "the show is not known yet")
	newest, _, err := f.Newest(10, "")
	require.NoError(t, err)
	require.Empty(t, newest)
	f.apply(show)
	require.Equal(t, 1, f.search(t, Query{}).Shows[0].Left)
	newest, _, err = f.Newest(10, "")
	require.NoError(t, err)
	require.Len(t, newest, 1)
	renamed := show
	renamed.Version, renamed.Name = 2, "Another name"
	f.apply(renamed)
	page := f.search(t, Query{Text: "another"})
	require.Equal(t, []string{"Another name"}, names(page))
	require.Equal(t, 1, page.Shows[0].Left)
	require.Zero(t, f.search(t, Query{Text: "show"}).Total)
}

func TestIndex_SectionsAndTheirListings(t *testing.T) {
	f := fixtureOf(t)
	show := aShow(1)
	f.apply(show)
	for i, section := range []string{"B", "A", "", "B"} {
		listing := aListing(i, show, int64(40-i))
		if section != "" {
			listing.Place = &Place{Section: section, Row: "1", Number: fmt.Sprint(i)}
		}
		f.apply(listing)
	}
	_, sections, _ := f.Show(show.ID)
	require.Equal(t, []Section{{"", 1, 38}, {"A", 1, 39}, {"B", 2, 37}}, sections)
	all, next, _, err := f.Listings(show.ID, nil, 3, "")
	require.NoError(t, err)
	require.Equal(t, []id.Ticket{ticketID(3), ticketID(2), ticketID(1)}, idsOf(all))
	rest, last, _, err := f.Listings(show.ID, nil, 3, next)
	require.NoError(t, err)
	require.Equal(t, []id.Ticket{ticketID(0)}, idsOf(rest))
	require.Empty(t, last)
	inB, _, _, err := f.Listings(show.ID, new("B"), 3, "")
	require.NoError(t, err)
	require.Equal(t, []id.Ticket{ticketID(3), ticketID(0)}, idsOf(inB))
	inC, _, ok, err := f.Listings(show.ID, new("C"), 3, "")
	require.NoError(t, err)
	require.True(t, ok)
	require.Empty(t, inC)
	f.apply(Reservation{TicketID: ticketID(1), Sequence: 1, Status: Reserved})
	_, sections, _ = f.Show(show.ID)
	require.Equal(t, []Section{{"", 1, 38}, {"B", 2, 37}}, sections)
}

func TestIndex_NewestHasListingsWithoutAShow(t *testing.T) {
	f := fixtureOf(t)
	for i := range 5 {
		f.apply(Listing{ID: ticketID(i), Title: "A ticket", Price: 10, Currency: "usd", Status: Available, Version: 1, CreatedAt: noon.Add(time.Duration(i) * time.Hour)})
	}
	f.apply(Reservation{TicketID: ticketID(3), Sequence: 1, Status: Reserved})
	first, next, err := f.Newest(2, "")
	require.NoError(t, err)
	require.Equal(t, []id.Ticket{ticketID(4), ticketID(2)}, idsOf(first))
	second, next, err := f.Newest(2, next)
	require.NoError(t, err)
	require.Equal(t, []id.Ticket{ticketID(1), ticketID(0)}, idsOf(second))
	require.Empty(t, next)
	_, _, err = f.Newest(2, "t.1."+string(ticketID(1)))
	require.ErrorIs(t, err, ErrCursor)
}

func TestIndex_OldEntriesAreDropped(t *testing.T) {
	f := fixtureOf(t)
	show, off, later := aShow(1), aShow(2), aShow(400)
	cancelledShow := cancelled(off)
	gone := aListing(2, later, 5)
	f.apply(show, off, cancelledShow, later, aListing(1, show, 50), gone, aListing(3, off, 10), aListing(4, later, 20),
		Listing{ID: gone.ID, Version: 2, Deleted: true, UpdatedAt: noon},
		Reservation{TicketID: ticketID(5), Sequence: 1, Status: Reserved, At: noon},
		Listing{ID: ticketID(6), Version: 1, Status: Available, UpdatedAt: noon}, Reservation{TicketID: ticketID(6), Sequence: 1, Status: Sold, At: noon},
		Listing{ID: ticketID(7), Version: 1, Status: Available, UpdatedAt: noon})
	tidyAll := func() {
		for range MaxChunks / tidyBuckets {
			f.tidy()
		}
	}
	f.now = noon.Add(keepFor)
	tidyAll()
	shows, listings, available := f.Stats()
	require.Equal(t, []int{3, 7, 2}, []int{shows, listings, available})
	f.now = off.StartsAt.Add(keepFor + time.Millisecond)
	tidyAll()
	shows, listings, available = f.Stats()
	require.Equal(t, []int{1, 2, 2}, []int{shows, listings, available})
	require.Equal(t, []string{later.Name}, names(f.search(t, Query{})))
	require.Equal(t, 1, f.search(t, Query{}).Shows[0].Left)
}

func TestIndex_EntriesMakeTheSameIndexAgain(t *testing.T) {
	f := fixtureOf(t)
	var all []any
	for i := range 50 {
		show := aShow(i + 1)
		all = append(all, show, aListing(i, show, int64(i)), Reservation{TicketID: ticketID(i), Sequence: i % 3, Status: Reserved, At: noon})
	}
	all = append(all, Listing{ID: ticketID(7), Version: 2, Deleted: true, UpdatedAt: noon})
	f.apply(all...)
	for _, of := range []int{1, 8, MaxChunks} {
		again := fixtureOf(t)
		for chunk := range of {
			entries := f.Entries(chunk, of)
			for _, e := range entries {
				require.Equal(t, chunk, chunkOf(e, of))
			}
			again.Apply(0, entries)
		}
		require.Equal(t, entriesOf(f.Index), entriesOf(again.Index))
		require.Equal(t, f.search(t, Query{}), again.search(t, Query{}))
	}
	require.Panics(t, func() { f.Entries(0, 3) })
}

// chunkOf returns the chunk of Entries that has what the change is about.
func chunkOf(change Change, of int) int {
	switch {
	case change.Show != nil:
		return bucketOf(change.Show.ID) % of
	case change.Listing != nil:
		return bucketOf(change.Listing.ID) % of
	case change.Reservation != nil:
		return bucketOf(change.Reservation.TicketID) % of
	}
	return 0
}

// entriesOf are all entries in an order.
func entriesOf(x *Index) []Change {
	entries := x.Entries(0, 1)
	slices.SortFunc(entries, func(a, b Change) int { return cmp.Compare(nameOf(a), nameOf(b)) })
	return entries
}

func nameOf(c Change) string {
	switch {
	case c.Show != nil:
		return "show " + string(c.Show.ID)
	case c.Listing != nil:
		return "listing " + string(c.Listing.ID)
	}
	return "reservation " + string(c.Reservation.TicketID)
}

func TestIndex_ReplaceTakesOverAllOfAnother(t *testing.T) {
	f := fixtureOf(t)
	f.apply(aShow(1))
	require.Equal(t, []string{"Show 1"}, names(f.search(t, Query{Text: "show"})))
	other := newFixture(t)
	other.apply(aShow(2))
	require.NoError(t, f.Replace(other.Index))
	require.Equal(t, []string{"Show 2"}, names(f.search(t, Query{Text: "show"})))
	require.Equal(t, []string{"Show 2"}, names(f.search(t, Query{})))
}
