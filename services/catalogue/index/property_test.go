package index

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"boxoffice/services/internal/id"
)

// model is the read model as its rules are written: it keeps the newest of each change, and computes all else anew each time.
type model struct {
	shows        map[id.Show]Show
	listings     map[id.Ticket]Listing
	reservations map[id.Ticket]Reservation
}

func (m *model) apply(c Change) {
	switch {
	case c.Show != nil && c.Show.Version > m.shows[c.Show.ID].Version:
		m.shows[c.Show.ID] = *c.Show
	case c.Listing != nil && c.Listing.Version > m.listings[c.Listing.ID].Version:
		m.listings[c.Listing.ID] = *c.Listing
	case c.Reservation != nil && c.Reservation.Sequence > m.reservations[c.Reservation.TicketID].Sequence:
		m.reservations[c.Reservation.TicketID] = *c.Reservation
	}
}

func (m *model) isOpen(s Show, now time.Time) bool {
	return s.Version > 0 && !s.Cancelled && s.StartsAt.After(now)
}

// available returns the available listings, of one show or, with "", of all.
func (m *model) available(of id.Show, now time.Time) (available []Listing) {
	for _, l := range m.listings {
		status := l.Status
		if r := m.reservations[l.ID]; r.Sequence > l.Sequence {
			status = r.Status
		}
		if (of == "" || l.ShowID == of) && status == Available && !l.Deleted && (l.SalesEndAt.IsZero() || l.SalesEndAt.After(now)) &&
			(l.ShowID == "" || m.isOpen(m.shows[l.ShowID], now)) {
			available = append(available, l)
		}
	}
	return available
}

// search is a search without facets and typos.
func (m *model) search(q Query, now time.Time) (found []Found) {
	for _, s := range m.shows {
		available := m.available(s.ID, now)
		if !m.isOpen(s, now) || q.City != "" && fold(s.City) != fold(q.City) || q.Available && len(available) == 0 ||
			q.Text != "" && !slices.Contains(searchable(&s), q.Text) || q.From.kind == timeBound && s.StartsAt.UnixMilli() < q.From.time {
			continue
		}
		f := Found{Show: &s, Left: len(available)}
		if len(available) > 0 {
			cheapest := slices.MinFunc(available, func(a, b Listing) int { return cmp.Or(cmp.Compare(a.Price, b.Price), cmp.Compare(a.ID, b.ID)) })
			f.PriceFrom, f.Currency = cheapest.Price, cheapest.Currency
		}
		found = append(found, f)
	}
	slices.SortFunc(found, func(a, b Found) int {
		byPrice := 0
		if q.Sort == ByPrice {
			byPrice = cmp.Or(cmp.Compare(min(a.Left, 1), min(b.Left, 1))*-1, cmp.Compare(a.PriceFrom, b.PriceFrom))
		}
		return cmp.Or(byPrice, a.StartsAt.Compare(b.StartsAt), cmp.Compare(a.ID, b.ID))
	})
	return found
}

