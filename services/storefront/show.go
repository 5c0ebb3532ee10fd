package storefront

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"boxoffice/services/internal/id"
)

const (
	// ticketsOnPage is how many tickets of a show a page has. The script has the same number (src/pages/show.tsx).
	ticketsOnPage = 50
	// longestSection is the catalogue's bound, in characters.
	longestSection = 50
)

// show is a show as the catalogue has it.
type show struct {
	ID          string
	Name        string
	Venue       string
	City        string
	Country     string
	StartsAt    time.Time
	TimeZone    string
	Category    string
	Description string
	MaxMarkup   *int
	Image       *picture
	Status      string
	Left        int
	PriceFrom   *int64
	Currency    string
	Sections    []section
}

type picture struct {
	URL           string
	Width, Height int
}

type section struct {
	Section   string
	Left      int
	PriceFrom int64
}

// IsAtFaceValue reports whether no ticket costs more than its face value.
func (s show) IsAtFaceValue() bool { return s.MaxMarkup != nil && *s.MaxMarkup == 0 }

// At is the start at the place of the show.
func (s show) At() time.Time {
	place, err := time.LoadLocation(s.TimeZone)
	if err != nil {
		place = time.UTC
	}
	return s.StartsAt.In(place)
}

// Initial is the first letter of the name, for a show without an image.
func (s show) Initial() string {
	for _, letter := range s.Name {
		return strings.ToUpper(string(letter))
	}
	return ""
}

// IsScarce reports whether few tickets are left.
func (s show) IsScarce() bool { return s.Left > 0 && s.Left <= 5 }

// Paragraphs are those of the description.
func (s show) Paragraphs() []string {
	return strings.FieldsFunc(s.Description, func(r rune) bool { return r == '\n' })
}

// ticket is a ticket as the catalogue has it.
type ticket struct {
	ID        string
	Title     string
	Price     int64
	FaceValue int64
	Currency  string
	Seat      *place
}

type place struct{ Section, Row, Number string }

// offer is a row of the page: a ticket with a number, or all tickets of one section and price that have none. The script makes the same
// rows (src/show/tickets.ts).
type offer struct {
	ticket
	Count  int
	IsMore bool // there may be more of them on the next page
}

// offersOf returns the rows of a page of tickets: by price, and those of one price by their places.
func offersOf(tickets []ticket, hasNext bool) []offer {
	tickets = slices.Clone(tickets)
	slices.SortStableFunc(tickets, func(a, b ticket) int {
		p, q := a.place(), b.place()
		return cmp.Or(cmp.Compare(a.Price, b.Price), compareLabels(p.Section, q.Section), compareLabels(p.Row, q.Row), compareLabels(p.Number, q.Number))
	})
	var offers []offer
	for i, one := range tickets {
		at := slices.IndexFunc(offers, func(o offer) bool { return o.isLike(one) })
		if at < 0 {
			at, offers = len(offers), append(offers, offer{ticket: one})
		}
		offers[at].Count++
		offers[at].IsMore = hasNext && offers[at].Count > 1 && i == len(tickets)-1
	}
	return offers
}

// isLike reports whether the tickets are the same for a buyer.
func (t ticket) isLike(other ticket) bool {
	return t.place() == other.place() && t.place().Number == "" && t.Price == other.Price && t.Currency == other.Currency && t.markedFaceValue() == other.markedFaceValue()
}

// place is where the ticket's holder sits, as far as it is known.
func (t ticket) place() place {
	if t.Seat == nil {
		return place{}
	}
	return *t.Seat
}

// markedFaceValue is the face value if the page shows it: if it is not the price.
func (t ticket) markedFaceValue() int64 {
	if t.FaceValue == t.Price {
		return 0
	}
	return t.FaceValue
}

// compareLabels is the order of rows and numbers: 9 is before 10.
func compareLabels(a, b string) int { return strings.Compare(padded(a), padded(b)) }

