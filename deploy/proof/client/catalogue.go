package client

import (
	"net/http"
	"net/url"
	"time"
)

// The operations of shows and of the catalogue.

// Show is a show. Its status is scheduled or cancelled. MaxMarkup is its price cap: by how many percent a price may exceed the face
// value; nil is none.
type Show struct {
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
	Image       *ShowImage `json:"image"`
	Status      string     `json:"status"`
	UserID      string     `json:"userId"`
	Version     int        `json:"version"`
	CreatedAt   time.Time  `json:"createdAt"`
	UpdatedAt   time.Time  `json:"updatedAt"`
}

// ShowImage is the image of a show. URL is a path of the API.
type ShowImage struct {
	URL    string `json:"url"`
	Width  int    `json:"width"`
	Height int    `json:"height"`
}

// NewShow is the body of CreateShow and ChangeShow. With a Version, a change is refused if the show has another one.
type NewShow struct {
	Name        string    `json:"name"`
	Venue       string    `json:"venue"`
	City        string    `json:"city"`
	Country     string    `json:"country"`
	StartsAt    time.Time `json:"startsAt"`
	TimeZone    string    `json:"timeZone"`
	Category    string    `json:"category"`
	Description string    `json:"description,omitempty"`
	MaxMarkup   *int      `json:"maxMarkup,omitempty"`
	Version     int       `json:"version,omitempty"`
}

// Place is where the holder of a ticket sits or stands. One with a Number is of one ticket of its show.
type Place struct {
	Section string `json:"section,omitempty"`
	Row     string `json:"row,omitempty"`
	Number  string `json:"number,omitempty"`
}

// CatalogueShow is a show as the catalogue has it: with the number of its available listings, and the lowest price of them.
type CatalogueShow struct {
	Show
	Left      int       `json:"left"`
	PriceFrom int64     `json:"priceFrom"`
	Currency  string    `json:"currency"`
	Sections  []Section `json:"sections"` // in the response to ReadCatalogueShow alone
}

// Section is a part of a venue with what is left there.
type Section struct {
	Section   string `json:"section"`
	Left      int    `json:"left"`
	PriceFrom int64  `json:"priceFrom"`
}

// Found is a page of the catalogue. Total is the number of shows on all pages.
type Found struct {
	Shows  []CatalogueShow `json:"shows"`
	Total  int             `json:"total"`
	Facets Facets          `json:"facets"`
}

// Facets are how many of the shows have each value.
type Facets struct {
	Cities     []Facet `json:"cities"`
	Categories []Facet `json:"categories"`
	Countries  []Facet `json:"countries"`
}

// Facet is a value with the number of shows that have it.
type Facet struct {
	Value string `json:"value"`
	Count int    `json:"count"`
}

// CreateShow announces a show. Response: 201 Show.
func CreateShow(show NewShow) Request { return post("/api/shows", show) }

// ChangeShow changes a show of the user. Response: 200 Show.
func ChangeShow(id string, show NewShow) Request {
	return Request{Method: http.MethodPut, Path: "/api/shows/" + id, Body: show}
}

// CancelShow cancels a show of the user: its listings are withdrawn and its orders refunded. Response: 204.
func CancelShow(id string) Request { return remove("/api/shows/" + id) }

// ReadShow reads a show. Response: 200 Show.
func ReadShow(id string) Request { return get("/api/shows/" + id) }

// ReadShows reads a page of all shows, the newest first. Response: 200 []Show.
func ReadShows() Request { return get("/api/shows") }

// PutImage gives a show of the user an image. Response: 200 Show.
func PutImage(id, mediaType string, image []byte) Request {
	return Request{Method: http.MethodPut, Path: "/api/shows/" + id + "/image", Body: image}.With("Content-Type", mediaType)
}

// DeleteImage removes the image of a show of the user. Response: 204.
func DeleteImage(id string) Request { return remove("/api/shows/" + id + "/image") }

// SearchShows searches the shows that are on. Its parameters are added with WithQuery. Response: 200 Found.
func SearchShows() Request { return get("/api/catalogue/shows") }

// ReadCatalogueShow reads a show that is on. Response: 200 CatalogueShow.
func ReadCatalogueShow(id string) Request { return get("/api/catalogue/shows/" + id) }

// ReadShowTickets reads a page of the available listings of a show, the cheapest first. Response: 200 []Ticket.
func ReadShowTickets(id string) Request { return get("/api/catalogue/shows/" + id + "/tickets") }

// ReadAvailable reads a page of all available listings, the newest first. Response: 200 []Ticket.
func ReadAvailable() Request { return get("/api/tickets").WithQuery("status", "available") }

// FollowShows opens a stream of what changes at shows. Client.Stream sends it.
func FollowShows(ids ...string) Request { return FollowShowsAfter(nil, ids...) }

// FollowShowsAfter opens a stream of what changes at shows after pages with these positions (Catalogue-Position).
func FollowShowsAfter(positions []string, ids ...string) Request {
	return get("/api/catalogue/live?" + url.Values{"show": ids, "after": positions}.Encode())
}
