package index

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"boxoffice/services/internal/id"
)

// mostSections bounds the sections of a show that are listed: the first in the order of their names.
const mostSections = 500

// Section is a section of a venue with what is available there. Listings without one are in the section "".
type Section struct {
	Name      string
	Left      int
	PriceFrom int64
}

// Show returns a show with its sections. ok is false if it is not known, not scheduled or has started.
func (x *Index) Show(of id.Show) (found Found, sections []Section, ok bool) {
	for c, now := range x.read() {
		s := c.buckets[bucketOf(of)].shows[of]
		if s == nil || !s.isOpen(now) {
			break
		}
		found, ok = c.found(s), true
		sections = make([]Section, 0, len(s.sections))
		for name, in := range s.sections {
			cheapest, _ := in.first()
			sections = append(sections, Section{name, in.size(), cheapest.price})
		}
	}
	slices.SortFunc(sections, func(a, b Section) int { return cmp.Compare(a.Name, b.Name) })
	return found, sections[:min(len(sections), mostSections)], ok
}

// Left returns how many listings of a show are available, and the lowest price of them. ok is false as for Show.
func (x *Index) Left(of id.Show) (left int, priceFrom int64, ok bool) {
	for c, now := range x.read() {
		if s := c.buckets[bucketOf(of)].shows[of]; s != nil && s.isOpen(now) {
			left, priceFrom, ok = int(c.columns[s.row].left), c.columns[s.row].priceFrom, true
		}
	}
	return left, priceFrom, ok
}

// Listings returns the available listings of a show, the cheapest first: of one section, or of all if section is nil. next is the cursor of the
// next page, "" if there is none. ok is false as for Show. The error is ErrCursor.
func (x *Index) Listings(of id.Show, section *string, limit int, cursor string) (listings []Listing, next string, ok bool, err error) {
	price, after, err := parseListingCursor(cursor, priceCursor)
	if err != nil {
		return nil, "", false, err
	}
	for c, now := range x.read() {
		s := c.buckets[bucketOf(of)].shows[of]
		if ok = s != nil && s.isOpen(now); !ok {
			break
		}
		in := &s.offered
		if section != nil {
			if in = s.sections[*section]; in == nil {
				break
			}
		}
		before := func(l *listing) bool {
			return cursor != "" && cmp.Or(cmp.Compare(l.price, price), cmp.Compare(l.id, after)) <= 0
		}
		for l := range in.from(before) {
			if len(listings) == limit {
				last := listings[limit-1]
				next = listingCursor(priceCursor, last.Price, last.ID)
				break
			}
			listings = append(listings, l.export())
		}
	}
	return listings, next, ok, nil
}

// Newest returns the available listings, those that were listed last first. next and the error are as for Listings.
func (x *Index) Newest(limit int, cursor string) (listings []Listing, next string, err error) {
	createdAt, after, err := parseListingCursor(cursor, newestCursor)
	if err != nil {
		return nil, "", err
	}
	for c, now := range x.read() {
		before := func(l *listing) bool {
			return cursor != "" && cmp.Or(-cmp.Compare(l.createdAt, createdAt), -cmp.Compare(l.id, after)) <= 0
		}
		for l := range c.newest.from(before) {
			if !l.of.isOpen(now) {
				continue // tidy removes it soon
			}
			if len(listings) == limit {
				last := listings[limit-1]
				next = listingCursor(newestCursor, milliseconds(last.CreatedAt), last.ID)
				break
			}
			listings = append(listings, l.export())
		}
	}
	return listings, next, nil
}

const (
	priceCursor  = "t"
	newestCursor = "n"
)

func listingCursor(kind string, value int64, of id.Ticket) string {
	return fmt.Sprintf("%s.%d.%s", kind, value, of)
}

func parseListingCursor(text, kind string) (value int64, of id.Ticket, err error) {
	if text == "" {
		return 0, "", nil
	}
	parts := strings.Split(text, ".")
	if len(parts) != 3 || parts[0] != kind {
		return 0, "", ErrCursor
	}
	if value, err = strconv.ParseInt(parts[1], 10, 64); err != nil {
		return 0, "", ErrCursor
	}
	if of, err = id.Parse[id.Ticket](parts[2]); err != nil {
		return 0, "", ErrCursor
	}
	return value, of, nil
}
