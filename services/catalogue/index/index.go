package index

import (
	"cmp"
	"context"
	"hash/fnv"
	"log/slog"
	"math"
	"sync"
	"time"
	"unique"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/id"
)

// Index is the read model. Its methods may be called at the same time.
//
// A listing is available if its status is, it is not deleted, its sale has not ended, and its show, if it names one, is known, scheduled
// and has not started.
type Index struct {
	clock clock.Clock
	mu    sync.RWMutex
	*contents
	results resultCache
}

// contents are all that an index knows. Index.mu guards them; text has locks of its own.
type contents struct {
	buckets  [MaxChunks]bucket
	columns  []column // by row: what search scans
	byRow    []*show  // nil: the row is free
	freeRows []uint32
	newest   ordered[*listing] // the available listings; also those of shows that are closed, until tidy removes them
	timers   timers
	// now is the latest time that advance was called with, in milliseconds.
	now                           int64
	cities, countries, categories *dictionary
	text                          *textIndex
	// Each grows with a change of any show, of whether any listing of a show is left, or of the lowest price of a show.
	showChanges, leftChanges, priceChanges uint64
	listingCount, showCount                int
	// closed are shows that were open and may have listings in newest.
	closed     []*show
	nextBucket int // the last that tidy has checked
}

// bucket is a part of the entries, by the hash of their ids.
type bucket struct {
	shows    map[id.Show]*show
	listings map[id.Ticket]*listing
}

// show is a show with its listings. Its state is nil until a change has it.
type show struct {
	id    id.Show
	state *Show // never changed, only replaced
	row   uint32
	// listings are all that name the show and are not deleted.
	listings []*listing
	// offered are those that would be available if the show is open, by price; sections are the same by section.
	offered  ordered[*listing]
	sections map[string]*ordered[*listing]
	inNewest int // how many of its listings are in contents.newest
}

// column is what search reads of a row. The row is in use and its show is scheduled if listed.
type column struct {
	startsAt  int64
	priceFrom int64 // noPrice if none is left
	date      int32 // of the start, in the show's time zone: days since 1970
	left      int32
	city      uint32
	country   uint32
	category  uint32
	listed    bool
}

const noPrice = math.MaxInt64

// listing is a ticket, in a form that is smaller than Listing. Version 0: only a reservation is known.
type listing struct {
	id                   id.Ticket
	of                   *show // nil: it names none
	resaleOf             id.Ticket
	title, currency      unique.Handle[string]
	seller               unique.Handle[string]
	section, row, number unique.Handle[string]
	price, faceValue     int64
	salesEndAt           int64 // milliseconds, like all times here; 0: never
	createdAt, updatedAt int64
	reservedAt           int64
	timerAt              int64 // 0: no timer
	version              int
	sequence             int
	reservationSequence  int
	listed, reservation  Status
	inShow               int32 // its place in of.listings
	deleted              bool
	offered, isNewest    bool // it is in of.offered, and in contents.newest
}

// New makes an empty index.
func New(c clock.Clock) (*Index, error) {
	contents, err := newContents()
	if err != nil {
		return nil, err
	}
	return &Index{clock: c, contents: contents}, nil
}

func newContents() (*contents, error) {
	text, err := newTextIndex()
	if err != nil {
		return nil, err
	}
	c := &contents{cities: newDictionary(), countries: newDictionary(), categories: newDictionary(), text: text}
	for i := range c.buckets {
		c.buckets[i] = bucket{shows: map[id.Show]*show{}, listings: map[id.Ticket]*listing{}}
	}
	return c, nil
}

// Close frees the index's database.
func (x *Index) Close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.text.close()
}

// Replace takes over all that another index knows, in one step. The other index must not be used afterwards.
func (x *Index) Replace(other *Index) error {
	x.mu.Lock()
	before := x.contents
	x.contents = other.contents
	// Cached results of the one must not be taken for those of the other.
	x.results.clear()
	x.mu.Unlock()
	return before.text.close()
}

// Apply applies a batch of changes, and returns what they have changed for those who follow a show. The positions of the updates are those of
// their changes: the batch, and the number of the change in it.
func (x *Index) Apply(batch uint64, changes []Change) []Update {
	// Readers get their turn between parts of a large batch.
	const part = 128
	var updates []Update
	for begin := 0; begin < len(changes); begin += part {
		x.mu.Lock()
		x.advance(x.clock().UnixMilli())
		for i, change := range changes[begin:min(begin+part, len(changes))] {
			if update, ok := x.apply(change); ok {
				update.Position = Position{batch, begin + i}
				updates = append(updates, update)
			}
		}
		x.mu.Unlock()
	}
	return updates
}

