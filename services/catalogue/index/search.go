package index

import (
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"boxoffice/services/internal/id"
)

// Sort is an order of shows. Shows that are equal in it are in the order of their start.
type Sort string

// The orders of shows.
const (
	ByDate      Sort = "date"
	ByRelevance Sort = "relevance" // needs a text
	ByPrice     Sort = "price"     // the lowest price first; shows of which none is left last
)

// mostFacetValues bounds the values of a facet: those with the most shows.
const mostFacetValues = 50

// ErrCursor is the error of a cursor that the list did not give.
var ErrCursor = errors.New("not a cursor of this list")

// Query is a search for shows that are scheduled and have not started.
type Query struct {
	// Text has words that the show's name, venue, city, category or description must have; "" is no condition. The last word may be
	// a prefix, and words may have typos.
	Text string
	// City, Country and Category are compared without case and diacritics; "" is no condition.
	City, Country, Category string
	From, To                Bound
	// Available: at least one listing of the show is available.
	Available bool
	Sort      Sort
	// Limit is how many shows are returned, and Cursor is where: what Next was of the page before, "" for the first one.
	Limit  int
	Cursor string
}

// Bound is an end of a period: a time, or a date in the time zone of each show. Both ends belong to the period. The zero value is none.
type Bound struct {
	time int64
	date int32
	kind boundKind
}

type boundKind int8

const (
	noBound boundKind = iota
	timeBound
	dateBound
)

// AtTime is a bound at a time.
func AtTime(t time.Time) Bound { return Bound{kind: timeBound, time: t.UnixMilli()} }

// OnDate is a bound at the date that t shows.
func OnDate(t time.Time) Bound { return Bound{kind: dateBound, date: dateOf(t)} }

// compare compares the start of a show with the bound.
func (b Bound) compare(of *column) int {
	switch b.kind {
	case timeBound:
		return cmp.Compare(of.startsAt, b.time)
	case dateBound:
		return cmp.Compare(of.date, b.date)
	}
	return 0
}

// Page is one page of the shows that match a query.
type Page struct {
	Shows []Found
	// Total counts all that match.
	Total  int
	Facets Facets
	// Next is the cursor of the next page, "" if there is none.
	Next string
}

// Found is a show with what is available of it.
type Found struct {
	*Show // must not be changed
	Left  int
	// PriceFrom is the lowest price, in Currency. Both mean nothing if none is left.
	PriceFrom int64
	Currency  string
}

// Facets count the shows that match, by the values of a column. A facet counts what would match without its own filter.
type Facets struct{ Cities, Categories, Countries []FacetValue }

// FacetValue is a value with the number of shows that have it.
type FacetValue struct {
	Value string
	Count int
}

// key is what shows are ordered by. A cursor has the key of the last show of a page, so the next page begins after it also if shows have
// come and gone meanwhile.
type key struct {
	// first is the negative rank, or the lowest price, or 0: lower is first.
	first    int64
	startsAt int64
	show     id.Show
}

func (k key) compare(other key) int {
	return cmp.Or(cmp.Compare(k.first, other.first), cmp.Compare(k.startsAt, other.startsAt), cmp.Compare(k.show, other.show))
}

func (k key) cursor(sort Sort) string {
	return fmt.Sprintf("%.1s.%d.%d.%s", sort, k.first, k.startsAt, k.show)
}

func parseCursor(text string, sort Sort) (k key, err error) {
	parts := strings.Split(text, ".")
	if len(parts) != 4 || len(sort) == 0 || parts[0] != string(sort[:1]) {
		return key{}, ErrCursor
	}
	if k.first, err = strconv.ParseInt(parts[1], 10, 64); err != nil {
		return key{}, ErrCursor
	}
	if k.startsAt, err = strconv.ParseInt(parts[2], 10, 64); err != nil {
		return key{}, ErrCursor
	}
	if k.show, err = id.Parse[id.Show](parts[3]); err != nil {
		return key{}, ErrCursor
	}
	return k, nil
}

