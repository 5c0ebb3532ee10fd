package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/valyala/fasthttp"

	"boxoffice/services/catalogue/index"
	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/rest"
)

const (
	// A page of the catalogue has defaultPage entries, and at most longestPage.
	defaultPage, longestPage = 20, 100
	// A query, a city and a section have at most so many characters.
	longestQuery, longestCity, longestSection = 200, 100, 50
	// Bodies from compressFrom bytes on are compressed, if the client accepts it. The last compressedPages are kept.
	compressFrom    = 1024
	compressedPages = 256
)

// pages is the REST API of the read model. Everybody may read it. It reads the index in memory alone.
type pages struct {
	index *index.Index
	// position returns that from which a live stream continues a page that is read after the call.
	position func() string
	// compressed has bodies by ETag: the same page is often requested again.
	compressed *lru.Cache[string, []byte]
}

func newPages(of *index.Index, position func() string) *pages {
	compressed, err := lru.New[string, []byte](compressedPages)
	if err != nil { // the size is not positive
		panic(err)
	}
	return &pages{of, position, compressed}
}

func (p *pages) register(app *fiber.App) {
	app.Get("/api/catalogue/shows", p.notePosition, p.search)
	app.Get("/api/catalogue/shows/:id", p.notePosition, p.show)
	app.Get("/api/catalogue/shows/:id/tickets", p.notePosition, p.listings)
	app.Get("/api/tickets", p.notePosition, p.available)
}

// positionHeader is the response header with the position of a page. A live stream that continues after it misses nothing, at any replica.
const positionHeader = "Catalogue-Position"

type positionKey struct{}

// notePosition reads the position before the page is made, so that the page has everything up to it.
func (p *pages) notePosition(c *fiber.Ctx) error {
	c.Locals(positionKey{}, p.position())
	return c.Next()
}

// catalogueShow is a show as clients of the catalogue get it.
type catalogueShow struct {
	showResponse
	Left int `json:"left"`
	// The lowest price; absent if none is left.
	PriceFrom *int64 `json:"priceFrom,omitempty"`
	Currency  string `json:"currency,omitempty"`
}

// showWithSections is a single show.
type showWithSections struct {
	catalogueShow
	Sections []sectionResponse `json:"sections"`
}

type sectionResponse struct {
	Section   string `json:"section"`
	Left      int    `json:"left"`
	PriceFrom int64  `json:"priceFrom"`
}

// searchResponse is a page of shows.
type searchResponse struct {
	Shows  []catalogueShow `json:"shows"`
	Total  int             `json:"total"`
	Facets facetsResponse  `json:"facets"`
}

type facetsResponse struct {
	Cities     []facetValue `json:"cities"`
	Categories []facetValue `json:"categories"`
	Countries  []facetValue `json:"countries"`
}

type facetValue struct {
	Value string `json:"value"`
	Count int    `json:"count"`
}

// listingResponse is an available ticket, in the form in which tickets has it. Its version is that of the seller's last change.
type listingResponse struct {
	ID         id.Ticket       `json:"id"`
	Title      string          `json:"title"`
	Price      int64           `json:"price"`
	Currency   string          `json:"currency"`
	UserID     id.User         `json:"userId"`
	Status     index.Status    `json:"status"`
	ShowID     id.Show         `json:"showId,omitempty"`
	Seat       *index.Place    `json:"seat,omitempty"`
	FaceValue  int64           `json:"faceValue,omitempty"`
	SalesEndAt clock.Timestamp `json:"salesEndAt,omitzero"`
	ResaleOf   id.Ticket       `json:"resaleOf,omitempty"`
	Version    int             `json:"version"`
	CreatedAt  clock.Timestamp `json:"createdAt"`
	UpdatedAt  clock.Timestamp `json:"updatedAt"`
}

func catalogueShowOf(f index.Found) catalogueShow {
	response := catalogueShow{
		showResponse: showResponse{
			ID:          f.ID,
			Name:        f.Name,
			Venue:       f.Venue,
			City:        f.City,
			Country:     f.Country,
			StartsAt:    clock.Stamp(f.StartsAt),
			TimeZone:    f.TimeZone,
			Category:    f.Category,
			Description: f.Description,
			MaxMarkup:   f.MaxMarkup,
			Status:      events.ShowStatusScheduled,
			UserID:      f.UserID,
			Version:     f.Version,
			CreatedAt:   clock.Stamp(f.CreatedAt),
			UpdatedAt:   clock.Stamp(f.UpdatedAt),
		},
		Left: f.Left,
	}
	if f.Image != nil {
		response.Image = &imageResponse{f.Image.URL, f.Image.Width, f.Image.Height}
	}
	if f.Left > 0 {
		response.PriceFrom, response.Currency = &f.PriceFrom, f.Currency
	}
	return response
}

