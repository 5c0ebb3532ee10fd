package check

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// History is what clients requested and were answered. Clients may write to it concurrently.
//
// Acknowledgements (an order answered with 201, for example) must hold for ever. Requests, with the times of call and
// answer, show what no final state shows: that two buyers held a ticket at the same moment, or that an order was
// complete and later was not.
type History struct {
	mu        sync.Mutex
	users     []string
	orders    map[string]AcknowledgedOrder
	listings  map[string][]Listing // by ticket: each version that was acknowledged to its seller
	deleted   map[string]bool
	payments  map[string]string        // the order by the payment
	shows     map[string][]ShowVersion // by show: each version that was acknowledged to its owner
	cancelled map[string]bool          // shows
	checkIns  []GrantedCheckIn
	requests  []Request
}

// AcknowledgedOrder is an order that was answered with 201.
type AcknowledgedOrder struct {
	ID, Ticket, Buyer string
	Cancelled         bool // its cancellation was answered with 204
}

// Listing is a version of a ticket as its seller made it.
type Listing struct {
	Version int
	Title   string
	Price   int64
}

// ShowVersion is a version of a show as its owner made it.
type ShowVersion struct {
	Version int
	Name    string
}

// GrantedCheckIn is a check-in that was answered 200.
type GrantedCheckIn struct {
	Order, Ticket, Show string
	UsedAt              time.Time
}

// NewHistory returns an empty history.
func NewHistory() *History {
	return &History{orders: map[string]AcknowledgedOrder{}, listings: map[string][]Listing{}, deleted: map[string]bool{}, payments: map[string]string{},
		shows: map[string][]ShowVersion{}, cancelled: map[string]bool{}}
}

// SignedUp records a user whose sign-up was acknowledged.
func (h *History) SignedUp(user string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.users = append(h.users, user)
}

// Ordered records an order that was acknowledged to its buyer.
func (h *History) Ordered(order, ticket, buyer string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.orders[order] = AcknowledgedOrder{ID: order, Ticket: ticket, Buyer: buyer}
}

// Cancelled records an order whose cancellation was acknowledged to its buyer.
func (h *History) Cancelled(order string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	acknowledged := h.orders[order]
	acknowledged.Cancelled = true
	h.orders[order] = acknowledged
}

// Listed records a version of a ticket that was acknowledged to its seller.
func (h *History) Listed(ticket string, version Listing) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listings[ticket] = append(h.listings[ticket], version)
}

// Deleted records a ticket whose deletion was acknowledged to its seller.
func (h *History) Deleted(ticket string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.deleted[ticket] = true
}

// Showed records a version of a show that was acknowledged to its owner.
func (h *History) Showed(show string, version ShowVersion) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.shows[show] = append(h.shows[show], version)
}

// ShowCancelled records a show whose cancellation was acknowledged to its owner.
func (h *History) ShowCancelled(show string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cancelled[show] = true
}

// CheckedIn records a check-in that was acknowledged to the show's owner. Responses to one Idempotency-Key are one check-in.
func (h *History) CheckedIn(c GrantedCheckIn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checkIns = append(h.checkIns, c)
}

// Paid records a payment that was acknowledged to the order's buyer.
func (h *History) Paid(payment, order string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.payments[payment] = order
}

// Add records a request with its outcome.
func (h *History) Add(r Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.requests = append(h.requests, r)
}

// RequestKind is what a client requested.
type RequestKind string

const (
	Reserve    RequestKind = "reserve"
	Cancel     RequestKind = "cancel"
	ReadOrder  RequestKind = "read the order"
	Pay        RequestKind = "pay"
	Refund     RequestKind = "refund" // at Stripe, by an operator of the marketplace
	Edit       RequestKind = "edit"
	Withdraw   RequestKind = "delete"
	Revoke     RequestKind = "cancel the show" // of a ticket; and the deletion of one whose place another may get
	ReadTicket RequestKind = "read the ticket"
	CheckIn    RequestKind = "check in"
	Resell     RequestKind = "resell" // of a ticket that was bought: the listing of it as another ticket
)

// Request is one request of a client. Retries with the same Idempotency-Key are one request, from the first call to the
// answer.
type Request struct {
	Kind         RequestKind
	Call, Return time.Time // Return is zero if the outcome is unknown: the request may have had its effect, or may have it later

	// As far as they are known. The order of a reservation is the one that was made, or that the code own_reservation names.
	Ticket, Order, Buyer string

	// Granted means a 2xx. Otherwise Code is the reason of the refusal: the problem's code or, without one, the status.
	Granted bool
	Code    string

	ExpiresAt      time.Time // of a reservation that was granted
	Status, Reason string    // of an order that was read; Status also of a ticket
	Version        int       // of a ticket that was read, or that an edit made
	From           int       // the version that an edit replaces
	Title          string    // of an edit
	Price          int64
}

func (r Request) known() bool   { return !r.Return.IsZero() }
func (r Request) refused() bool { return r.known() && !r.Granted }

// orderNotFound reports whether the answer was that there is no such order.
func (r Request) orderNotFound() bool {
	return r.Code == "not_found" || r.Code == "not_buyer"
}

// String is the request in one line of a report.
func (r Request) String() string {
	text := fmt.Sprintf("%s to %s  %s", r.Call.Format("15:04:05.000"), r.Return.Format("15:04:05.000"), r.Kind)
	if !r.known() {
		text = fmt.Sprintf("%s to ?             %s", r.Call.Format("15:04:05.000"), r.Kind)
	}
	switch {
	case r.Kind == Reserve && r.Granted:
		text += fmt.Sprintf(": order %s until %s", r.Order, r.ExpiresAt.Format("15:04:05.000"))
	case r.Order != "":
		text += " " + r.Order
	}
	switch {
	case !r.known():
		return text + ": no answer"
	case r.refused():
		return text + ": refused, " + r.Code
	case r.Status != "":
		return text + ": " + strings.TrimSpace(r.Status+" "+r.Reason)
	}
	return text
}

// Jump is a period in which a process's clock was wrong.
type Jump struct {
	App      string // the name of the replica
	Offset   time.Duration
	From, To time.Time
}

// of reports whether the clock was that of one of an app's replicas.
func (j Jump) of(app string) bool { return j.App == app || strings.HasPrefix(j.App, app+"-") }

// showed reports whether the wrong clock may have shown a time.
func (j Jump) showed(at time.Time) bool {
	const tolerance = time.Second
	return at.After(j.From.Add(j.Offset-tolerance)) && at.Before(j.To.Add(j.Offset+tolerance))
}