// result is a page without what changes with each reservation, so that it can be cached.
type result struct {
	shows  []*show
	total  int
	facets Facets
	next   string
	// validUntil is when the first of the shows that were searched starts.
	validUntil                             int64
	showChanges, leftChanges, priceChanges uint64
	textWrites                             uint64
}

// isValid reports whether a search would find the same.
func (r *result) isValid(q Query, c *contents, now int64) bool {
	return now < r.validUntil && r.showChanges == c.showChanges &&
		(!q.Available || r.leftChanges == c.leftChanges) &&
		(q.Sort != ByPrice || r.priceChanges == c.priceChanges) &&
		(q.Text == "" || r.textWrites == c.text.writes.Load())
}

// Search returns a page of the shows that match. The error is ErrCursor, or one of the text index.
func (x *Index) Search(q Query) (Page, error) {
	if q.Sort == "" {
		q.Sort = ByDate
	}
	if len(q.Text) > longestQuery {
		q.Text = strings.ToValidUTF8(q.Text[:longestQuery], "")
	}
	q.City, q.Country, q.Category = fold(q.City), fold(q.Country), fold(q.Category)
	after := key{first: math.MinInt64}
	if q.Cursor != "" {
		var err error
		if after, err = parseCursor(q.Cursor, q.Sort); err != nil {
			return Page{}, err
		}
	}
	words := parse(q.Text)
	if strings.TrimSpace(q.Text) != "" && len(words) == 0 {
		return Page{}, nil // nothing but signs
	}
	q.Text = strings.Join(words, " ")
	var (
		found    []match
		writes   uint64
		searched *textIndex // that found is of
	)
	for {
		var page Page
		var retry bool
		for c, now := range x.read() {
			known := x.results.get(q)
			switch {
			case known != nil && known.isValid(q, c, now):
			case q.Text != "" && searched != c.text:
				retry, searched = true, c.text
				continue
			default:
				known = c.search(q, found, after, now)
				known.textWrites = writes
				x.results.put(q, known)
			}
			page = c.page(known)
		}
		if !retry {
			return page, nil
		}
		// Without the lock of the columns, because it takes longer than all the rest.
		var err error
		if found, writes, err = searched.search(words); err != nil && !x.isReplaced(searched) {
			return Page{}, err
		}
	}
}

// page adds to a result what is left now.
func (c *contents) page(r *result) Page {
	page := Page{Shows: make([]Found, 0, len(r.shows)), Total: r.total, Facets: r.facets, Next: r.next}
	for _, s := range r.shows {
		page.Shows = append(page.Shows, c.found(s))
	}
	return page
}

func (c *contents) found(s *show) Found {
	f := Found{Show: s.state, Left: int(c.columns[s.row].left)}
	if cheapest, ok := s.offered.first(); ok {
		f.PriceFrom, f.Currency = cheapest.price, cheapest.currency.Value()
	}
	return f
}

// anyValue is no filter, noValue is a filter that no show matches.
const (
	anyValue = math.MaxUint32 - iota
	noValue
)

func filterOf(d *dictionary, folded string) uint32 {
	if folded == "" {
		return anyValue
	}
	if number, known := d.numbers[folded]; known {
		return number
	}
	return noValue
}

// search scans the rows: all, or those that the text index has found.
func (c *contents) search(q Query, found []match, after key, now int64) *result {
	r := &result{showChanges: c.showChanges, leftChanges: c.leftChanges, priceChanges: c.priceChanges, validUntil: math.MaxInt64}
	s := scan{
		contents: c, query: q, after: after, now: now, result: r,
		city: filterOf(c.cities, q.City), country: filterOf(c.countries, q.Country), category: filterOf(c.categories, q.Category),
		cities: make([]int32, len(c.cities.values)), countries: make([]int32, len(c.countries.values)), categories: make([]int32, len(c.categories.values)),
	}
	if q.Text == "" {
		for row := range c.columns {
			s.see(uint32(row), 0) //nolint:gosec // a row
		}
	} else {
		for _, m := range found {
			if int(m.row) < len(c.byRow) && c.byRow[m.row] == m.of {
				s.see(m.row, m.score)
			}
		}
	}
	slices.SortFunc(s.best, func(a, b candidate) int { return a.compare(b.key) })
	if len(s.best) > q.Limit {
		s.best = s.best[:q.Limit]
		r.next = s.best[q.Limit-1].cursor(q.Sort)
	}
	for _, b := range s.best {
		r.shows = append(r.shows, b.of)
	}
	r.facets = Facets{
		Cities: facet(c.cities, s.cities), Categories: facet(c.categories, s.categories), Countries: facet(c.countries, s.countries),
	}
	return r
}