func listingsOf(listings []index.Listing) []listingResponse {
	responses := make([]listingResponse, len(listings))
	for i, l := range listings {
		responses[i] = listingResponse{
			ID: l.ID, Title: l.Title, Price: l.Price, Currency: l.Currency, UserID: l.UserID, Status: index.Available,
			ShowID: l.ShowID, Seat: l.Place, FaceValue: l.FaceValue, ResaleOf: l.ResaleOf,
			Version: l.Version, CreatedAt: clock.Stamp(l.CreatedAt), UpdatedAt: clock.Stamp(l.UpdatedAt),
		}
		if !l.SalesEndAt.IsZero() {
			responses[i].SalesEndAt = clock.Stamp(l.SalesEndAt)
		}
	}
	return responses
}

func facetOf(values []index.FacetValue) []facetValue {
	responses := make([]facetValue, len(values))
	for i, v := range values {
		responses[i] = facetValue(v)
	}
	return responses
}

var errNotInCatalogue = problem.New(problem.NotFound, "not_found", "The catalogue has no such show: it does not exist, has started or is cancelled.")

func (p *pages) search(c *fiber.Ctx) error {
	query, err := readQuery(c)
	if err != nil {
		return err
	}
	page, err := p.index.Search(query)
	if err != nil {
		return cursorProblem(err)
	}
	response := searchResponse{
		Shows: make([]catalogueShow, len(page.Shows)), Total: page.Total,
		Facets: facetsResponse{facetOf(page.Facets.Cities), facetOf(page.Facets.Categories), facetOf(page.Facets.Countries)},
	}
	for i, f := range page.Shows {
		response.Shows[i] = catalogueShowOf(f)
	}
	rest.NextLink(c, page.Next)
	return p.respond(c, response)
}

// cursorProblem is the problem of a search.
func cursorProblem(err error) error {
	if errors.Is(err, index.ErrCursor) {
		return problem.New(problem.Invalid, "invalid", "Cursor must be one that this list gave, for the same order.").WithField("cursor")
	}
	return err
}

func (p *pages) show(c *fiber.Ctx) error {
	show, err := rest.PathID[id.Show](c, "id")
	if err != nil {
		return err
	}
	found, sections, ok := p.index.Show(show)
	if !ok {
		return errNotInCatalogue
	}
	response := showWithSections{catalogueShowOf(found), make([]sectionResponse, len(sections))}
	for i, s := range sections {
		response.Sections[i] = sectionResponse{s.Name, s.Left, s.PriceFrom}
	}
	return p.respond(c, response)
}

func (p *pages) listings(c *fiber.Ctx) error {
	show, err := rest.PathID[id.Show](c, "id")
	if err != nil {
		return err
	}
	limit, cursor, err := rest.PagingUpTo(c, defaultPage, longestPage)
	if err != nil {
		return err
	}
	var section *string
	if c.Context().QueryArgs().Has("section") {
		named := c.Query("section")
		if err := checkLength("section", named, longestSection); err != nil {
			return err
		}
		section = &named
	}
	listings, next, ok, err := p.index.Listings(show, section, limit, cursor)
	switch {
	case err != nil:
		return cursorProblem(err)
	case !ok:
		return errNotInCatalogue
	}
	rest.NextLink(c, next)
	return p.respond(c, listingsOf(listings))
}

// available has the available tickets of all shows and of none. The gateway sends requests for tickets here if they have status=available.
func (p *pages) available(c *fiber.Ctx) error {
	if c.Query("status") != string(index.Available) {
		return problem.New(problem.Invalid, "invalid", "Status must be available.").WithField("status")
	}
	if c.Context().QueryArgs().Has("seller") {
		return problem.New(problem.Invalid, "invalid", "The list of available tickets has those of all sellers. For your own, of every status, send seller=me alone.").WithField("seller")
	}
	if c.Context().QueryArgs().Has("showId") {
		return problem.New(problem.Invalid, "invalid", "The list of available tickets has those of all shows. For one show, read /api/catalogue/shows/{showId}/tickets.").WithField("showId")
	}
	limit, cursor, err := rest.Paging(c)
	if err != nil {
		return err
	}
	listings, next, err := p.index.Newest(limit, cursor)
	if err != nil {
		return cursorProblem(err)
	}
	rest.NextLink(c, next)
	return p.respond(c, listingsOf(listings))
}