// history generates the changes of a few shows and tickets as their services publish them: versions and sequences grow.
func history(t *rapid.T) (changes []Change) {
	cities := []string{"Zürich", "zurich", "Bern"}
	for n := range rapid.IntRange(1, 4).Draw(t, "shows") {
		show := aShow(n + 1)
		show.StartsAt = noon.Add(time.Duration(rapid.IntRange(-1, 4).Draw(t, "starts")) * time.Hour)
		for version := 1; version <= rapid.IntRange(1, 3).Draw(t, "versions"); version++ {
			show.Version = version
			show.City = rapid.SampledFrom(cities).Draw(t, "city")
			show.Name = rapid.SampledFrom([]string{"Hamlet", "Rock Night", "Opera"}).Draw(t, "name")
			if rapid.Bool().Draw(t, "moved") {
				show.StartsAt = noon.Add(time.Duration(rapid.IntRange(-1, 4).Draw(t, "starts")) * time.Hour)
			}
			show.Cancelled = show.Cancelled || rapid.IntRange(0, 5).Draw(t, "cancelled") == 0
			changes = append(changes, Change{Show: new(show)})
		}
	}
	statuses := rapid.SampledFrom([]Status{Available, Reserved, Sold, Withheld})
	for n := range rapid.IntRange(0, 8).Draw(t, "tickets") {
		listing := aListing(n, aShow(rapid.IntRange(1, 4).Draw(t, "of")), 0)
		listing.CreatedAt = noon.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "listed")) * time.Second)
		if rapid.IntRange(0, 3).Draw(t, "without a show") == 0 {
			listing.ShowID = ""
		} else if rapid.IntRange(0, 2).Draw(t, "a resale, if 0") == 0 {
			listing.ResaleOf = ticketID(n + 100)
		}
		if rapid.Bool().Draw(t, "with a place") {
			listing.Place = &Place{Section: rapid.SampledFrom([]string{"A", "B"}).Draw(t, "section"), Number: fmt.Sprint(n)}
		}
		sequence := 0
		for version := 1; version <= rapid.IntRange(0, 3).Draw(t, "versions"); version++ {
			listing.Version = version
			listing.Price = rapid.Int64Range(1, 3).Draw(t, "price")
			sequence += rapid.IntRange(0, 1).Draw(t, "sequence")
			listing.Sequence, listing.Status = sequence, statuses.Draw(t, "status")
			listing.SalesEndAt = time.Time{}
			if rapid.Bool().Draw(t, "ends") {
				listing.SalesEndAt = noon.Add(time.Duration(rapid.IntRange(-1, 4).Draw(t, "end")) * time.Hour)
			}
			listing.Deleted = rapid.IntRange(0, 4).Draw(t, "deleted") == 0
			changes = append(changes, Change{Listing: new(listing)})
		}
		for next := range rapid.IntRange(0, 4).Draw(t, "reservations") {
			changes = append(changes, Change{Reservation: &Reservation{TicketID: listing.ID, Sequence: next + 1, Status: statuses.Draw(t, "status"), At: noon}})
		}
	}
	return changes
}

// Whatever the order and the repeats in which changes are applied, and whenever: the index has what the model has.
func TestIndex_AnyOrderOfChangesMakesTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newFixture(t)
		defer func() { require.NoError(t, f.Close()) }()
		m := &model{map[id.Show]Show{}, map[id.Ticket]Listing{}, map[id.Ticket]Reservation{}}
		changes := history(t)
		changes = append(changes, changes...)
		changes = rapid.Permutation(changes).Draw(t, "order")
		for len(changes) > 0 {
			n := rapid.IntRange(1, len(changes)).Draw(t, "batch")
			f.batch++
			f.Apply(f.batch, changes[:n])
			for _, c := range changes[:n] {
				m.apply(c)
			}
			changes = changes[n:]
			if rapid.Bool().Draw(t, "later") {
				f.now = f.now.Add(30 * time.Minute)
			}
			if rapid.Bool().Draw(t, "tidy") {
				f.tidy()
			}
			compare(t, f, m)
		}
		again := newFixture(t)
		defer func() { require.NoError(t, again.Close()) }()
		again.now = f.now
		again.Apply(1, f.Entries(0, 1))
		compare(t, again, m)
		require.Equal(t, entriesOf(f.Index), entriesOf(again.Index))
	})
}

