package client

import "time"

// The operations of passes, check-ins and resale.

// Pass admits the holder of a complete order to its show. Its status is valid or used.
type Pass struct {
	OrderID  string    `json:"orderId"`
	TicketID string    `json:"ticketId"`
	ShowID   string    `json:"showId"`
	Title    string    `json:"title"`
	Seat     *Place    `json:"seat"`
	Code     string    `json:"code"` // what the QR code holds: a compact JWS
	Status   string    `json:"status"`
	UsedAt   time.Time `json:"usedAt"`
	StartsAt time.Time `json:"startsAt"`
}

// Admission is the response to CheckIn: the pass is used now.
type Admission struct {
	OrderID  string    `json:"orderId"`
	TicketID string    `json:"ticketId"`
	ShowID   string    `json:"showId"`
	Title    string    `json:"title"`
	Seat     *Place    `json:"seat"`
	UsedAt   time.Time `json:"usedAt"`
}

// Sale is a ticket that the user has sold.
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

// ReadPass reads the pass of an order of the user. Response: 200 Pass.
func ReadPass(orderID string) Request { return get("/api/orders/" + orderID + "/pass") }

// CheckIn uses a pass of a show of the user. Response: 200 Admission, once.
func CheckIn(showID, code string) Request {
	return post("/api/shows/"+showID+"/checkins", map[string]string{"code": code})
}

// Resell offers the ticket of a complete order of the user again. Response: 201 Ticket, the new listing.
func Resell(ticketID string, price int64) Request {
	return post("/api/tickets", Offer{ResaleOf: ticketID, Price: price})
}

// ReadSales reads a page of what the user has sold, the newest first. Response: 200 []Sale.
func ReadSales() Request { return get("/api/orders/sales") }

// ReadOwnTickets reads a page of the listings of the user, the newest first. Response: 200 []Ticket.
func ReadOwnTickets() Request { return get("/api/tickets").WithQuery("seller", "me") }

// ReadOwnShows reads a page of the shows of the user, the newest first. Response: 200 []Show.
func ReadOwnShows() Request { return get("/api/shows").WithQuery("owner", "me") }
