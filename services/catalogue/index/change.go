// Package index is the read model of the catalogue, in memory: the shows, the listings, how many of a show's listings are left and
// from which price, and the search over shows.
//
// Every replica builds the same index from the same changes. Changes may be applied in any order and repeated: each has the version of
// its aggregate, and an older one changes nothing.
//
// change.go has what goes in and out. index.go applies changes, with timers.go (what time changes), listings.go (the order of listings),
// tidy.go (what is dropped) and entries.go (snapshots). search.go finds shows by filters, and text.go by words (words.go, vocabulary.go).
package index

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"boxoffice/services/internal/id"
)

// Change is one change of the read model: exactly one member is set. The change feed and its snapshots store it as JSON.
type Change struct {
	Show        *Show        `json:"show,omitempty"`
	Listing     *Listing     `json:"listing,omitempty"`
	Reservation *Reservation `json:"reservation,omitempty"`
}

// Show is the state of a show (events show.*). The one with the highest version counts.
type Show struct {
	ID          id.Show   `json:"id"`
	Name        string    `json:"name"`
	Venue       string    `json:"venue"`
	City        string    `json:"city"`
	Country     string    `json:"country"`
	StartsAt    time.Time `json:"at"`
	TimeZone    string    `json:"tz"`
	Category    string    `json:"cat"`
	Description string    `json:"desc,omitempty"`
	// MaxMarkup is the price cap in percent over the face value; nil is none.
	MaxMarkup *int      `json:"cap,omitempty"`
	Image     *Image    `json:"image,omitempty"`
	Cancelled bool      `json:"off,omitempty"`
	UserID    id.User   `json:"user"` // the owner
	Version   int       `json:"v"`
	CreatedAt time.Time `json:"made"`
	UpdatedAt time.Time `json:"upd"`
}

// Image is the picture of a show.
type Image struct {
	URL    string `json:"url"`
	Width  int    `json:"w"`
	Height int    `json:"h"`
}

// Listing is a ticket as its seller offers it (events ticket.*). The one with the highest version counts. Prices are in the currency's
// minor unit.
type Listing struct {
	ID       id.Ticket `json:"id"`
	ShowID   id.Show   `json:"show,omitempty"`
	Title    string    `json:"title,omitempty"`
	Price    int64     `json:"price,omitempty"`
	Currency string    `json:"cur,omitempty"`
	UserID   id.User   `json:"user,omitempty"` // the seller
	Place    *Place    `json:"place,omitempty"`
	// FaceValue is the price that the show's owner has set; 0 is none.
	FaceValue int64 `json:"face,omitempty"`
	// SalesEndAt is when the ticket can no longer be reserved; the zero time is never.
	SalesEndAt time.Time `json:"end,omitzero"`
	// ResaleOf is the ticket that the seller has bought, and sells again; "" is none.
	ResaleOf id.Ticket `json:"resale,omitempty"`
	// Status is the availability as the tickets service knew it, after the order's event with this Sequence.
	Status    Status    `json:"status"`
	Sequence  int       `json:"seq,omitempty"`
	Version   int       `json:"v"`
	Deleted   bool      `json:"gone,omitempty"`
	CreatedAt time.Time `json:"made,omitzero"`
	UpdatedAt time.Time `json:"upd,omitzero"`
}

// Place is where the holder of a ticket sits or stands.
type Place struct {
	Section string `json:"section,omitempty"`
	Row     string `json:"row,omitempty"`
	Number  string `json:"number,omitempty"`
}

// Reservation is the availability of a ticket after a change of an order (events order.*). The one with the highest sequence counts. It
// may be applied before its listing.
type Reservation struct {
	TicketID id.Ticket `json:"id"`
	Sequence int       `json:"seq"`
	Status   Status    `json:"status"`
	// At is when the order changed. It decides only when a reservation without a listing, or a sold listing, is dropped.
	At time.Time `json:"at,omitzero"`
}

// Status is a ticket's availability, with the values that tickets publishes.
type Status string

// The values of a Status.
const (
	Available Status = "available"
	Reserved  Status = "reserved"
	Sold      Status = "sold"
	Withheld  Status = "withheld"
)

// Position is the place of a change in the order of all changes: the batch of the change feed, and the change's number in it, from 0.
// It is the same at every replica.
type Position struct {
	Batch  uint64
	Number int
}

// Compare returns -1 if p is before other, 0 if they are equal, and 1 if p is after other.
func (p Position) Compare(other Position) int {
	switch {
	case p.Batch != other.Batch && p.Batch < other.Batch, p.Batch == other.Batch && p.Number < other.Number:
		return -1
	case p == other:
		return 0
	}
	return 1
}

// Format returns the position as clients get it: EPOCH-BATCH-NUMBER. The epoch is the feed's; positions of two epochs cannot be
// compared.
func (p Position) Format(epoch string) string {
	return epoch + "-" + strconv.FormatUint(p.Batch, 10) + "-" + strconv.Itoa(p.Number)
}

var errNoPosition = errors.New("not a position")

// ParsePosition reads what Format has written.
func ParsePosition(text string) (epoch string, p Position, err error) {
	if len(text) > 128 {
		return "", Position{}, errNoPosition
	}
	rest, number, ok := cutLast(text)
	if !ok {
		return "", Position{}, errNoPosition
	}
	epoch, batch, ok := cutLast(rest)
	if !ok || epoch == "" {
		return "", Position{}, errNoPosition
	}
	if p.Batch, err = strconv.ParseUint(batch, 10, 64); err != nil {
		return "", Position{}, fmt.Errorf("%w: %w", errNoPosition, err)
	}
	if p.Number, err = strconv.Atoi(number); err != nil {
		return "", Position{}, fmt.Errorf("%w: %w", errNoPosition, err)
	}
	if p.Number < 0 || p.Format(epoch) != text {
		return "", Position{}, errNoPosition
	}
	return epoch, p, nil
}

// cutLast cuts a text at its last hyphen.
func cutLast(text string) (before, after string, found bool) {
	i := strings.LastIndexByte(text, '-')
	if i < 0 {
		return text, "", false
	}
	return text[:i], text[i+1:], true
}

// Update is what a change has changed for those who follow a show. Time alone makes none: when a show starts, its listings
// are no longer available without an update.
type Update struct {
	Position
	Kind Kind
	// Show is never "": listings without a show have no updates.
	Show id.Show
	// Ticket is the listing, "" if the update is about the show itself. Price, Currency and Place are the listing's.
	Ticket   id.Ticket
	Price    int64
	Currency string
	Place    *Place
	// Left is how many listings of the show are available after the change, and PriceFrom the lowest price of them; it means nothing if
	// none is left.
	Left      int
	PriceFrom int64
}

// Kind is what has happened.
type Kind string

// The kinds of updates of a listing, and of a show.
const (
	ListingNew       Kind = "new"       // it is available, and was not known before
	ListingChanged   Kind = "changed"   // it is available, and its seller has changed it
	ListingReserved  Kind = "reserved"  // it was available, and an order has it
	ListingFree      Kind = "free"      // it is available again
	ListingSold      Kind = "sold"      // it is sold
	ListingWithdrawn Kind = "withdrawn" // it was available or reserved; it is deleted, withheld or its sale has ended

	ShowUpdated   Kind = "updated"   // its owner has changed it, or it is new
	ShowCancelled Kind = "cancelled" // its owner has cancelled it. Its listings have no updates for that
)