// readQuery reads the parameters of a search.
func readQuery(c *fiber.Ctx) (q index.Query, err error) {
	if q.Limit, q.Cursor, err = rest.PagingUpTo(c, defaultPage, longestPage); err != nil {
		return q, err
	}
	q.Text, q.City, q.Country, q.Category = c.Query("q"), c.Query("city"), c.Query("country"), c.Query("category")
	if err := checkLength("q", q.Text, longestQuery); err != nil {
		return q, err
	}
	if err := checkLength("city", q.City, longestCity); err != nil {
		return q, err
	}
	if q.Country != "" && !isCountry(q.Country) {
		return q, problem.New(problem.Invalid, "invalid", "Country must be a code of ISO 3166-1 alpha-2, for example DE.").WithField("country")
	}
	if q.Category != "" && !slices.Contains(categories, q.Category) {
		return q, problem.New(problem.Invalid, "invalid", "Category must be one of %s.", strings.Join(categories, ", ")).WithField("category")
	}
	if q.From, err = readBound(c, "from"); err != nil {
		return q, err
	}
	if q.To, err = readBound(c, "to"); err != nil {
		return q, err
	}
	switch available := c.Query("available"); available {
	case "", "false":
	case "true":
		q.Available = true
	default:
		return q, problem.New(problem.Invalid, "wrong_type", "Available must be true or false.").WithField("available")
	}
	switch q.Sort = index.Sort(c.Query("sort")); q.Sort {
	case index.ByDate, index.ByPrice, index.ByRelevance:
	case "":
		q.Sort = index.ByDate
		if strings.TrimSpace(q.Text) != "" {
			q.Sort = index.ByRelevance
		}
	default:
		return q, problem.New(problem.Invalid, "invalid", "Sort must be date, relevance or price.").WithField("sort")
	}
	return q, nil
}

func checkLength(name, value string, longest int) error {
	if utf8.RuneCountInString(value) <= longest {
		return nil
	}
	return problem.New(problem.Invalid, "max", "%s must be at most %d characters long.", strings.ToUpper(name[:1])+name[1:], longest).WithField(name)
}

// readBound reads one end of a period: a time, or a date.
func readBound(c *fiber.Ctx, name string) (index.Bound, error) {
	// A plus sign that was not escaped arrives as a space.
	text := strings.Replace(c.Query(name), " ", "+", 1)
	if text == "" {
		return index.Bound{}, nil
	}
	if date, err := time.Parse(time.DateOnly, text); err == nil {
		return index.OnDate(date), nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return index.AtTime(at), nil
	}
	return index.Bound{}, problem.New(problem.Invalid, "invalid", "%s must be a date, or a time of RFC 3339: 2030-06-12 or 2030-06-12T20:00:00+02:00.",
		strings.ToUpper(name[:1])+name[1:]).WithField(name)
}

// respond sends a body that may be cached, if it is compared each time: 304 if the client has it. The ETag is weak, because it is the same
// for a compressed body.
func (p *pages) respond(c *fiber.Ctx, response any) error {
	body, err := json.Marshal(response)
	if err != nil {
		return fmt.Errorf("encode the response: %w", err)
	}
	hash := sha256.Sum256(body)
	etag := `"` + hex.EncodeToString(hash[:8]) + `"`
	if position, _ := c.Locals(positionKey{}).(string); position != "" {
		c.Set(positionHeader, position)
	}
	c.Set(fiber.HeaderETag, "W/"+etag)
	c.Set(fiber.HeaderCacheControl, "public, no-cache")
	c.Set(fiber.HeaderVary, fiber.HeaderAcceptEncoding)
	if rest.IsCurrent(c, etag) {
		return c.SendStatus(fiber.StatusNotModified)
	}
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	if len(body) < compressFrom || !rest.AcceptsGzip(c) {
		return c.Send(body)
	}
	compressed, ok := p.compressed.Get(etag)
	if !ok {
		compressed = fasthttp.AppendGzipBytesLevel(nil, body, fasthttp.CompressBestSpeed)
		p.compressed.Add(etag, compressed)
	}
	c.Set(fiber.HeaderContentEncoding, "gzip")
	return c.Send(compressed)
}
