package client

import (
	"net/http"
	"time"
)

// The operations of the API, and the types in their responses. Amounts are in the currency's minor unit.

// User is a user.
type User struct {
	ID        string    `json:"id"`
	Email     string    `json:"email"`
	CreatedAt time.Time `json:"createdAt"`
}

// SignedIn is the response to SignUp, SignIn, Refresh and ChangePassword.
type SignedIn struct {
	User  User   `json:"user"`
	Token string `json:"token"`
}

// CurrentUser is the response to ReadCurrentUser. The user is nil without a valid token.
type CurrentUser struct {
	CurrentUser *User `json:"currentUser"`
}

// Credentials are the body of SignUp and SignIn.
type Credentials struct {
	Email    string `json:"email"`
	Password string `json:"password"`
}

// Ticket is a listing. Its status is available, reserved, sold or withheld.
type Ticket struct {
	ID        string    `json:"id"`
	Title     string    `json:"title"`
	Price     int64     `json:"price"`
	Currency  string    `json:"currency"`
	UserID    string    `json:"userId"`
	Status    string    `json:"status"`
	OrderID   string    `json:"orderId"`
	Version   int       `json:"version"`
	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"`
	// The members below belong to a ticket for a show. SalesEndAt is when the show starts.
	ShowID     string    `json:"showId"`
	Seat       *Place    `json:"seat"`
	FaceValue  int64     `json:"faceValue"`
	SalesEndAt time.Time `json:"salesEndAt"`
	// ResaleOf is the ticket that its buyer sells again with this one.
	ResaleOf string `json:"resaleOf"`
}

// Offer is the body of ListTicket, ListPlace and EditTicket. With a Version, an edit is refused if the ticket has another one. ShowID and
// Seat belong to a new listing alone.
type Offer struct {
	Title     string `json:"title,omitempty"`
	Price     int64  `json:"price"`
	ShowID    string `json:"showId,omitempty"`
	Seat      *Place `json:"seat,omitempty"`
	FaceValue int64  `json:"faceValue,omitempty"`
	Version   int    `json:"version,omitempty"`
}

// Order is a purchase of one ticket. Its status is created, complete or cancelled; Reason is why it is cancelled. UsedAt is when its pass
// was used, and ResoldAt when its buyer sold the ticket again.
type Order struct {
	ID        string        `json:"id"`
	UserID    string        `json:"userId"`
	Status    string        `json:"status"`
	Reason    string        `json:"reason"`
	ExpiresAt time.Time     `json:"expiresAt"`
	Ticket    OrderedTicket `json:"ticket"`
	UsedAt    time.Time     `json:"usedAt"`
	ResoldAt  time.Time     `json:"resoldAt"`
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
	ShowID   string `json:"showId"`
	Seat     *Place `json:"seat"`
}

// NewOrder is the body of Reserve.
type NewOrder struct {
	TicketID string `json:"ticketId"`
}

// Payment is the money of an order. With status requires_action, ClientSecret is what Stripe's frontend needs, and
// RedirectURL where the buyer authenticates, if the request had a ReturnURL.
type Payment struct {
	ID           string    `json:"id"`
	OrderID      string    `json:"orderId"`
	StripeID     string    `json:"stripeId"`
	Status       string    `json:"status"`
	Amount       int64     `json:"amount"`
	Currency     string    `json:"currency"`
	DeclineCode  string    `json:"declineCode"`
	ClientSecret string    `json:"clientSecret"`
	RedirectURL  string    `json:"redirectUrl"`
	CreatedAt    time.Time `json:"createdAt"`
	UpdatedAt    time.Time `json:"updatedAt"`
}

// NewPayment is the body of a payment. It has either a PaymentMethod or a Token of Stripe's.
type NewPayment struct {
	OrderID       string `json:"orderId"`
	PaymentMethod string `json:"paymentMethod,omitempty"`
	Token         string `json:"token,omitempty"`
	ReturnURL     string `json:"returnUrl,omitempty"`
}

