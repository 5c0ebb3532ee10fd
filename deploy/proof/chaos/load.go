package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"boxoffice/deploy/proof/check"
)

// crowd is everybody who uses the marketplace while it suffers.
type crowd struct {
	front   *front
	sandbox string
	history *check.History
	tallies *tallies

	mu      sync.Mutex
	tickets []offered // newest last
	hot     []offered // that everybody wants
	revoked []string  // tokens that are good no more
}

// offered is a ticket and its seller.
type offered struct {
	id    string
	owner *user
}

type user struct{ id, email, token string }

// reserved is an order that its buyer may yet pay or cancel.
type reserved struct {
	id    string
	buyer *user
}

// paid is an order that its buyer has paid, perhaps.
type paid struct {
	order, intent string
	amount        int64
}

// client is one person at a time: what it does is chosen by its own source of chance.
type client struct {
	*crowd
	chance  *rand.Rand
	gateway int
	users   []*user
	orders  []reserved // that it may pay or cancel
	recent  []reserved // that it looks at
	paid    []paid
}

const (
	usersEach    = 6   // a client is, by and by, that many people
	wantedAmong  = 40  // buyers look at that many of the newest tickets
	hotTickets   = 4   // that everybody wants
	keptOrders   = 30  // orders that a client remembers
	triesWithKey = 3   // a request with an Idempotency-Key is repeated if its outcome is not known
	ownShare     = 50  // one of so many who come across their own ticket tries to buy it
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
	switch c.chance.IntN(400) {
	case 0, 1:
		c.signOutEverywhere(ctx)
		return
	case 2:
		c.deleteAccount(ctx)
		return
	}
	switch n := c.chance.IntN(100); {
	case n < 16:
		c.list(ctx)
	case n < 24:
		c.edit(ctx)
	case n < 26:
		c.withdraw(ctx)
	case n < 43:
		c.reserve(ctx, c.wanted())
	case n < 58:
		c.reserve(ctx, c.wantedByAll())
	case n < 75:
		c.pay(ctx)
	case n < 80:
		c.cancel(ctx)
	case n < 81:
		c.refund(ctx)
	case n < 88:
		c.readOrder(ctx)
	case n < 94:
		c.readTicket(ctx, c.wanted().id)
	default:
		c.readList(ctx)
	}
}

// ask makes a request and counts its outcome.
func (c *client) ask(ctx context.Context, kind, method, path, token, key string, body any) reply {
	r := c.front.call(ctx, c.gateway, method, path, token, key, body)
	c.after(ctx, kind, r)
	return r
}

