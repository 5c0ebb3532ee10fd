package check

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Endpoints are the users' own servers, to which the service webhooks delivers events, and what arrived there. It is safe for
// concurrent use.
type Endpoints struct {
	mu      sync.Mutex
	created map[string]time.Time // by user: when the endpoint for all types was there
	arrived map[arrival]*arrivals
	leaked  map[arrival]bool // messages to sellers that name the buyer
	quiet   time.Time        // since then no fault and no new request; zero before
}

// ArrivalLimit is how long a message may take once an event is published and everything runs.
const ArrivalLimit = time.Minute

// arrivals are when a message came first, and how often it came.
type arrivals struct {
	first time.Time
	n     int
}

// arrival is an event that a user got in a role.
type arrival struct{ user, role, event string }

// NewEndpoints returns Endpoints without one.
func NewEndpoints() *Endpoints {
	return &Endpoints{created: map[string]time.Time{}, arrived: map[arrival]*arrivals{}, leaked: map[arrival]bool{}}
}

// Created records that a user has an endpoint for all types from now on.
func (e *Endpoints) Created(user string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.created[user] = time.Now()
}

// Deleted records that a user may have no endpoint any more.
func (e *Endpoints) Deleted(user string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.created, user)
}

// Quiet records that faults and requests are over: from now on a message may take ArrivalLimit.
func (e *Endpoints) Quiet() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.quiet = time.Now()
}

// Arrived records a message that came to a user's endpoint. A body that is no such message is ignored.
func (e *Endpoints) Arrived(user string, body []byte) {
	var m struct {
		Type, Role string
		Data       struct {
			ID      string
			Version int
			UserID  string
		}
	}
	if json.Unmarshal(body, &m) != nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	a := arrival{user, m.Role, fmt.Sprintf("%s:%s:%d", m.Type, m.Data.ID, m.Data.Version)}
	if e.arrived[a] == nil {
		e.arrived[a] = &arrivals{first: time.Now()}
	}
	e.arrived[a].n++
	if m.Role == "seller" && strings.HasPrefix(m.Type, "order.") && m.Data.UserID != "" {
		e.leaked[a] = true
	}
}

// Messages are the numbers of endpoints, of different messages that came to them, and of all.
func (e *Endpoints) Messages() (endpoints, different, all int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, each := range e.arrived {
		all += each.n
	}
	return len(e.created), len(e.arrived), all
}

// wrong are the events that a user with an endpoint did not get, or got late, and what came to a user who must not have it.
func (e *Endpoints) wrong(events []event, byID map[string]event) map[arrival]string {
	e.mu.Lock()
	defer e.mu.Unlock()
	found := map[arrival]string{}
	for _, published := range events {
		for role, user := range recipients(published) {
			a := arrival{user, role, published.ID}
			created, has := e.created[user]
			switch got := e.arrived[a]; {
			case !has || !published.Time.After(created):
			case got == nil:
				found[a] = fmt.Sprintf("the event %s did not arrive at the endpoint of the %s", a.event, role)
			case !e.quiet.IsZero() && got.first.Sub(latest(e.quiet, published.Time)) > ArrivalLimit:
				found[a] = fmt.Sprintf("the event %s arrived at the endpoint of the %s more than %s after faults and load", a.event, role, ArrivalLimit)
			}
		}
	}
	for a := range e.arrived {
		published, is := byID[a.event]
		switch {
		case !is:
			found[a] = fmt.Sprintf("a message about %s arrived, which nobody published", a.event)
		case recipients(published)[a.role] != a.user:
			found[a] = fmt.Sprintf("the event %s arrived at the endpoint of a user who is not its %s", a.event, a.role)
		case e.leaked[a]:
			found[a] = fmt.Sprintf("the event %s shows the buyer to the seller", a.event)
		}
	}
	return found
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// recipients are the users whom an event concerns, by their roles.
func recipients(e event) map[string]string {
	var about struct{ UserID, SellerID string }
	_ = json.Unmarshal(e.Data, &about) // without these members it concerns no user
	kind, _, _ := strings.Cut(e.Type, ".")
	users := map[string]string{}
	switch kind {
	case "ticket":
		users["seller"] = about.UserID
	case "order":
		users["buyer"], users["seller"] = about.UserID, about.SellerID
	}
	return users
}

// Promise 9. What happens to a user's tickets and orders arrives at the user's endpoint, and at no other.
func (c *checker) endpointsGetTheirEvents() {
	if c.opts.Endpoints == nil {
		return
	}
	for a, what := range c.opts.Endpoints.wrong(c.events, c.byID) {
		c.violation(9, "user "+a.user, what, c.byID[a.event].Subject)
	}
}