// Flush writes the texts that are queued, so that searches find all that was applied before. Run does it many times a second.
func (x *Index) Flush(ctx context.Context) error {
	x.mu.RLock()
	text := x.text
	x.mu.RUnlock()
	err := text.flush(ctx)
	if err != nil && x.isReplaced(text) {
		return nil
	}
	return err
}

// isReplaced reports whether Replace has closed this part since.
func (x *Index) isReplaced(text *textIndex) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.text != text
}

// Stats counts what the index has: shows, listings with those that are not available, and how many are available.
func (x *Index) Stats() (shows, listings, available int) {
	for c, now := range x.read() {
		for l := range c.newest.from(func(*listing) bool { return false }) {
			if l.of.isOpen(now) {
				available++
			}
		}
		shows, listings = c.showCount, c.listingCount
	}
	return shows, listings, available
}

// read is a loop of one round, in which the contents can be read. It also gives the time, in milliseconds. All counts are those of this
// time.
func (x *Index) read() func(yield func(c *contents, now int64) bool) {
	return func(yield func(c *contents, now int64) bool) {
		now := x.clock().UnixMilli()
		x.mu.RLock()
		for x.timers.due(now) {
			x.mu.RUnlock()
			x.mu.Lock()
			x.advance(now)
			x.mu.Unlock()
			x.mu.RLock()
		}
		defer x.mu.RUnlock()
		yield(x.contents, max(now, x.now))
	}
}

// Run keeps the index in order, until the context ends: it writes queued texts, and drops what is no longer needed.
func (x *Index) Run(ctx context.Context, log *slog.Logger) error {
	const (
		flushEvery = 50 * time.Millisecond
		tidyEvery  = time.Second
	)
	flush, tidy := time.NewTicker(flushEvery), time.NewTicker(tidyEvery)
	defer flush.Stop()
	defer tidy.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-flush.C:
			if err := x.Flush(ctx); err != nil && ctx.Err() == nil {
				log.ErrorContext(ctx, "texts of shows cannot be searched", "error", err)
			}
		case <-tidy.C:
			x.tidy()
		}
	}
}

func bucketOf[T ~string](of T) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(of))
	return int(h.Sum32() % MaxChunks)
}

func (c *contents) apply(change Change) (Update, bool) {
	switch {
	case change.Show != nil:
		return c.applyShow(*change.Show)
	case change.Listing != nil:
		l := c.listingOf(change.Listing.ID)
		if change.Listing.Version <= l.version {
			return Update{}, false
		}
		return c.change(l, func() { c.setListing(l, change.Listing) })
	case change.Reservation != nil:
		r := change.Reservation
		l := c.listingOf(r.TicketID)
		if r.Sequence <= l.reservationSequence {
			return Update{}, false
		}
		return c.change(l, func() {
			l.reservationSequence, l.reservation, l.reservedAt = r.Sequence, r.Status, milliseconds(r.At)
		})
	}
	return Update{}, false
}

// change changes a listing. All that depends on it is up to date before and afterwards.
func (c *contents) change(l *listing, set func()) (Update, bool) {
	wasAvailable, was, version := c.isAvailable(l), l.status(), l.version
	wasDeleted := l.deleted
	wasOf, place := l.of, l.place()
	c.take(l)
	set()
	c.put(l)
	c.refresh(wasOf)
	if wasOf != l.of {
		c.refresh(l.of)
		c.dropIfUnused(wasOf)
	}
	of := cmp.Or(l.of, wasOf)
	if of == nil || !of.isOpen(c.now) || version == 0 && !c.isAvailable(l) {
		return Update{}, false
	}
	var kind Kind
	switch is := l.status(); {
	case c.isAvailable(l) && version == 0:
		kind = ListingNew
	case c.isAvailable(l) && !wasAvailable:
		kind = ListingFree
	case c.isAvailable(l) && l.version != version:
		kind = ListingChanged
	case wasDeleted || c.isAvailable(l):
		return Update{}, false
	case l.deleted, wasAvailable && is != Sold && is != Reserved:
		kind = ListingWithdrawn
	case is == Sold && was != Sold:
		kind = ListingSold
	case is == Reserved && wasAvailable:
		kind = ListingReserved
	case is == Withheld && was == Reserved:
		kind = ListingWithdrawn
	default:
		return Update{}, false
	}
	if !l.deleted {
		place = l.place()
	}
	return Update{
		Kind: kind, Show: of.id, Ticket: l.id, Price: l.price, Currency: l.currency.Value(), Place: place,
		Left: int(c.columns[of.row].left), PriceFrom: c.columns[of.row].priceFrom,
	}, true
}