// after counts a reply. Who got none turns to another gateway.
func (c *client) after(ctx context.Context, kind string, r reply) {
	if r.status == 0 && ctx.Err() != nil {
		return // the time is over, not the service away
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
}

// timed is a reply with its times, for the history.
type timed struct {
	reply
	call, answer time.Time
	// unknown is the call of an earlier try whose outcome is not known; zero if there is none.
	unknown time.Time
}

// askTimed is ask, with the times.
func (c *client) askTimed(ctx context.Context, kind, method, path, token, key string, body any) timed {
	call := time.Now()
	r := c.front.call(ctx, c.gateway, method, path, token, key, body)
	t := timed{reply: r, call: call, answer: time.Now()}
	c.after(ctx, kind, r)
	return t
}

// note writes a request down for the history, with what came of it.
func (c *client) note(t timed, r check.Request) {
	if !t.unknown.IsZero() && !t.granted() { // a try before the last may have been done, or may be done yet
		earlier := r
		earlier.Call = t.unknown
		c.history.Add(earlier)
	}
	r.Call = t.call
	if !t.unclear() && t.status < 500 {
		r.Return = t.answer
		if r.Granted = t.granted(); r.Granted && !t.unknown.IsZero() {
			r.Call = t.unknown
		}
		if r.Code = t.code; r.Code == "" && !r.Granted {
			r.Code = strconv.Itoa(t.status)
		}
	}
	c.history.Add(r)
}

// insist makes a request that is safe to repeat until its outcome is known, or a few times.
func (c *client) insist(ctx context.Context, kind, path string, by *user, body any) (t timed) {
	key := uuid.NewString()
	if c.chance.IntN(twinsShare) == 0 {
		return c.twice(ctx, kind, path, by, key, body)
	}
	var unknown time.Time
	for range triesWithKey {
		t = c.askTimed(ctx, kind, http.MethodPost, path, by.token, key, body)
		t.unknown = unknown
		if !t.unclear() {
			return t
		}
		if unknown.IsZero() {
			unknown = t.call
		}
	}
	return t
}

// twice sends the same request at the same moment by two ways. It is done once: both answers that grant it grant the
// same.
func (c *client) twice(ctx context.Context, kind, path string, by *user, key string, body any) timed {
	call := time.Now()
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
	t := timed{reply: both[1], call: call, answer: time.Now()}
	if both[0].granted() || both[1].unclear() {
		t.reply = both[0]
	}
	if !t.granted() && (both[0].unclear() || both[1].unclear()) {
		t.unknown = call
	}
	return t
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
	email := uuid.NewString() + "@example.com"
	r := c.ask(ctx, "sign up", http.MethodPost, "/api/users/signup", "", "", map[string]string{"email": email, "password": password})
	var made struct {
		User  struct{ ID string }
		Token string
	}
	if r.granted() && json.Unmarshal(r.body, &made) == nil {
		c.history.SignedUp(made.User.ID)
		c.users = append(c.users, &user{made.User.ID, email, made.Token})
	}
}

// signOutEverywhere revokes somebody's tokens, and signs them in again.
func (c *client) signOutEverywhere(ctx context.Context) {
	u := c.somebody()
	switch r := c.ask(ctx, "sign out everywhere", http.MethodPost, "/api/users/signout-everywhere", u.token, "", nil); {
	case r.granted():
		c.revoke(u.token)
	case !r.unclear():
		return
	}
	for range triesWithKey {
		r := c.ask(ctx, "sign in", http.MethodPost, "/api/users/signin", "", "", map[string]string{"email": u.email, "password": password})
		var made struct{ Token string }
		if r.granted() && json.Unmarshal(r.body, &made) == nil {
			u.token = made.Token
			return
		}
	}
	c.forget(u) // who cannot sign in is gone for this run
}

// deleteAccount deletes somebody's account, unless orders of theirs are not settled. What they sell is withdrawn by and by, and
// what they have not paid is cancelled.
func (c *client) deleteAccount(ctx context.Context) {
	u := c.somebody()
	call := time.Now()
	r := c.ask(ctx, "delete the account", http.MethodDelete, "/api/users/currentuser", u.token, "", map[string]string{"password": password})
	if !r.granted() && !r.unclear() {
		return
	}
	for _, t := range c.offeredBy(u) {
		c.history.Add(check.Request{Kind: check.Withdraw, Ticket: t.id, Call: call})
	}
	for _, o := range c.recent {
		if o.buyer == u {
			c.history.Add(check.Request{Kind: check.Cancel, Order: o.id, Call: call})
		}
	}
	c.forget(u)
	if r.granted() {
		c.revoke(u.token)
	}
}

func (c *client) offeredBy(u *user) []offered {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.tickets), func(t offered) bool { return t.owner != u })
}

func (c *client) forget(u *user) {
	c.users = slices.DeleteFunc(c.users, func(other *user) bool { return other == u })
	mine := func(o reserved) bool { return o.buyer == u }
	c.orders, c.recent = slices.DeleteFunc(c.orders, mine), slices.DeleteFunc(c.recent, mine)
}

func (c *crowd) revoke(token string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.revoked = append(c.revoked, token)
}

// revocationTime is how long a revoked token may be good for, in a marketplace at rest.
const revocationTime = time.Minute

