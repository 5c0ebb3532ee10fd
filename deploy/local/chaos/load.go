package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"boxoffice/deploy/local/check"
)

// crowd is everybody who uses the marketplace while it suffers.
type crowd struct {
	front   *front
	sandbox string
	told    *check.Told
	tallies *tallies

	mu      sync.Mutex
	tickets []offered // newest last
	hot     []string  // tickets that everybody wants
}

// offered is a ticket and its seller.
type offered struct {
	id    string
	owner *user
}

type user struct{ id, token string }

// reserved is an order that its buyer may yet pay or cancel.
type reserved struct {
	id    string
	buyer *user
}

// client is one person at a time: what it does is chosen by its own source of chance.
type client struct {
	*crowd
	chance  *rand.Rand
	gateway int
	users   []*user
	orders  []reserved
}

const (
	usersEach    = 6   // a client is, by and by, that many people
	wantedAmong  = 40  // buyers look at that many of the newest tickets
	hotTickets   = 3   // that everybody wants
	hotShare     = 10  // one of so many new tickets becomes a hot one
	keptOrders   = 30  // orders that a client remembers
	triesWithKey = 3   // a request with an Idempotency-Key is repeated if its outcome is not known
	twinsShare   = 12  // one of so many reservations and payments is sent twice at the same moment
	pause        = 200 // milliseconds at most after an answer of "later"
)

// run lets clients work until ctx ends.
func (c *crowd) run(ctx context.Context, clients int, seed uint64) {
	var working sync.WaitGroup
	for number := range clients {
		working.Go(func() {
			one := &client{crowd: c, chance: rand.New(rand.NewPCG(seed, uint64(number)+1)), gateway: number}
			for ctx.Err() == nil {
				one.act(ctx)
			}
		})
	}
	working.Wait()
}

// act does one thing.
func (c *client) act(ctx context.Context) {
	if len(c.users) == 0 || len(c.users) < usersEach && c.chance.IntN(20) == 0 {
		c.signUp(ctx)
		return
	}
	switch n := c.chance.IntN(100); {
	case n < 16:
		c.list(ctx)
	case n < 24:
		c.edit(ctx)
	case n < 26:
		c.withdraw(ctx)
	case n < 46:
		c.reserve(ctx, c.wanted())
	case n < 62:
		c.reserve(ctx, c.wantedByAll())
	case n < 80:
		c.pay(ctx)
	case n < 86:
		c.cancel(ctx)
	case n < 93:
		c.ask(ctx, "read a ticket", http.MethodGet, "/api/tickets/"+c.wanted(), "", "", nil)
	default:
		c.ask(ctx, "read the list", http.MethodGet, "/api/tickets?limit=20", "", "", nil)
	}
}