func (c *contents) listingOf(ticket id.Ticket) *listing {
	b := &c.buckets[bucketOf(ticket)]
	l := b.listings[ticket]
	if l == nil {
		none := unique.Make("")
		l = &listing{id: ticket, title: none, currency: none, seller: none, section: none, row: none, number: none}
		b.listings[ticket] = l
		c.listingCount++
	}
	return l
}

func (c *contents) showOf(named id.Show) *show {
	b := &c.buckets[bucketOf(named)]
	s := b.shows[named]
	if s == nil {
		s = &show{id: named, row: noRow}
		b.shows[named] = s
		c.showCount++
	}
	return s
}

const noRow = math.MaxUint32

// setListing replaces the seller's part. Of a deleted listing only what is needed to ignore older changes is kept.
func (c *contents) setListing(l *listing, to *Listing) {
	l.version, l.deleted, l.listed, l.sequence = to.Version, to.Deleted, to.Status, to.Sequence
	l.updatedAt = milliseconds(to.UpdatedAt)
	none := unique.Make("")
	l.section, l.row, l.number = none, none, none
	if to.Deleted {
		c.attach(l, nil)
		l.title, l.seller, l.resaleOf = none, none, ""
		l.faceValue, l.salesEndAt, l.createdAt = 0, 0, 0
		return // price and currency stay for the update, and cost nothing
	}
	var of *show
	if to.ShowID != "" {
		of = c.showOf(to.ShowID)
	}
	c.attach(l, of)
	l.title, l.currency, l.seller = unique.Make(to.Title), unique.Make(to.Currency), unique.Make(string(to.UserID))
	if to.Place != nil {
		l.section, l.row, l.number = unique.Make(to.Place.Section), unique.Make(to.Place.Row), unique.Make(to.Place.Number)
	}
	l.price, l.faceValue, l.resaleOf = to.Price, to.FaceValue, to.ResaleOf
	l.salesEndAt, l.createdAt = milliseconds(to.SalesEndAt), milliseconds(to.CreatedAt)
}

// attach makes the listing one of a show; nil: of none.
func (c *contents) attach(l *listing, to *show) {
	if l.of == to {
		return
	}
	if from := l.of; from != nil {
		last := len(from.listings) - 1
		from.listings[l.inShow] = from.listings[last]
		from.listings[l.inShow].inShow = l.inShow
		from.listings[last] = nil
		from.listings = from.listings[:last]
	}
	if l.of = to; to != nil {
		l.inShow = int32(len(to.listings)) //nolint:gosec // a number of listings in memory
		to.listings = append(to.listings, l)
	}
}

// dropIfUnused drops a show that no change and no listing names.
func (c *contents) dropIfUnused(s *show) {
	if s == nil || s.state != nil || len(s.listings) > 0 {
		return
	}
	delete(c.buckets[bucketOf(s.id)].shows, s.id)
	c.showCount--
}

// status is that of the reservation if it is newer than what tickets knew, else that of the listing.
func (l *listing) status() Status {
	if l.reservationSequence > l.sequence {
		return l.reservation
	}
	return l.listed
}

// isOffered reports whether a listing is available if its show is open.
func (c *contents) isOffered(l *listing) bool {
	return l.version > 0 && !l.deleted && l.status() == Available && (l.salesEndAt == 0 || l.salesEndAt > c.now)
}

func (c *contents) isAvailable(l *listing) bool { return c.isOffered(l) && l.of.isOpen(c.now) }

// isOpen reports whether the show is known, scheduled and has not started. A listing without a show has one that is always open.
func (s *show) isOpen(now int64) bool {
	return s == nil || s.state != nil && !s.state.Cancelled && s.state.StartsAt.UnixMilli() > now
}

func byPrice(a, b *listing) int {
	return cmp.Or(cmp.Compare(a.price, b.price), cmp.Compare(a.id, b.id))
}

func newestFirst(a, b *listing) int {
	return cmp.Or(-cmp.Compare(a.createdAt, b.createdAt), -cmp.Compare(a.id, b.id))
}

// take removes the listing from all orders, before it changes.
func (c *contents) take(l *listing) {
	if l.offered && l.of != nil {
		section := l.section.Value()
		l.of.offered.remove(l, byPrice)
		in := l.of.sections[section]
		in.remove(l, byPrice)
		if len(in.blocks) == 0 {
			delete(l.of.sections, section)
		}
	}
	l.offered = false
	c.takeFromNewest(l)
}

