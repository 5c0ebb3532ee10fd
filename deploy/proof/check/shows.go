package check

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/runes"
	"golang.org/x/text/transform"
	"golang.org/x/text/unicode/norm"

	"boxoffice/deploy/proof/client"
)

// Facts and rules about shows, their tickets, and the catalogue's read model of them.

const (
	catalogueApp = "catalogue"
	// nearStart is how near to the start of a show its sale may be ending: one replica may see it start before another.
	nearStart = 10 * time.Second
	// pagesOfShows is of how many shows the pages of tickets are read; the page of all available tickets has those of all shows.
	pagesOfShows = 300
	// cataloguePage is the longest page of the catalogue.
	cataloguePage = 100
	// mostFacetValues is how many values the catalogue counts in a facet: those with the most shows.
	mostFacetValues = 50
	// searchTime bounds the wait for shows that a search does not find yet. The catalogue writes their words up to a moment after the rest.
	searchTime  = 5 * time.Second
	searchPause = 50 * time.Millisecond
)

type showDoc struct { // of catalogue; its events have the same members, with a status
	ID          string     `json:"id"`
	Name        string     `json:"name"`
	Venue       string     `json:"venue"`
	City        string     `json:"city"`
	Country     string     `json:"country"`
	StartsAt    time.Time  `json:"startsAt"`
	TimeZone    string     `json:"timeZone"`
	Category    string     `json:"category"`
	Description string     `json:"description"`
	MaxMarkup   *int       `json:"maxMarkup"`
	UserID      string     `json:"userId"` // the owner
	Cancelled   bool       `json:"cancelled"`
	Version     int        `json:"version"`
	Image       *showImage `json:"image"`
}

type showImage struct { // the ID is in the document alone
	ID     string `json:"id"`
	Width  int    `json:"width"`
	Height int    `json:"height"`
}

// shown is the show as the catalogue must have it, without what is left.
func (s showDoc) shown() client.Show {
	shown := client.Show{
		ID: s.ID, Name: s.Name, Venue: s.Venue, City: s.City, Country: s.Country, StartsAt: s.StartsAt, TimeZone: s.TimeZone, Category: s.Category,
		Description: s.Description, MaxMarkup: s.MaxMarkup, Status: "scheduled", UserID: s.UserID, Version: s.Version,
	}
	if s.Image != nil {
		shown.Image = &client.ShowImage{URL: "/api/shows/" + s.ID + "/images/" + s.Image.ID, Width: s.Image.Width, Height: s.Image.Height}
	}
	return shown
}

// sameShow compares all that a show's owner decides. The times of its changes are not compared.
func sameShow(a, b client.Show) bool {
	if !a.StartsAt.Equal(b.StartsAt) || !samePointed(a.MaxMarkup, b.MaxMarkup) || !samePointed(a.Image, b.Image) {
		return false
	}
	for _, s := range []*client.Show{&a, &b} {
		s.StartsAt, s.CreatedAt, s.UpdatedAt, s.MaxMarkup, s.Image = time.Time{}, time.Time{}, time.Time{}, nil, nil
	}
	return a == b
}

// samePointed reports whether both point to the same value, or to none.
func samePointed[T comparable](a, b *T) bool { return a == b || a != nil && b != nil && *a == *b }

// place is where the holder of a ticket sits or stands, in documents and events.
type place struct {
	Section string `json:"section"`
	Row     string `json:"row"`
	Number  string `json:"number"`
}

