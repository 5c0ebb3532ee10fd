package client

import "time"

// The operations of passes, of resale, and of what sellers see of their sales.

// Pass lets the buyer of a ticket into its show. Its status is valid or used. Code is what the QR code has.
type Pass struct {
	OrderID  string    `json:"orderId"`
	TicketID string    `json:"ticketId"`
	ShowID   string    `json:"showId"`
	Title    string    `json:"title"`
	Seat     *Place    `json:"seat"`
	Code     string    `json:"code"`
	Status   string    `json:"status"`
	UsedAt   time.Time `json:"usedAt"`
	StartsAt time.Time `json:"startsAt"`
}

// CheckedIn is the response to CheckIn: whom the pass has let in.
type CheckedIn struct {
	OrderID  string    `json:"orderId"`
	TicketID string    `json:"ticketId"`
	ShowID   string    `json:"showId"`
	Title    string    `json:"title"`
	Seat     *Place    `json:"seat"`
	UsedAt   time.Time `json:"usedAt"`
}

// Sale is a complete order of a ticket that the user listed. Its status is complete or cancelled.
type Sale struct {
	OrderID     string    `json:"orderId"`
	TicketID    string    `json:"ticketId"`
	ShowID      string    `json:"showId"`
	Title       string    `json:"title"`
	Seat        *Place    `json:"seat"`
	Price       int64     `json:"price"`
	Currency    string    `json:"currency"`
	Status      string    `json:"status"`
	Reason      string    `json:"reason"`
	SoldAt      time.Time `json:"soldAt"`
	CancelledAt time.Time `json:"cancelledAt"`
}

// NewResale is the body of Resell.
type NewResale struct {
	ResaleOf string `json:"resaleOf"`
	Price    int64  `json:"price"`
}

// ReadPass reads the pass of an order of the user. Response: 200 Pass; 409 if there is none, or if it is void.
func ReadPass(orderID string) Request { return get("/api/orders/" + orderID + "/pass") }

// CheckIn uses a pass of a show of the user. Response: 200 CheckedIn, once.
func CheckIn(showID, code string) Request {
	return post("/api/shows/"+showID+"/checkins", map[string]string{"code": code})
}

// Resell offers a ticket that the user has bought. Response: 201 Ticket.
func Resell(ticketID string, price int64) Request {
	return post("/api/tickets", NewResale{ticketID, price})
}

// ReadSales reads a page of what the user has sold, the newest first. Response: 200 []Sale.
func ReadSales() Request { return get("/api/orders/sales") }

// ReadOwnTickets reads a page of the user's listings, the newest first. Response: 200 []Ticket.
func ReadOwnTickets() Request { return ReadTickets().WithQuery("seller", "me") }

// ReadOwnShows reads a page of the user's shows, the newest first. Response: 200 []Show.
func ReadOwnShows() Request { return ReadShows().WithQuery("owner", "me") }

// ReadPassKeys reads the keys that verify codes of passes. Response: 200 with a key set.
func ReadPassKeys() Request { return get("/.well-known/passes/jwks.json") }
