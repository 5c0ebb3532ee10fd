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
	arrived map[arrival]int
}

// arrival is an event that a user got in a role.
type arrival struct{ user, role, event string }

// NewEndpoints returns Endpoints without one.
func NewEndpoints() *Endpoints {
	return &Endpoints{created: map[string]time.Time{}, arrived: map[arrival]int{}}
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

// Arrived records a message that came to a user's endpoint. A body that is no such message is ignored.
func (e *Endpoints) Arrived(user string, body []byte) {
	var m struct {
		Type, Role string
		Data       struct {
			ID      string
			Version int
		}
	}
	if json.Unmarshal(body, &m) != nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.arrived[arrival{user, m.Role, fmt.Sprintf("%s:%s:%d", m.Type, m.Data.ID, m.Data.Version)}]++
}

// Messages are the numbers of endpoints, of different messages that came to them, and of all.
func (e *Endpoints) Messages() (endpoints, different, all int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range e.arrived {
		all += n
	}
	return len(e.created), len(e.arrived), all
}

// missing are the events that a user with an endpoint did not get.
func (e *Endpoints) missing(events []event) (all []arrival) {
	e.mu.Lock()
	defer e.mu.Unlock()
	seen := map[arrival]bool{}
	for _, published := range events {
		for role, user := range recipients(published) {
			created, has := e.created[user]
			a := arrival{user, role, published.ID}
			if has && published.Time.After(created) && e.arrived[a] == 0 && !seen[a] {
				seen[a] = true
				all = append(all, a)
			}
		}
	}
	return all
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

// Promise 9. What happens to a user's tickets and orders arrives at the user's endpoint.
func (c *checker) endpointsGetTheirEvents() {
	if c.opts.Endpoints == nil {
		return
	}
	for _, a := range c.opts.Endpoints.missing(c.events) {
		e := c.byID[a.event]
		c.violation(9, "user "+a.user, fmt.Sprintf("the event %s did not arrive at the endpoint of the %s", a.event, a.role), e.Subject)
	}
}