// key is the same for places that count as one: upper and lower case, spaces, invisible characters and the ways to write a character in
// Unicode make no difference.
func (p place) key() string {
	invisible := runes.Predicate(func(r rune) bool {
		return unicode.In(r, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
	})
	same := func(text string) string {
		folded, _, _ := transform.String(transform.Chain(runes.Remove(invisible), norm.NFKC, cases.Fold(), norm.NFKC), text) // no step fails
		return strings.Join(strings.Fields(folded), " ")
	}
	return fmt.Sprintf("%q %q %q", same(p.Section), same(p.Row), same(p.Number))
}

func placeOf(p *client.Place) *place {
	if p == nil {
		return nil
	}
	return &place{p.Section, p.Row, p.Number}
}

func (p *place) String() string {
	if p == nil {
		return "none"
	}
	return fmt.Sprintf("section %q, row %q, number %q", p.Section, p.Row, p.Number)
}

func samePlace(a, b *place) bool { return samePointed(a, b) }

// catalogueFacts are the pages of one replica of the catalogue.
type catalogueFacts struct {
	replica string                          // its address
	shows   map[string]client.CatalogueShow // of all pages
	total   int
	facets  client.Facets
	tickets map[string]client.Ticket // that are available, with and without a show
	pages   map[string]showPages     // of some shows
	from    time.Time                // when it was read
	to      time.Time
}

// showPages are what the catalogue has of one show beside the search of all.
type showPages struct {
	tickets  []client.Ticket  // in the order of their pages
	sections []client.Section // with what is left in each
	found    bool             // by a search for its name
}

// readShows reads the documents of shows, if the catalogue runs.
func (r *reader) readShows(ctx context.Context, f *facts) error {
	if len(r.target.Sidecars[catalogueApp]) == 0 {
		return nil
	}
	ids, err := r.index(ctx, catalogueApp, "shows")
	if err != nil {
		return err
	}
	ids = append(ids, f.subjects("show.created")...)
	if f.history != nil {
		f.history.mu.Lock()
		ids = append(ids, slices.Collect(maps.Keys(f.history.shows))...)
		f.history.mu.Unlock()
	}
	f.shows, err = documents[showDoc](ctx, r, catalogueApp, "show/", ids)
	return err
}

// readCatalogues reads the pages of each replica of the catalogue.
func (r *reader) readCatalogues(ctx context.Context, f *facts) error {
	for _, address := range r.target.Services[catalogueApp] {
		c := catalogueFacts{replica: address, shows: map[string]client.CatalogueShow{}, tickets: map[string]client.Ticket{}, pages: map[string]showPages{}, from: time.Now()}
		for next := client.SearchShows().WithQuery("limit", cataloguePage); next.Path != ""; {
			response, err := r.request(ctx, []string{address}, next)
			page, err := client.Decode[client.Found](response, err)
			if err != nil {
				return fmt.Errorf("read the catalogue: %w", err)
			}
			for _, show := range page.Shows {
				c.shows[show.ID] = show
			}
			c.total, c.facets = page.Total, page.Facets
			next.Path = response.Next()
		}
		available, err := r.tickets(ctx, address, client.ReadAvailable().WithQuery("limit", cataloguePage))
		if err != nil {
			return fmt.Errorf("read the available tickets: %w", err)
		}
		for _, t := range available {
			c.tickets[t.ID] = t
		}
		patience := time.Now().Add(searchTime)
		for _, id := range slices.Sorted(maps.Keys(c.shows))[:min(pagesOfShows, len(c.shows))] {
			pages, err := r.showPages(ctx, address, c.shows[id].Show, patience)
			if client.Status(err) == http.StatusNotFound {
				continue // it has started, or was cancelled
			}
			if err != nil {
				return fmt.Errorf("read the pages of a show: %w", err)
			}
			c.pages[id] = pages
		}
		c.to = time.Now()
		f.catalogues = append(f.catalogues, c)
	}
	return nil
}

// showPages reads the pages of one show. Until patience, a search that does not find it is repeated.
func (r *reader) showPages(ctx context.Context, address string, show client.Show, patience time.Time) (pages showPages, err error) {
	if pages.tickets, err = r.tickets(ctx, address, client.ReadShowTickets(show.ID).WithQuery("limit", cataloguePage)); err != nil {
		return pages, err
	}
	response, err := r.request(ctx, []string{address}, client.ReadCatalogueShow(show.ID))
	one, err := client.Decode[client.CatalogueShow](response, err)
	if err != nil {
		return pages, err
	}
	pages.sections = one.Sections
	for {
		if pages.found, err = r.findsByName(ctx, address, show); err != nil || pages.found || time.Now().After(patience) {
			return pages, err
		}
		select {
		case <-time.After(searchPause):
		case <-ctx.Done():
			return pages, ctx.Err()
		}
	}
}

// findsByName reports whether a search for the name of a show has it, or may have it on a further page.
func (r *reader) findsByName(ctx context.Context, address string, show client.Show) (bool, error) {
	if !strings.ContainsFunc(show.Name, func(c rune) bool { return unicode.IsLetter(c) || unicode.IsNumber(c) }) {
		return true, nil // a search for signs alone finds nothing
	}
	at := show.StartsAt.UTC().Format(time.RFC3339Nano)
	search := client.SearchShows().WithQuery("q", url.QueryEscape(show.Name)).WithQuery("from", at).WithQuery("to", at).WithQuery("limit", cataloguePage)
	response, err := r.request(ctx, []string{address}, search)
	page, err := client.Decode[client.Found](response, err)
	if err != nil {
		return false, err
	}
	return response.Next() != "" || slices.ContainsFunc(page.Shows, func(s client.CatalogueShow) bool { return s.ID == show.ID }), nil
}

// tickets reads the pages of a list of tickets.
func (r *reader) tickets(ctx context.Context, address string, next client.Request) (all []client.Ticket, err error) {
	for next.Path != "" {
		response, err := r.request(ctx, []string{address}, next)
		page, err := client.Decode[[]client.Ticket](response, err)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		next.Path = response.Next()
	}
	return all, nil
}

// showVersions are the versions of a show, as they were published.
func (c *checker) showVersions(id string) (all []showDoc) {
	for _, e := range c.eventsOf[id] {
		if strings.HasPrefix(e.Type, "show.") {
			if s, err := decode[showDoc](e); err == nil {
				all = append(all, s)
			}
		}
	}
	return all
}

// Promise 1. A place with a number is of one listing and of one live order in its show, without resales. A ticket is resold by one listing at a
// time.
func (c *checker) onePlace() {
	resales := c.resales()
	listings, orders := map[string][]string{}, map[string][]string{}
	for _, id := range slices.Sorted(maps.Keys(c.tickets)) {
		t := c.tickets[id]
		if of, again := resales[id]; again && !t.Deleted {
			listings["of ticket "+of.TicketID] = append(listings["of ticket "+of.TicketID], id)
		} else if t.Seat != nil && t.Seat.Number != "" && !t.Deleted {
			at := t.ShowID + " " + t.Seat.key()
			listings[at] = append(listings[at], id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.orders)) {
		o := c.orders[id]
		if _, again := resales[o.Ticket.ID]; !again && o.placeKey() != "" && o.live() {
			orders[o.placeKey()] = append(orders[o.placeKey()], id)
		}
	}
	for at, ids := range listings {
		if len(ids) > 1 {
			c.violation(1, "place "+at, fmt.Sprintf("%d listings have it: %v", len(ids), ids), ids...)
		}
	}
	for at, ids := range orders {
		if len(ids) > 1 {
			c.violation(1, "place "+at, fmt.Sprintf("%d live orders have it: %v", len(ids), ids), ids...)
		}
	}
}

// Promise 2. A show that was acknowledged to its owner exists, and its versions are published as they were acknowledged (promise 5).
func (c *checker) acknowledgedShowsExist() {
	if c.history == nil {
		return
	}
	c.history.mu.Lock()
	defer c.history.mu.Unlock()
	for id, versions := range c.history.shows {
		if _, exists := c.shows[id]; !exists {
			c.violation(2, "show "+id, "it was acknowledged to its owner, and does not exist", id)
			continue
		}
		made := map[int]string{}
		for _, v := range versions {
			if other, twice := made[v.Version]; twice && other != v.Name {
				c.violation(5, "show "+id, fmt.Sprintf("two changes were both granted as version %d: %q and %q", v.Version, other, v.Name), id)
			}
			made[v.Version] = v.Name
			kind := "show.updated"
			if v.Version == 1 {
				kind = "show.created"
			}
			e, published := c.byID[fmt.Sprintf("%s:%s:%d", kind, id, v.Version)]
			if !published {
				if c.allEvents {
					c.violation(2, "show "+id, fmt.Sprintf("its version %d was acknowledged to its owner, and not published", v.Version), id)
				}
				continue
			}
			if s, err := decode[showDoc](e); err != nil || s.Name != v.Name {
				c.violation(5, "show "+id, fmt.Sprintf("version %d was acknowledged as %q, and published as %q", v.Version, v.Name, s.Name), id)
			}
		}
	}
	for id := range c.history.cancelled {
		if s, exists := c.shows[id]; exists && !s.Cancelled {
			c.violation(2, "show "+id, "its cancellation was acknowledged, and it is scheduled", id)
		}
	}
}

// Promise 2. Each version of a show is published, and nothing else.
func (c *checker) showsArePublished() {
	for id, s := range c.shows {
		for v := 1; v <= s.Version && c.allEvents; v++ {
			kind := "show.updated"
			switch {
			case v == s.Version && s.Cancelled:
				kind = "show.cancelled"
			case v == 1:
				kind = "show.created"
			}
			if !c.isPublished(kind, id, v) {
				c.violation(2, "show "+id, fmt.Sprintf("its version %d was not published", v), id)
			}
		}
	}
	for id, e := range c.byID {
		if !strings.HasPrefix(e.Type, "show.") || c.shows == nil {
			continue
		}
		switch s, exists := c.shows[e.Subject]; {
		case !exists:
			c.violation(2, e.Subject, id+" was published, and the aggregate does not exist", e.Subject)
		case e.version() > s.Version:
			c.violation(2, e.Subject, fmt.Sprintf("%s was published, and the last version is %d", id, s.Version), e.Subject)
		}
	}
}

// Promise 3. No order of a cancelled show is live. (That its money is given back follows from money.) Promise 6: its tickets are
// deleted, and sales of the others end when their show starts.
func (c *checker) ticketsFollowShows() {
	resales := c.resales()
	for id, o := range c.orders {
		if s, known := c.shows[o.Ticket.ShowID]; known && s.Cancelled && o.live() {
			c.violation(3, "order "+id, fmt.Sprintf("its show %s is cancelled, and it is %s", s.ID, o.Status), id, o.Ticket.ID, s.ID)
		}
	}
	for id, t := range c.tickets {
		s, known := c.shows[t.ShowID]
		switch {
		case t.ShowID == "" || c.shows == nil || t.Deleted:
		case !known:
			c.violation(6, "ticket "+id, fmt.Sprintf("its show %s does not exist", t.ShowID), id)
		case s.Cancelled:
			c.violation(6, "ticket "+id, fmt.Sprintf("its show %s is cancelled, and it is %s", s.ID, t.Status), id, s.ID)
		case !t.SalesEndAt.Equal(s.StartsAt):
			c.violation(6, "ticket "+id, fmt.Sprintf("its sales end at %s, and its show starts at %s", t.SalesEndAt, s.StartsAt), id, s.ID)
		case t.UserID != s.UserID && resales[id] == (resale{}):
			c.violation(6, "ticket "+id, "its seller is not the owner of its show", id, s.ID)
		}
		if seat, exists := c.seats[id]; exists && t.ShowID != "" && !t.Deleted && !t.withdrawn() &&
			(seat.ShowID != t.ShowID || !samePlace(seat.Seat, t.Seat) || !seat.SalesEndAt.Equal(t.SalesEndAt)) {
			c.violation(6, "ticket "+id, fmt.Sprintf("it has the show %q, the place %s and sales until %s, and in the orders service %q, %s and %s",
				t.ShowID, t.Seat, t.SalesEndAt, seat.ShowID, seat.Seat, seat.SalesEndAt), id)
		}
	}
}

// Promise 6. A show whose owner has deleted the account is cancelled, unless it has started: nobody else can check in its buyers.
func (c *checker) showsEndWithAccounts() {
	deleted := map[string]bool{}
	for _, user := range c.subjects("user.deleted") {
		deleted[user] = true
	}
	for id, s := range c.shows {
		if deleted[s.UserID] && !s.Cancelled && s.StartsAt.After(c.now) {
			c.violation(6, "show "+id, fmt.Sprintf("the account of its owner %s is deleted, and it is scheduled", s.UserID), id)
		}
	}
}

// Promise 1. No order was made after the start of its show, whichever of the show's versions the orders service had.
func (c *checker) salesEnd() {
	for id, o := range c.orders {
		var last time.Time
		for _, s := range c.showVersions(o.Ticket.ShowID) {
			last = latest(last, s.StartsAt)
		}
		jumped := slices.ContainsFunc(c.opts.Jumps, func(j Jump) bool {
			return j.of("orders") && (j.showed(o.CreatedAt) || !o.CreatedAt.Before(j.From.Add(-time.Second)) && o.CreatedAt.Before(j.To.Add(time.Second)))
		})
		if !last.IsZero() && !o.CreatedAt.Before(last) && !jumped {
			c.violation(1, "order "+id, fmt.Sprintf("it was made %s after its show had started", o.CreatedAt.Sub(last)), id, o.Ticket.ShowID)
		}
	}
}

// Promise 5. No price of a ticket exceeds the cap that its show had then: no version of the show allows a higher one than its highest
// cap.
func (c *checker) pricesAreCapped() {
	for id, e := range c.byID {
		if e.Type != "ticket.created" && e.Type != "ticket.updated" {
			continue
		}
		t, err := decode[ticketDoc](e)
		if err != nil || t.ShowID == "" {
			continue
		}
		highest := -1
		for _, s := range c.showVersions(t.ShowID) {
			if s.MaxMarkup == nil {
				highest = -1
				break
			}
			highest = max(highest, *s.MaxMarkup)
		}
		if highest >= 0 && 100*t.Price > t.FaceValue*int64(100+highest) {
			c.violation(5, "ticket "+e.Subject, fmt.Sprintf("%s has the price %d, its face value is %d, and its show allows %d %% more", id, t.Price, t.FaceValue, highest), e.Subject, t.ShowID)
		}
	}
}

// isOn reports whether a show is in the catalogue, and whether that is certain: near its start it may be there or not.
func (s showDoc) isOn(c catalogueFacts) (on, certain bool) {
	switch {
	case s.Cancelled || s.StartsAt.Before(c.from.Add(-nearStart)):
		return false, true
	case s.StartsAt.After(c.to.Add(nearStart)):
		return true, true
	}
	return false, false
}

// left is what can be bought of a show.
type left struct {
	tickets   int
	priceFrom int64
}

// Promise 6. The pages of each replica of the catalogue are what the owners have: the shows that are on, and the tickets that can be
// bought.
func (c *checker) catalogueIsTrue() {
	for _, replica := range c.catalogues {
		c.showsOfCatalogue(replica, c.ticketsOfCatalogue(replica))
	}
}

// ticketsOfCatalogue compares the available tickets, and returns what the owners have left of each show.
func (c *checker) ticketsOfCatalogue(replica catalogueFacts) map[string]left {
	all := map[string]left{}
	resales := c.resales()
	for id, t := range c.tickets {
		s, known := c.shows[t.ShowID]
		on, certain := true, true
		if t.ShowID != "" {
			on, certain = s.isOn(replica)
		}
		if !certain {
			continue
		}
		shown, is := replica.tickets[id]
		want := !t.Deleted && t.Status == "available" && on && (t.ShowID == "" || known)
		if want && t.ShowID != "" {
			of := all[t.ShowID]
			if of.tickets == 0 || t.Price < of.priceFrom {
				of.priceFrom = t.Price
			}
			of.tickets++
			all[t.ShowID] = of
		}
		switch {
		case want != is:
			c.violation(6, "ticket "+id, fmt.Sprintf("it is %s (deleted %t, show %q on %t), and the catalogue at %s has it: %t", t.Status, t.Deleted, t.ShowID, on, replica.replica, is), id, t.ShowID)
		case is && (shown.Title != t.Title || shown.Price != t.Price || shown.Currency != t.Currency || shown.UserID != t.UserID || shown.ShowID != t.ShowID ||
			shown.FaceValue != t.FaceValue || !samePlace(placeOf(shown.Seat), t.Seat) || shown.Status != t.Status):
			c.violation(6, "ticket "+id, fmt.Sprintf("it is %q for %d at %s, and in the catalogue at %s %q for %d at %s (%s)",
				t.Title, t.Price, t.Seat, replica.replica, shown.Title, shown.Price, placeOf(shown.Seat), shown.Status), id)
		case is && !shown.SalesEndAt.Equal(t.SalesEndAt):
			c.violation(6, "ticket "+id, fmt.Sprintf("its sales end at %s, and in the catalogue at %s at %s", t.SalesEndAt, replica.replica, shown.SalesEndAt), id)
		case is && shown.ResaleOf != resales[id].TicketID && c.allEvents:
			c.violation(6, "ticket "+id, fmt.Sprintf("it resells %q, and in the catalogue at %s %q", resales[id].TicketID, replica.replica, shown.ResaleOf), id)
		}
	}
	for id := range replica.tickets {
		if _, exists := c.tickets[id]; !exists {
			c.violation(6, "ticket "+id, fmt.Sprintf("the catalogue at %s has it, and it does not exist", replica.replica), id)
		}
	}
	return all
}

// showsOfCatalogue compares the shows that are on.
func (c *checker) showsOfCatalogue(replica catalogueFacts, have map[string]left) {
	uncertain := 0
	for id, s := range c.shows {
		on, certain := s.isOn(replica)
		if !certain {
			uncertain++
			continue
		}
		shown, is := replica.shows[id]
		if on != is {
			c.violation(6, "show "+id, fmt.Sprintf("it is on: %t, and the catalogue at %s has it: %t", on, replica.replica, is), id)
			continue
		}
		if !is {
			continue
		}
		of := have[id]
		switch {
		case !sameShow(shown.Show, s.shown()):
			c.violation(6, "show "+id, fmt.Sprintf("its version is %d (%q, %s), and the catalogue at %s has version %d (%q, %s) with other members",
				s.Version, s.Name, s.StartsAt, replica.replica, shown.Version, shown.Name, shown.StartsAt), id)
		case shown.Left != of.tickets || shown.PriceFrom != of.priceFrom:
			c.violation(6, "show "+id, fmt.Sprintf("%d tickets are left, from %d, and in the catalogue at %s %d, from %d", of.tickets, of.priceFrom, replica.replica, shown.Left, shown.PriceFrom), id)
		}
		if pages, read := replica.pages[id]; read {
			c.pagesOfShow(id, replica, pages, of)
		}
	}
	for id := range replica.shows {
		if _, exists := c.shows[id]; !exists {
			c.violation(6, "show "+id, fmt.Sprintf("the catalogue at %s has it, and it does not exist", replica.replica), id)
		}
	}
	if uncertain == 0 {
		c.countsOfCatalogue(replica)
	}
}

// pagesOfShow compares the pages of one show with what is left of it.
func (c *checker) pagesOfShow(id string, replica catalogueFacts, pages showPages, of left) {
	cheapestFirst := slices.IsSortedFunc(pages.tickets, func(a, b client.Ticket) int { return cmp.Compare(a.Price, b.Price) })
	wrong := slices.ContainsFunc(pages.tickets, func(t client.Ticket) bool { return replica.tickets[t.ID].ShowID != id })
	if len(pages.tickets) != of.tickets || !cheapestFirst || wrong {
		c.violation(6, "show "+id, fmt.Sprintf("%d tickets are left, and its pages in the catalogue at %s have %d, the cheapest first: %t, others among them: %t",
			of.tickets, replica.replica, len(pages.tickets), cheapestFirst, wrong), id)
	}
	sections := map[string]client.Section{}
	for _, t := range pages.tickets {
		var name string
		if t.Seat != nil {
			name = t.Seat.Section
		}
		in, known := sections[name]
		if !known {
			in = client.Section{Section: name, PriceFrom: t.Price}
		}
		in.Left++
		in.PriceFrom = min(in.PriceFrom, t.Price)
		sections[name] = in
	}
	shown := map[string]client.Section{}
	for _, s := range pages.sections {
		shown[s.Section] = s
	}
	if len(shown) != len(pages.sections) || !maps.Equal(sections, shown) {
		c.violation(6, "show "+id, fmt.Sprintf("its tickets in the catalogue at %s are in the sections %v, and its page has %v", replica.replica, sections, pages.sections), id)
	}
	if !pages.found {
		c.violation(6, "show "+id, fmt.Sprintf("the catalogue at %s does not find it by its name", replica.replica), id)
	}
}

// countsOfCatalogue compares the total and the facets of the search of all shows with its pages.
func (c *checker) countsOfCatalogue(replica catalogueFacts) {
	n := len(replica.shows)
	if replica.total != n {
		c.violation(6, "catalogue", fmt.Sprintf("%s has %d shows on its pages, and %d as total", replica.replica, n, replica.total))
	}
	countries, categories := map[string]int{}, map[string]int{}
	for _, s := range replica.shows {
		countries[s.Country]++
		categories[s.Category]++
	}
	for _, facet := range []struct {
		name   string
		values []client.Facet
		counts map[string]int // nil: several spellings may be one value
	}{{"cities", replica.facets.Cities, nil}, {"countries", replica.facets.Countries, countries}, {"categories", replica.facets.Categories, categories}} {
		sum, wrong := 0, false
		for _, v := range facet.values {
			sum += v.Count
			wrong = wrong || facet.counts != nil && facet.counts[v.Value] != v.Count
		}
		if sum > n || sum < n && len(facet.values) < mostFacetValues || wrong {
			c.violation(6, "catalogue", fmt.Sprintf("%s has %d shows on its pages, and its %s count %d: %v", replica.replica, n, facet.name, sum, facet.values))
		}
	}
}