// scan is the work of one search.
type scan struct {
	*contents
	*result
	query                         Query
	after                         key
	now                           int64
	city, country, category       uint32
	cities, countries, categories []int32
	best                          worstFirst // one more than the page has
}

type candidate struct {
	key
	of *show
}

// worstFirst is a heap of the best candidates, with the worst of them first.
type worstFirst []candidate

func (w worstFirst) Len() int           { return len(w) }
func (w worstFirst) Less(i, j int) bool { return w[i].compare(w[j].key) > 0 }
func (w worstFirst) Swap(i, j int)      { w[i], w[j] = w[j], w[i] }
func (w *worstFirst) Push(v any)        { *w = append(*w, v.(candidate)) }
func (w *worstFirst) Pop() any          { panic("not used") }

// see counts a row, and keeps it if it is among the best.
func (s *scan) see(row uint32, score int32) {
	col := &s.columns[row]
	if !col.listed || col.startsAt <= s.now {
		return
	}
	s.validUntil = min(s.validUntil, col.startsAt)
	if s.query.Available && col.left == 0 ||
		s.query.From.compare(col) < 0 || s.query.To.compare(col) > 0 {
		return
	}
	inCity := s.city == anyValue || s.city == col.city
	inCountry := s.country == anyValue || s.country == col.country
	ofCategory := s.category == anyValue || s.category == col.category
	if inCountry && ofCategory {
		s.cities[col.city]++
	}
	if inCity && ofCategory {
		s.countries[col.country]++
	}
	if inCity && inCountry {
		s.categories[col.category]++
	}
	if !inCity || !inCountry || !ofCategory {
		return
	}
	s.total++
	k := key{startsAt: col.startsAt}
	switch s.query.Sort {
	case ByPrice:
		k.first = col.priceFrom
	case ByRelevance:
		k.first = -int64(score)
	}
	full := len(s.best) > s.query.Limit
	if full && (k.first > s.best[0].first || k.first == s.best[0].first && k.startsAt > s.best[0].startsAt) {
		return // without a read of the show
	}
	of := s.byRow[row]
	k.show = of.id
	switch {
	case k.compare(s.after) <= 0:
	case !full:
		heap.Push(&s.best, candidate{k, of})
	case k.compare(s.best[0].key) < 0:
		s.best[0] = candidate{k, of}
		heap.Fix(&s.best, 0)
	}
}

// facet returns the values that most shows have.
func facet(d *dictionary, counts []int32) []FacetValue {
	values := []FacetValue{}
	for number, count := range counts {
		if count > 0 {
			values = append(values, FacetValue{d.values[number].shown, int(count)})
		}
	}
	slices.SortFunc(values, func(a, b FacetValue) int {
		return cmp.Or(-cmp.Compare(a.Count, b.Count), cmp.Compare(a.Value, b.Value))
	})
	return values[:min(len(values), mostFacetValues)]
}

// resultCache has the results of the last queries. They are valid until what they depend on changes: not with each reservation.
type resultCache struct {
	mu      sync.Mutex
	results map[Query]*result
}

// mostResults bounds the cache.
const mostResults = 2048

func (r *resultCache) get(q Query) *result {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.results[q]
}

func (r *resultCache) put(q Query, found *result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.results == nil || len(r.results) >= mostResults {
		r.results = map[Query]*result{}
	}
	r.results[q] = found
}

func (r *resultCache) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.results = nil
}