// compare compares all that can be read.
func compare(t *rapid.T, f *fixture, m *model) {
	for _, text := range []string{"", "hamlet"} {
		for _, sort := range []Sort{ByDate, ByPrice} {
			for _, q := range []Query{{}, {City: "Zurich"}, {Available: true}, {From: AtTime(noon.Add(2 * time.Hour))}} {
				q.Text, q.Sort = text, sort
				got, want := f.search(t, q), m.search(q, f.now)
				require.Equal(t, len(want), got.Total, "%+v", q)
				require.Len(t, got.Shows, len(want))
				for i := range want {
					require.Equal(t, *want[i].Show, *got.Shows[i].Show)
					want[i].Show, got.Shows[i].Show = nil, nil
				}
				require.Equal(t, want, slices.Concat(want[:0:0], got.Shows), "%+v", q)
				compareFacets(t, got.Facets, m, q, f.now)
			}
		}
	}
	available := m.available("", f.now)
	slices.SortFunc(available, func(a, b Listing) int { return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(b.ID, a.ID)) })
	newest, _, err := f.Newest(100, "")
	require.NoError(t, err)
	require.Equal(t, available, newest)
	for n := range 5 {
		of := showID(n)
		_, sections, ok := f.Show(of)
		require.Equal(t, m.isOpen(m.shows[of], f.now), ok)
		if !ok {
			continue
		}
		want := m.available(of, f.now)
		slices.SortFunc(want, func(a, b Listing) int { return cmp.Or(cmp.Compare(a.Price, b.Price), cmp.Compare(a.ID, b.ID)) })
		got, _, _, err := f.Listings(of, nil, 100, "")
		require.NoError(t, err)
		require.Equal(t, want, got)
		for _, s := range sections {
			inSection, _, _, err := f.Listings(of, &s.Name, 100, "")
			require.NoError(t, err)
			require.Equal(t, slices.DeleteFunc(slices.Clone(want), func(l Listing) bool {
				return l.Place == nil && s.Name != "" || l.Place != nil && l.Place.Section != s.Name
			}), inSection)
			require.Equal(t, Section{s.Name, len(inSection), inSection[0].Price}, s)
		}
	}
}

// compareFacets compares the cities, which ignore the filter of the city, and the categories, which do not.
func compareFacets(t *rapid.T, got Facets, m *model, q Query, now time.Time) {
	count := func(shows []Found, of func(*Show) string) map[string]int {
		counts := map[string]int{}
		for _, s := range shows {
			counts[fold(of(s.Show))]++
		}
		return counts
	}
	counted := func(values []FacetValue) map[string]int {
		counts := map[string]int{}
		for _, v := range values {
			counts[fold(v.Value)] += v.Count
		}
		return counts
	}
	require.Equal(t, count(m.search(q, now), func(s *Show) string { return s.Category }), counted(got.Categories))
	q.City = ""
	require.Equal(t, count(m.search(q, now), func(s *Show) string { return s.City }), counted(got.Cities))
	require.True(t, slices.IsSortedFunc(got.Cities, func(a, b FacetValue) int { return cmp.Or(b.Count-a.Count, strings.Compare(a.Value, b.Value)) }))
}

// Updates are enough to follow a show: who begins with the available listings and takes each update has the available listings at
// the end.
func TestIndex_UpdatesAreEnoughToFollowAShow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newFixture(t)
		defer func() { require.NoError(t, f.Close()) }()
		following := map[id.Show]map[id.Ticket]int64{}
		for _, c := range rapid.Permutation(history(t)).Draw(t, "order") {
			f.batch++
			for _, u := range f.Apply(f.batch, []Change{c}) {
				require.Equal(t, Position{f.batch, 0}, u.Position)
				if u.Ticket == "" {
					delete(following, u.Show)
					if listings, _, ok, _ := f.Listings(u.Show, nil, 100, ""); ok { // the client reads the show again
						following[u.Show] = map[id.Ticket]int64{}
						for _, l := range listings {
							following[u.Show][l.ID] = l.Price
						}
					}
					continue
				}
				switch u.Kind {
				case ListingNew, ListingChanged, ListingFree:
					following[u.Show][u.Ticket] = u.Price
				default:
					delete(following[u.Show], u.Ticket)
				}
				require.Len(t, following[u.Show], u.Left)
			}
			for of, known := range following {
				listings, _, ok, err := f.Listings(of, nil, 100, "")
				require.NoError(t, err)
				require.True(t, ok)
				require.Len(t, listings, len(known))
				for _, l := range listings {
					require.Equal(t, l.Price, known[l.ID])
				}
			}
		}
	})
}