// Webhook is an endpoint that is called when something happens to the user's tickets and orders. Its status is enabled or disabled;
// DisabledReason is user or failing. Secret is in the responses to CreateWebhook and RotateSecret alone.
type Webhook struct {
	ID             string    `json:"id"`
	URL            string    `json:"url"`
	Events         []string  `json:"events"`
	Description    string    `json:"description"`
	Status         string    `json:"status"`
	DisabledReason string    `json:"disabledReason"`
	DisabledAt     time.Time `json:"disabledAt"`
	FailingSince   time.Time `json:"failingSince"`
	Version        int       `json:"version"`
	CreatedAt      time.Time `json:"createdAt"`
	UpdatedAt      time.Time `json:"updatedAt"`
	Secret         string    `json:"secret"`
}

// NewWebhook is the body of CreateWebhook and ChangeWebhook. Status and Version belong to a change alone.
type NewWebhook struct {
	URL         string   `json:"url"`
	Events      []string `json:"events"`
	Description string   `json:"description,omitempty"`
	Status      string   `json:"status,omitempty"`
	Version     int      `json:"version,omitempty"`
}

// Delivery is a message to an endpoint. Its status is pending, delivered or failed.
type Delivery struct {
	ID            string           `json:"id"`
	EventID       string           `json:"eventId"`
	EventType     string           `json:"eventType"`
	Status        string           `json:"status"`
	Attempts      int              `json:"attempts"`
	CreatedAt     time.Time        `json:"createdAt"`
	NextAttemptAt time.Time        `json:"nextAttemptAt"`
	LastAttempt   *DeliveryAttempt `json:"lastAttempt"`
}

// DeliveryAttempt is one try to send a message. Status is 0 if there was no response; Error is why.
type DeliveryAttempt struct {
	At         time.Time `json:"at"`
	DurationMs int64     `json:"durationMs"`
	Status     int       `json:"status"`
	Body       string    `json:"body"`
	Error      string    `json:"error"`
}

func get(path string) Request    { return Request{Method: http.MethodGet, Path: path} }
func remove(path string) Request { return Request{Method: http.MethodDelete, Path: path} }
func post(path string, body any) Request {
	return Request{Method: http.MethodPost, Path: path, Body: body}
}

// SignUp creates a user. Response: 201 SignedIn.
func SignUp(email, password string) Request {
	return post("/api/users/signup", Credentials{email, password})
}

// SignIn begins a session. Response: 200 SignedIn.
func SignIn(email, password string) Request {
	return post("/api/users/signin", Credentials{email, password})
}

// Refresh continues the session of a refresh cookie. Response: 200 SignedIn.
func Refresh(cookie string) Request {
	return post("/api/users/refresh", nil).WithCookie("refresh", cookie)
}

// SignOut ends the session of the token or of the refresh cookie. Response: 200.
func SignOut() Request { return post("/api/users/signout", nil) }

// SignOutEverywhere ends all sessions of the user. Response: 200.
func SignOutEverywhere() Request { return post("/api/users/signout-everywhere", nil) }

// ChangePassword changes the user's password and ends the other sessions. Response: 200 SignedIn.
func ChangePassword(old, chosen string) Request {
	return post("/api/users/password", map[string]string{"oldPassword": old, "newPassword": chosen})
}

// ReadCurrentUser reads the user of the token. Response: 200 CurrentUser.
func ReadCurrentUser() Request { return get("/api/users/currentuser") }

// DeleteAccount deletes the user, unless orders of the user are unsettled. Response: 204.
func DeleteAccount(password string) Request {
	r := remove("/api/users/currentuser")
	r.Body = map[string]string{"password": password}
	return r
}

// ListTicket offers a ticket. Response: 201 Ticket.
func ListTicket(title string, price int64) Request {
	return post("/api/tickets", Offer{Title: title, Price: price})
}

// ListPlace offers a ticket for a show of the user. Response: 201 Ticket.
func ListPlace(offer Offer) Request { return post("/api/tickets", offer) }

// EditTicket changes a listing of the user. Response: 200 Ticket.
func EditTicket(id string, offer Offer) Request {
	return Request{Method: http.MethodPut, Path: "/api/tickets/" + id, Body: offer}
}

