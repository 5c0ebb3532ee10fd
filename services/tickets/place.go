package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/runes"
	"golang.org/x/text/transform"
	"golang.org/x/text/unicode/norm"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
)

// A place with a number is of one ticket of its show. The document of the place names that ticket; it is written in the
// transaction that lists the ticket, on the condition that it does not exist, and deleted in the transaction that
// deletes the ticket. A place without a number is of any number of tickets. The resale of a ticket has no such document: the ticket that it resells keeps its own.

// Place is where the holder of a ticket sits or stands, in the seller's words. A part may be "".
type Place struct {
	Section string `json:"section,omitempty"`
	Row     string `json:"row,omitempty"`
	Number  string `json:"number,omitempty"`
}

var errPlaceListed = problem.New(problem.Conflict, "seat_listed", "This seat of the show is listed already. It can be listed again when that listing is deleted.").WithField("seat")

// isNumbered reports whether only one ticket of a show may have the place.
func (p *Place) isNumbered() bool { return p != nil && p.Number != "" }

// key is the key of the place's document. Places that differ only in upper and lower case, in spaces, or in
// how their characters are written (see folded) are the same.
func (p *Place) key(show id.Show) string {
	parts, _ := json.Marshal([]string{folded(p.Section), folded(p.Row), folded(p.Number)}) // texts can always be encoded
	sum := sha256.Sum256(parts)
	return "place/" + string(show) + "/" + hex.EncodeToString(sum[:16])
}

// folded returns the form of a text that all texts have which count as the same (Unicode 16, definition D147: NFKC_Casefold), with one
// space between words. It has no invisible characters, one of the ways to write an accent or a width, and no upper case.
func folded(text string) string {
	// The chain has state, so it is made for each text. None of its steps can fail.
	same, _, _ := transform.String(transform.Chain(runes.Remove(runes.Predicate(isInvisible)), norm.NFKC, cases.Fold(), norm.NFKC), text)
	return strings.Join(strings.Fields(same), " ")
}

func isInvisible(r rune) bool {
	return unicode.In(r, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// published is the place as events have it.
func (p *Place) published() *events.Place {
	if p == nil {
		return nil
	}
	return &events.Place{Section: p.Section, Row: p.Row, Number: p.Number}
}

// placementSchema is the format of the placements that this release writes.
const placementSchema = 1

// Placement is the document of a place with a number: which ticket has it.
type Placement struct {
	Schema   int       `json:"schema"`
	TicketID id.Ticket `json:"ticketId"`
	Place    Place     `json:"seat"`
}

// HasPlace reports whether no other ticket of the show may have this ticket's place.
func (t *Ticket) HasPlace() bool { return t.Place.isNumbered() && !t.Deleted && t.ResaleOf == nil }

func (t *Ticket) placement() Placement {
	return Placement{Schema: placementSchema, TicketID: t.ID, Place: *t.Place}
}