// ask makes a request and counts its outcome. Who gets no answer turns to another gateway.
func (c *client) ask(ctx context.Context, kind, method, path, token, key string, body any) reply {
	r := c.front.call(ctx, c.gateway, method, path, token, key, body)
	if r.status == 0 && ctx.Err() != nil {
		return r // the time is over, not the service away
	}
	c.tallies.count(kind, r)
	if r.unclear() {
		if r.status == 0 {
			c.gateway++
		}
		select {
		case <-time.After(time.Duration(c.chance.IntN(pause)) * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return r
}

// insist makes a request that is safe to repeat until its outcome is known, or a few times.
func (c *client) insist(ctx context.Context, kind, path string, by *user, body any) (r reply) {
	key := uuid.NewString()
	if c.chance.IntN(twinsShare) == 0 {
		return c.twice(ctx, kind, path, by, key, body)
	}
	for range triesWithKey {
		if r = c.ask(ctx, kind, http.MethodPost, path, by.token, key, body); !r.unclear() {
			return r
		}
	}
	return r
}

// twice sends the same request at the same moment by two ways. It is done once: both answers that grant it grant the
// same.
func (c *client) twice(ctx context.Context, kind, path string, by *user, key string, body any) reply {
	var both [2]reply
	var asking sync.WaitGroup
	for i := range both {
		asking.Go(func() { both[i] = c.front.call(ctx, c.gateway+i, http.MethodPost, path, by.token, key, body) })
	}
	asking.Wait()
	for _, r := range both {
		if r.status != 0 || ctx.Err() == nil {
			c.tallies.count(kind, r)
		}
	}
	if both[0].granted() && both[1].granted() && idOf(both[0]) != idOf(both[1]) {
		c.tallies.note("%s was granted twice for one Idempotency-Key: %s and %s", kind, idOf(both[0]), idOf(both[1]))
	}
	if both[0].granted() {
		return both[0]
	}
	return both[1]
}

func idOf(r reply) string {
	var made struct {
		ID string `json:"id"`
	}
	_ = json.Unmarshal(r.body, &made)
	return made.ID
}

func pick[T any](chance *rand.Rand, from []T) (one T, ok bool) {
	if len(from) == 0 {
		return one, false
	}
	return from[chance.IntN(len(from))], true
}

func (c *client) somebody() *user {
	u, _ := pick(c.chance, c.users)
	return u
}

const password = "a password in the chaos"

func (c *client) signUp(ctx context.Context) {
	r := c.ask(ctx, "sign up", http.MethodPost, "/api/users/signup", "", "", map[string]string{
		"email": uuid.NewString() + "@example.com", "password": password,
	})
	var made struct {
		User  struct{ ID string }
		Token string
	}
	if r.granted() && json.Unmarshal(r.body, &made) == nil {
		c.told.User(made.User.ID)
		c.users = append(c.users, &user{made.User.ID, made.Token})
	}
}

// ticket is what sellers are told.
type ticket struct {
	ID      string `json:"id"`
	Title   string `json:"title"`
	Price   int64  `json:"price"`
	Version int    `json:"version"`
}

func (c *client) offer() map[string]any {
	return map[string]any{"title": fmt.Sprintf("Seat %d", c.chance.IntN(1_000_000)), "price": 100 + c.chance.IntN(10_000)}
}

// toldOf notes what a seller was told of a ticket.
func (c *client) toldOf(r reply) (t ticket, ok bool) {
	if !r.granted() || json.Unmarshal(r.body, &t) != nil {
		return t, false
	}
	c.told.Listed(t.ID, check.Listing{Version: t.Version, Title: t.Title, Price: t.Price})
	return t, true
}

func (c *client) list(ctx context.Context) {
	seller := c.somebody()
	t, made := c.toldOf(c.ask(ctx, "list a ticket", http.MethodPost, "/api/tickets", seller.token, "", c.offer()))
	if !made {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tickets = append(c.tickets, offered{t.ID, seller})
	if len(c.hot) < hotTickets || c.chance.IntN(hotShare) == 0 {
		c.hot = append(c.hot, t.ID)
		c.hot = c.hot[max(0, len(c.hot)-hotTickets):]
	}
}

// edit changes a ticket, two browsers at once: both have read the same version, and one at most may win.
func (c *client) edit(ctx context.Context) {
	mine, ok := c.oneOfMine()
	if !ok {
		return
	}
	r := c.ask(ctx, "read a ticket", http.MethodGet, "/api/tickets/"+mine.id, "", "", nil)
	var t ticket
	if !r.granted() || json.Unmarshal(r.body, &t) != nil {
		return
	}
	var browsers sync.WaitGroup
	for i := range 1 + c.chance.IntN(2) {
		offer := c.offer()
		offer["version"] = t.Version
		browsers.Go(func() {
			r := c.front.call(ctx, c.gateway+i, http.MethodPut, "/api/tickets/"+mine.id, mine.owner.token, "", offer)
			if r.status != 0 || ctx.Err() == nil {
				c.tallies.count("edit a ticket", r)
			}
			c.toldOf(r)
		})
	}
	browsers.Wait()
}

func (c *client) withdraw(ctx context.Context) {
	mine, ok := c.oneOfMine()
	if ok && c.ask(ctx, "delete a ticket", http.MethodDelete, "/api/tickets/"+mine.id, mine.owner.token, "", nil).granted() {
		c.told.Deleted(mine.id)
	}
}

// oneOfMine is a ticket among the newest that one of this client's people sells.
func (c *client) oneOfMine() (offered, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var mine []offered
	for _, t := range c.tickets[max(0, len(c.tickets)-10*wantedAmong):] {
		if slices.Contains(c.users, t.owner) {
			mine = append(mine, t)
		}
	}
	return pick(c.chance, mine)
}

func (c *client) wanted() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, _ := pick(c.chance, c.tickets[max(0, len(c.tickets)-wantedAmong):])
	return t.id
}

func (c *client) wantedByAll() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	id, _ := pick(c.chance, c.hot)
	return id
}

func (c *client) reserve(ctx context.Context, ticket string) {
	if ticket == "" {
		return
	}
	buyer := c.somebody()
	r := c.insist(ctx, "reserve", "/api/orders", buyer, map[string]string{"ticketId": ticket})
	if !r.granted() {
		return
	}
	id := idOf(r)
	c.told.Order(id, ticket, buyer.id)
	c.orders = append(c.orders, reserved{id, buyer})
	c.orders = c.orders[max(0, len(c.orders)-keptOrders):]
}

// takeOrder takes one of the newest orders off the client's list.
func (c *client) takeOrder() (reserved, bool) {
	if len(c.orders) == 0 {
		return reserved{}, false
	}
	i := len(c.orders) - 1 - c.chance.IntN(min(3, len(c.orders)))
	o := c.orders[i]
	c.orders = slices.Delete(c.orders, i, i+1)
	return o, true
}

func (c *client) cancel(ctx context.Context) {
	o, ok := c.takeOrder()
	if ok && c.ask(ctx, "cancel", http.MethodDelete, "/api/orders/"+o.id, o.buyer.token, "", nil).granted() {
		c.told.Cancelled(o.id)
	}
}

// cards are what buyers pay with, the usual ones most often.
var cards = []string{
	"pm_card_visa", "pm_card_visa", "pm_card_visa", "pm_card_mastercard", "pm_card_visa", "pm_card_visa",
	"pm_card_chargeDeclined", "pm_card_authenticationRequired",
}

func (c *client) pay(ctx context.Context) {
	o, ok := c.takeOrder()
	if !ok {
		return
	}
	card, _ := pick(c.chance, cards)
	r := c.insist(ctx, "pay", "/api/payments", o.buyer, map[string]string{"orderId": o.id, "paymentMethod": card})
	switch {
	case r.granted():
		var made struct{ ID, Status, StripeID string }
		if json.Unmarshal(r.body, &made) != nil {
			return
		}
		c.told.Paid(made.ID, o.id)
		if made.Status == "requires_action" {
			c.authenticate(ctx, made.StripeID)
		}
	case r.status == http.StatusPaymentRequired, r.unclear():
		c.orders = append(c.orders, o) // another card, or again
	}
	if c.chance.IntN(10) == 0 { // who has paid wants to cancel, in the same moment
		if c.ask(ctx, "cancel", http.MethodDelete, "/api/orders/"+o.id, o.buyer.token, "", nil).granted() {
			c.told.Cancelled(o.id)
		}
	}
}

// authenticate does at the bank what a buyer does there, who passes most often.
func (c *client) authenticate(ctx context.Context, intent string) {
	outcome := "succeed"
	if c.chance.IntN(5) == 0 {
		outcome = "fail"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.sandbox+"/sandbox/payment_intents/"+intent+"/authenticate",
		strings.NewReader(`{"outcome":"`+outcome+`"}`))
	if err != nil {
		return
	}
	request.Header.Set("Content-Type", "application/json")
	if response, err := c.front.http.Do(request); err == nil {
		_ = response.Body.Close()
	}
}