// DeleteTicket withdraws a listing of the user. Response: 204.
func DeleteTicket(id string) Request { return remove("/api/tickets/" + id) }

// ReadTicket reads a listing. Response: 200 Ticket.
func ReadTicket(id string) Request { return get("/api/tickets/" + id) }

// ReadTickets reads a page of all listings, the newest first. Response: 200 []Ticket.
func ReadTickets() Request { return get("/api/tickets") }

// Reserve orders a ticket. Response: 201 Order.
func Reserve(ticketID string) Request { return post("/api/orders", NewOrder{ticketID}) }

// ReadOrder reads an order of the user. Response: 200 Order.
func ReadOrder(id string) Request { return get("/api/orders/" + id) }

// ReadOrders reads a page of the user's orders, the newest first. Response: 200 []Order.
func ReadOrders() Request { return get("/api/orders") }

// CancelOrder cancels an order of the user. Response: 204.
func CancelOrder(id string) Request { return remove("/api/orders/" + id) }

// Pay pays an order with a payment method of Stripe's. Response: 201 Payment; 200 if the order was paid before; 402 if the bank declined.
func Pay(orderID, paymentMethod string) Request {
	return post("/api/payments", NewPayment{OrderID: orderID, PaymentMethod: paymentMethod})
}

// PayAndReturn is Pay with the address that the browser comes back to after 3-D Secure. Responses are the same.
func PayAndReturn(orderID, paymentMethod, returnURL string) Request {
	return post("/api/payments", NewPayment{OrderID: orderID, PaymentMethod: paymentMethod, ReturnURL: returnURL})
}

// PayWithToken is Pay with a token of a card. Responses are the same.
func PayWithToken(orderID, token string) Request {
	return post("/api/payments", NewPayment{OrderID: orderID, Token: token})
}

// ReadPaymentsOf reads the payment of an order of the user. Response: 200 []Payment, with one or none.
func ReadPaymentsOf(orderID string) Request {
	return get("/api/payments").WithQuery("orderId", orderID)
}

// ReadPayment reads a payment of the user. Response: 200 Payment.
func ReadPayment(id string) Request { return get("/api/payments/" + id) }

// ReadPaymentOf reads the payment of an order of the user. Response: 200 []Payment, which is empty if there is none.
func ReadPaymentOf(orderID string) Request { return get("/api/payments?orderId=" + orderID) }

// CreateWebhook makes an endpoint. Response: 201 Webhook, with its secret.
func CreateWebhook(url string, events ...string) Request {
	return post("/api/webhooks", NewWebhook{URL: url, Events: events})
}

// ReadWebhooks reads the endpoints of the user. Response: 200 []Webhook.
func ReadWebhooks() Request { return get("/api/webhooks") }

// ReadWebhook reads an endpoint. Response: 200 Webhook.
func ReadWebhook(id string) Request { return get("/api/webhooks/" + id) }

// ChangeWebhook changes an endpoint. Response: 200 Webhook.
func ChangeWebhook(id string, change NewWebhook) Request {
	return Request{Method: http.MethodPut, Path: "/api/webhooks/" + id, Body: change}
}

// DeleteWebhook deletes an endpoint. Response: 204.
func DeleteWebhook(id string) Request { return remove("/api/webhooks/" + id) }

// RotateSecret replaces the secret of an endpoint. Response: 200 Webhook, with the new secret.
func RotateSecret(id string) Request { return post("/api/webhooks/"+id+"/rotate-secret", nil) }

// TestWebhook sends a message of the type webhook.test to an endpoint. Response: 202 Delivery.
func TestWebhook(id string) Request { return post("/api/webhooks/"+id+"/test", nil) }

// ReadDeliveries reads a page of the messages to an endpoint, the newest first. Response: 200 []Delivery.
func ReadDeliveries(id string) Request { return get("/api/webhooks/" + id + "/deliveries") }

// Redeliver sends a message again. Response: 202 Delivery.
func Redeliver(id, deliveryID string) Request {
	return post("/api/webhooks/"+id+"/deliveries/"+deliveryID+"/redeliver", nil)
}