// tryRevoked notes tokens that are still good, though they were revoked, when the marketplace is at rest.
func (c *crowd) tryRevoked(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, revocationTime)
	defer cancel()
	for _, token := range c.revoked {
		for gateway := range c.front.urls {
			for {
				r := c.front.call(ctx, gateway, http.MethodGet, "/api/orders?limit=1", token, "", nil)
				if r.status == http.StatusUnauthorized {
					break
				}
				if ctx.Err() != nil {
					c.tallies.note("a token that was revoked is still good: %d", r.status)
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
		}
	}
}

// ticket is what sellers are told.
type ticket struct {
	ID      string `json:"id"`
	Title   string `json:"title"`
	Price   int64  `json:"price"`
	Status  string `json:"status"`
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
	c.history.Listed(t.ID, check.Listing{Version: t.Version, Title: t.Title, Price: t.Price})
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
	if len(c.hot) < hotTickets {
		c.hot = append(c.hot, offered{t.ID, seller})
	}
}

// cool makes a ticket one that nobody wants any more. Until it is sold a hot one is reserved again and again, also in the moment in
// which a reservation of it is over.
func (c *client) cool(ticket string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hot = slices.DeleteFunc(c.hot, func(o offered) bool { return o.id == ticket })
}

// edit changes a ticket, two browsers at once: both have read the same version, and one at most may win.
func (c *client) edit(ctx context.Context) {
	mine, ok := c.oneOfMine()
	if !ok {
		return
	}
	t, ok := c.readTicket(ctx, mine.id)
	if !ok {
		return
	}
	var browsers sync.WaitGroup
	for i := range 1 + c.chance.IntN(2) {
		offer := c.offer()
		offer["version"] = t.Version
		browsers.Go(func() {
			call := time.Now()
			r := c.front.call(ctx, c.gateway+i, http.MethodPut, "/api/tickets/"+mine.id, mine.owner.token, "", offer)
			answer := time.Now()
			if r.status != 0 || ctx.Err() == nil {
				c.tallies.count("edit a ticket", r)
			}
			made, _ := c.toldOf(r)
			c.note(timed{reply: r, call: call, answer: answer}, check.Request{Kind: check.Edit, Ticket: mine.id,
				From: t.Version, Version: made.Version, Title: offer["title"].(string), Price: int64(offer["price"].(int))})
		})
	}
	browsers.Wait()
}

func (c *client) withdraw(ctx context.Context) {
	mine, ok := c.oneOfMine()
	if !ok {
		return
	}
	t := c.askTimed(ctx, "delete a ticket", http.MethodDelete, "/api/tickets/"+mine.id, mine.owner.token, "", nil)
	c.note(t, check.Request{Kind: check.Withdraw, Ticket: mine.id})
	if t.granted() {
		c.history.Deleted(mine.id)
	}
}

// readTicket looks at a ticket, and notes what it was shown as.
func (c *client) readTicket(ctx context.Context, id string) (ticket, bool) {
	if id == "" {
		return ticket{}, false
	}
	t := c.askTimed(ctx, "read a ticket", http.MethodGet, "/api/tickets/"+id, "", "", nil)
	var shown ticket
	if !t.granted() || json.Unmarshal(t.body, &shown) != nil {
		return ticket{}, false
	}
	c.noteShown(t, shown)
	return shown, true
}

func (c *client) noteShown(t timed, shown ticket) {
	c.note(t, check.Request{Kind: check.ReadTicket, Ticket: shown.ID, Version: shown.Version, Status: shown.Status})
}

// readList looks at the newest tickets.
func (c *client) readList(ctx context.Context) {
	t := c.askTimed(ctx, "read the list", http.MethodGet, "/api/tickets?limit=20", "", "", nil)
	var page []ticket
	if t.granted() && json.Unmarshal(t.body, &page) == nil {
		for _, shown := range page {
			c.noteShown(t, shown)
		}
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

func (c *client) wanted() offered {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, _ := pick(c.chance, c.tickets[max(0, len(c.tickets)-wantedAmong):])
	return t
}

func (c *client) wantedByAll() offered {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, _ := pick(c.chance, c.hot)
	return t
}

// reserve tries to get a ticket. Most people do not want their own.
func (c *client) reserve(ctx context.Context, wanted offered) {
	if wanted.id == "" {
		return
	}
	buyer := c.somebody()
	if buyer == wanted.owner && c.chance.IntN(ownShare) > 0 {
		return
	}
	t := c.insist(ctx, "reserve", "/api/orders", buyer, map[string]string{"ticketId": wanted.id})
	made := c.readOrderOf(t.reply)
	c.note(t, check.Request{Kind: check.Reserve, Ticket: wanted.id, Buyer: buyer.id, Order: made.ID, ExpiresAt: made.ExpiresAt})
	if !t.granted() {
		if t.status == http.StatusConflict && t.code != "ticket_reserved" || t.status == http.StatusNotFound {
			c.cool(wanted.id)
		}
		return
	}
	if buyer == wanted.owner {
		c.tallies.note("a seller was given the own ticket %s by order %s", wanted.id, made.ID)
	}
	c.history.Ordered(made.ID, wanted.id, buyer.id)
	c.orders = append(c.orders, reserved{made.ID, buyer})
	c.recent = append(c.recent, reserved{made.ID, buyer})
	c.recent = c.recent[max(0, len(c.recent)-keptOrders):]
	c.orders = c.orders[max(0, len(c.orders)-keptOrders):]
}

// order is what buyers are told.
type order struct {
	ID        string    `json:"id"`
	Status    string    `json:"status"`
	Reason    string    `json:"reason"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// readOrderOf reads the order that a reply holds.
func (c *client) readOrderOf(r reply) (o order) {
	if r.granted() && json.Unmarshal(r.body, &o) != nil {
		c.tallies.note("an order was answered that is not readable: %.300s", r.body)
	}
	return o
}

// readOrder looks at one of the newest orders.
func (c *client) readOrder(ctx context.Context) {
	o, ok := pick(c.chance, c.recent)
	if !ok {
		return
	}
	t := c.askTimed(ctx, "read an order", http.MethodGet, "/api/orders/"+o.id, o.buyer.token, "", nil)
	seen := c.readOrderOf(t.reply)
	c.note(t, check.Request{Kind: check.ReadOrder, Order: o.id, Status: seen.Status, Reason: seen.Reason})
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
	if o, ok := c.takeOrder(); ok {
		c.cancelOne(ctx, o)
	}
}

func (c *client) cancelOne(ctx context.Context, o reserved) {
	t := c.askTimed(ctx, "cancel", http.MethodDelete, "/api/orders/"+o.id, o.buyer.token, "", nil)
	c.note(t, check.Request{Kind: check.Cancel, Order: o.id})
	if t.granted() {
		c.history.Cancelled(o.id)
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
	c.history.Add(check.Request{Kind: check.Pay, Order: o.id, Call: time.Now()}) // from now on it may be complete
	r := c.insist(ctx, "pay", "/api/payments", o.buyer, map[string]string{"orderId": o.id, "paymentMethod": card})
	switch {
	case r.granted():
		var made struct {
			ID, Status, StripeID string
			Amount               int64
		}
		if json.Unmarshal(r.body, &made) != nil {
			return
		}
		c.history.Paid(made.ID, o.id)
		c.paid = append(c.paid, paid{o.id, made.StripeID, made.Amount})
		c.paid = c.paid[max(0, len(c.paid)-keptOrders):]
		if made.Status == "requires_action" {
			c.authenticate(ctx, made.StripeID)
		}
	case r.status == http.StatusPaymentRequired, r.unclear():
		c.orders = append(c.orders, o) // another card, or again
	}
	if c.chance.IntN(10) == 0 { // who has paid wants to cancel, in the same moment
		c.cancelOne(ctx, o)
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

// refund gives a buyer's money back in Stripe's dashboard, all or a part of it, as whoever runs the marketplace may do. If it has
// not been taken (yet), Stripe refuses.
func (c *client) refund(ctx context.Context) {
	p, ok := pick(c.chance, c.paid)
	if !ok || p.intent == "" {
		return
	}
	form := url.Values{"payment_intent": {p.intent}}
	kind := "refund"
	if c.chance.IntN(2) == 0 && p.amount > 1 {
		form.Set("amount", strconv.FormatInt(1+c.chance.Int64N(p.amount-1), 10))
		kind = "refund a part"
	}
	c.history.Add(check.Request{Kind: check.Refund, Order: p.order, Call: time.Now()}) // from now on it may be cancelled
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.sandbox+"/v1/refunds", strings.NewReader(form.Encode()))
	if err != nil {
		return
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Authorization", "Bearer sk_test_dashboard")
	r := reply{}
	if response, err := c.front.http.Do(request); err == nil {
		_ = response.Body.Close()
		r.status = response.StatusCode
	}
	if r.status != 0 || ctx.Err() == nil {
		c.tallies.tally(kind, r)
	}
}