func (c *contents) takeFromNewest(l *listing) {
	if !l.isNewest {
		return
	}
	c.newest.remove(l, newestFirst)
	l.isNewest = false
	if l.of != nil {
		l.of.inNewest--
	}
}

// put adds the listing to the orders that it belongs to, after it has changed.
func (c *contents) put(l *listing) {
	if !c.isOffered(l) {
		return
	}
	l.offered = true
	if of := l.of; of != nil {
		of.offered.insert(l, byPrice)
		if of.sections == nil {
			of.sections = map[string]*ordered[*listing]{}
		}
		in := of.sections[l.section.Value()]
		if in == nil {
			in = &ordered[*listing]{}
			of.sections[l.section.Value()] = in
		}
		in.insert(l, byPrice)
	}
	c.putInNewest(l)
	c.setTimer(l)
}

func (c *contents) putInNewest(l *listing) {
	if l.isNewest || !l.of.isOpen(c.now) {
		return
	}
	c.newest.insert(l, newestFirst)
	l.isNewest = true
	if l.of != nil {
		l.of.inNewest++
	}
}

// refresh brings the columns of a show up to date after its listings have changed.
func (c *contents) refresh(s *show) {
	if s == nil || s.row == noRow {
		return
	}
	row := &c.columns[s.row]
	left, price := int32(s.offered.size()), int64(noPrice) //nolint:gosec // a number of listings in memory
	if cheapest, ok := s.offered.first(); ok {
		price = cheapest.price
	}
	if (left == 0) != (row.left == 0) {
		c.leftChanges++
	}
	if price != row.priceFrom {
		c.priceChanges++
	}
	row.left, row.priceFrom = left, price
}

func (c *contents) applyShow(to Show) (Update, bool) {
	s := c.showOf(to.ID)
	if s.state != nil && to.Version <= s.state.Version {
		return Update{}, false
	}
	wasOpen, wasCancelled := s.isOpen(c.now), s.state != nil && s.state.Cancelled
	wasStartingAt := time.Time{}
	if s.state != nil {
		wasStartingAt = s.state.StartsAt
	}
	if wasOpen {
		c.closed = append(c.closed, s) // tidy removes it if it is open still
	}
	for _, repeated := range []*string{&to.Venue, &to.City, &to.Country, &to.TimeZone, &to.Category, (*string)(&to.UserID)} {
		*repeated = unique.Make(*repeated).Value()
	}
	c.unlist(s)
	s.state = &to
	c.list(s)
	c.showChanges++
	if !wasStartingAt.Equal(to.StartsAt) || !wasOpen {
		for _, l := range s.listings {
			if !l.offered {
				continue
			}
			c.putInNewest(l)
			c.setTimer(l)
		}
	}
	update := Update{Kind: ShowUpdated, Show: s.id}
	if s.row != noRow {
		update.Left, update.PriceFrom = int(c.columns[s.row].left), c.columns[s.row].priceFrom
	}
	if to.Cancelled {
		update.Kind = ShowCancelled
		return update, !wasCancelled
	}
	return update, true
}

// list gives a scheduled show a row.
func (c *contents) list(s *show) {
	if s.state.Cancelled {
		return
	}
	if last := len(c.freeRows) - 1; last >= 0 {
		s.row, c.freeRows = c.freeRows[last], c.freeRows[:last]
	} else {
		s.row = uint32(len(c.columns)) //nolint:gosec // a number of shows in memory
		c.columns, c.byRow = append(c.columns, column{}), append(c.byRow, nil)
	}
	c.byRow[s.row] = s
	c.columns[s.row] = column{
		startsAt: s.state.StartsAt.UnixMilli(), date: localDate(s.state.StartsAt, s.state.TimeZone), priceFrom: noPrice, listed: true,
		city: c.cities.add(s.state.City), country: c.countries.add(s.state.Country), category: c.categories.add(s.state.Category),
	}
	c.refresh(s)
	c.text.set(s.row, s, s.state)
}

// unlist frees the show's row.
func (c *contents) unlist(s *show) {
	if s.row == noRow {
		return
	}
	row := c.columns[s.row]
	c.cities.remove(row.city, s.state.City)
	c.countries.remove(row.country, s.state.Country)
	c.categories.remove(row.category, s.state.Category)
	c.text.set(s.row, nil, nil)
	c.columns[s.row], c.byRow[s.row] = column{}, nil
	c.freeRows = append(c.freeRows, s.row)
	s.row = noRow
}

func milliseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func timeOf(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