func padded(label string) string {
	if label == "" || strings.Trim(label, "0123456789") != "" {
		return label
	}
	return strings.Repeat("0", max(0, longestSection-len(label))) + label
}

// showContent is what the template show.html gets.
type showContent struct {
	show
	Offers   []offer
	Sections []choice
	Section  string // the chosen one, which may be ""
	Filtered bool   // a section is chosen
	Next     string
	State    string // "": on sale; "cancelled", "started"
}

func (s *Storefront) show(c *fiber.Ctx) error {
	showID, err := id.Parse[id.Show](c.Params("id"))
	if err != nil {
		return s.notFound(c, "notfound.show")
	}
	var content showContent
	answer, err := s.read(c, "/api/catalogue/shows/"+string(showID), &content.show)
	switch {
	case err != nil || answer.Status != http.StatusOK && answer.Status != http.StatusNotFound:
		return s.failed(c, err)
	case answer.Status == http.StatusNotFound:
		return s.pastShow(c, showID)
	}
	q := url.Values{"limit": {strconv.Itoa(ticketsOnPage)}}
	if content.Filtered = c.Context().QueryArgs().Has("section"); content.Filtered {
		content.Section = cut(c.Query("section"), longestSection)
		q.Set("section", content.Section)
	}
	if cursor := c.Query("cursor"); cursor != "" {
		q.Set("cursor", cursor)
	}
	var tickets []ticket
	answer, err = s.read(c, "/api/catalogue/shows/"+string(showID)+"/tickets?"+q.Encode(), &tickets)
	switch {
	case err == nil && answer.Status == http.StatusBadRequest && q.Has("cursor"):
		return c.Redirect("/shows/"+string(showID), http.StatusSeeOther)
	case err == nil && answer.Status == http.StatusNotFound: // it has just started
		return s.pastShow(c, showID)
	case err != nil || answer.Status != http.StatusOK:
		return s.failed(c, err)
	}
	t := texts[languageOf(c)]
	// Tickets without a section are the last choice.
	slices.SortStableFunc(content.show.Sections, func(a, b section) int { return cmp.Compare(len(b.Section), 0) - cmp.Compare(len(a.Section), 0) })
	for _, one := range content.show.Sections {
		on := content.Filtered && one.Section == content.Section
		path := "/shows/" + string(showID)
		if !on {
			path += "?" + url.Values{"section": {one.Section}}.Encode()
		}
		name := one.Section
		if name == "" {
			name = t["show.noSection"]
		}
		content.Sections = append(content.Sections, choice{Name: name, Path: path + "#tickets", On: on})
	}
	next := answer.nextCursor()
	content.Offers = offersOf(tickets, next != "")
	if next != "" {
		q.Del("limit")
		q.Set("cursor", next)
		content.Next = "?" + q.Encode() + "#tickets"
	}
	return s.respondShow(c, content)
}

// pastShow writes the page of a show that is cancelled or has started, or of none.
func (s *Storefront) pastShow(c *fiber.Ctx, showID id.Show) error {
	var content showContent
	answer, err := s.read(c, "/api/shows/"+string(showID), &content.show)
	switch {
	case err != nil || answer.Status >= http.StatusInternalServerError:
		return s.failed(c, err)
	case answer.Status != http.StatusOK:
		return s.notFound(c, "notfound.show")
	}
	switch {
	case content.Status == "cancelled":
		content.State = "cancelled"
	case !content.StartsAt.After(s.now()):
		content.State = "started"
	} // else it was announced a moment ago, and the catalogue does not have it yet: no tickets
	return s.respondShow(c, content)
}

func (s *Storefront) respondShow(c *fiber.Ctx, content showContent) error {
	t := texts[languageOf(c)]
	return s.respond(c, page{template: "show.html", status: http.StatusOK, view: view{
		Name: "show", ID: content.ID, Title: content.Name, Content: content, Image: content.Image,
		Text: t.dateTime(content.At()) + ", " + content.Venue + ", " + content.City,
	}})
}
