package event

import "time"

// What events carry: the public state of an aggregate. Amounts are in the currency's minor unit.

// User is the data of user.created and user.deleted.
type User struct {
	ID        string    `json:"id"`
	Version   int       `json:"version"`
	CreatedAt time.Time `json:"createdAt"`
}

// Event is an event of the user.
func (u User) Event(eventType string) Event { return New(eventType, u.ID, u.Version, u) }

// Ticket is the data of ticket.created, ticket.updated and ticket.deleted.
type Ticket struct {
	ID        string    `json:"id"`
	Title     string    `json:"title"`
	Price     int64     `json:"price"`
	Currency  string    `json:"currency"`
	UserID    string    `json:"userId"`
	Status    string    `json:"status"`
	OrderID   string    `json:"orderId,omitempty"`
	Version   int       `json:"version"`
	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"`
	// The members below belong to a ticket for a show. Revoked means that the ticket is void.
	ShowID     string    `json:"showId,omitempty"`
	Seat       *Place    `json:"seat,omitempty"`
	FaceValue  int64     `json:"faceValue,omitempty"`
	SalesEndAt time.Time `json:"salesEndAt,omitzero"`
	Revoked    bool      `json:"revoked,omitempty"`
}

// Place is where the holder of a ticket sits or stands.
type Place struct {
	Section string `json:"section,omitempty"`
	Row     string `json:"row,omitempty"`
	Number  string `json:"number,omitempty"`
}

// Event is an event of the ticket.
func (t Ticket) Event(eventType string) Event { return New(eventType, t.ID, t.Version, t) }

// Order is the data of order.created, order.completed and order.cancelled.
type Order struct {
	ID        string        `json:"id"`
	UserID    string        `json:"userId"`
	SellerID  string        `json:"sellerId,omitempty"` // absent in events of earlier releases
	Status    string        `json:"status"`
	ExpiresAt time.Time     `json:"expiresAt"`
	Ticket    OrderedTicket `json:"ticket"`
	Sequence  int           `json:"sequence"`
	Version   int           `json:"version"`
	CreatedAt time.Time     `json:"createdAt"`
	UpdatedAt time.Time     `json:"updatedAt"`
}

// OrderedTicket is the ticket as it was when it was reserved.
type OrderedTicket struct {
	ID       string `json:"id"`
	Title    string `json:"title"`
	Price    int64  `json:"price"`
	Currency string `json:"currency"`
	ShowID   string `json:"showId,omitempty"`
	Seat     *Place `json:"seat,omitempty"`
}

// Event is an event of the order.
func (o Order) Event(eventType string) Event { return New(eventType, o.ID, o.Version, o) }

// Payment is the data of payment.created, payment.captured, payment.voided, payment.refunded and payment.failed.
type Payment struct {
	ID        string    `json:"id"`
	OrderID   string    `json:"orderId"`
	UserID    string    `json:"userId"`
	StripeID  string    `json:"stripeId"`
	Status    string    `json:"status"`
	Amount    int64     `json:"amount"`
	Currency  string    `json:"currency"`
	Refunded  int64     `json:"refunded,omitempty"`
	Version   int       `json:"version"`
	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"`
}

// Event is an event of the payment.
func (p Payment) Event(eventType string) Event { return New(eventType, p.ID, p.Version, p) }

// Show is the data of show.created, show.updated and show.cancelled.
type Show struct {
	ID          string     `json:"id"`
	Name        string     `json:"name"`
	Venue       string     `json:"venue"`
	City        string     `json:"city"`
	Country     string     `json:"country"`
	StartsAt    time.Time  `json:"startsAt"`
	TimeZone    string     `json:"timeZone"`
	Category    string     `json:"category"`
	Description string     `json:"description,omitempty"`
	MaxMarkup   *int       `json:"maxMarkup,omitempty"`
	Image       *ShowImage `json:"image,omitempty"`
	Status      string     `json:"status"`
	UserID      string     `json:"userId"`
	Version     int        `json:"version"`
	CreatedAt   time.Time  `json:"createdAt"`
	UpdatedAt   time.Time  `json:"updatedAt"`
}

// ShowImage is the image of a show.
type ShowImage struct {
	URL    string `json:"url"`
	Width  int    `json:"width"`
	Height int    `json:"height"`
}

// Event is an event of the show.
func (s Show) Event(eventType string) Event { return New(eventType, s.ID, s.Version, s) }

// ExpiredOrder is an order whose reservation window ended at ExpiresAt.
type ExpiredOrder struct {
	ID        string    `json:"id"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// Expiration is an expiration.complete of a slot's orders.
func Expiration(slot string, part int, orders ...ExpiredOrder) Event {
	return New("expiration.complete", slot, part, map[string]any{"slot": slot, "part": part, "orders": orders})
}

// ExpirationOfOne is an expiration.complete as an earlier release published it: of one order, in the given firing.
func ExpirationOfOne(order ExpiredOrder, firing int) Event {
	return New("expiration.complete", order.ID, firing, map[string]any{"orderId": order.ID, "expiresAt": order.ExpiresAt, "firing": firing})
}
