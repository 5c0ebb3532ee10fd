package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/google/uuid"

	"boxoffice/deploy/proof/check"
	"boxoffice/deploy/proof/client"
	"boxoffice/deploy/proof/contract"
	"boxoffice/services/contracts"
)

// load is what the simulated clients share.
type load struct {
	api      *client.Client
	gateways []string
	sandbox  *client.Client
	history  *check.History
	stats    *stats
	receiver *receiver      // nil if the stack is without webhooks
	streams  *client.Client // nil if the stack is without the catalogue

	mu      sync.Mutex
	tickets []listing // the newest is the last
	popular []listing // all clients want to reserve these
	shows   []*show   // the newest is the last
	passes  []pass    // the newest is the last
	// resalesEnd is from when on resales of a ticket may end, by that ticket.
	resalesEnd map[string]time.Time
	revoked    []string // tokens of ended sessions
}

// requestTimeout is shorter than the gateway's, so that a client sometimes gives up.
const requestTimeout = 12 * time.Second

// newLoad returns a load whose responses are compared with the OpenAPI document.
func newLoad(gateways []string, sandbox *client.Client, stats *stats) (*load, error) {
	document, err := contract.Parse(contracts.OpenAPI())
	if err != nil {
		return nil, fmt.Errorf("read the OpenAPI document: %w", err)
	}
	hosts := map[string]contract.Host{}
	for _, gateway := range gateways {
		hosts[strings.TrimPrefix(gateway, "http://")] = contract.Gateway
	}
	transport := contract.NewValidator(document).Transport(
		&http.Transport{MaxIdleConnsPerHost: 256, IdleConnTimeout: 5 * time.Second},
		func(host string) contract.Host { return hosts[host] },
		func(f contract.Finding) { stats.unexpectedly("%s", f) },
	)
	return &load{
		api:      client.New("", client.Options{Timeout: requestTimeout, Transport: transport}),
		gateways: gateways, sandbox: sandbox, history: check.NewHistory(), stats: stats, resalesEnd: map[string]time.Time{},
	}, nil
}

// listing is a ticket with its seller, and with its show if it has one. resaleOf is the ticket that it offers again; "" if it is new.
type listing struct {
	id       string
	seller   *user
	show     *show
	resaleOf string
}

type user struct{ id, email, token string }

// reservation is an order that its buyer has not paid or cancelled yet.
type reservation struct {
	order string
	buyer *user
	of    listing
}

// payment is a payment that may have been captured.
type payment struct {
	reservation
	intent string
	amount int64
}

// simulatedClient acts as several users. It chooses its actions by its own source of chance.
type simulatedClient struct {
	*load
	chance       *rand.Rand
	gateway      int // it uses one gateway until that does not answer
	users        []*user
	reservations []reservation // that it may pay or cancel
	newestOrders []reservation // that it reads
	payments     []payment
}

const (
	usersPerClient  = 6
	newestTickets   = 40  // buyers want one of so many
	popularTickets  = 4   // at a time
	ordersPerClient = 30  // that a client remembers
	triesWithKey    = 3   // of a request with an Idempotency-Key whose outcome is unknown
	ownShare        = 50  // a client tries to reserve its user's own ticket one in so many times
	duplicateShare  = 12  // one of so many reservations and payments is sent twice at the same time
	maxPause        = 200 // milliseconds, after a response that asks for a later request
	showShare       = 30  // so many of a hundred actions are about shows
)

// run lets clients work until ctx ends.
func (l *load) run(ctx context.Context, clients int, seed uint64) {
	defer l.api.Close()
	var working sync.WaitGroup
	for number := range clients {
		working.Go(func() {
			c := &simulatedClient{load: l, chance: rand.New(rand.NewPCG(seed, uint64(number)+1)), gateway: number}
			for ctx.Err() == nil {
				c.act(ctx)
			}
		})
	}
	working.Wait()
}

// act does one thing.
func (c *simulatedClient) act(ctx context.Context) {
	if len(c.users) == 0 || len(c.users) < usersPerClient && c.chance.IntN(20) == 0 {
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
	if c.streams != nil && c.chance.IntN(100) < showShare {
		c.actOnShows(ctx)
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
		c.reserve(ctx, c.newTicket())
	case n < 58:
		c.reserve(ctx, c.popularTicket())
	case n < 75:
		c.pay(ctx)
	case n < 80:
		c.cancel(ctx)
	case n < 81:
		c.refund(ctx)
	case n < 88:
		c.readOrder(ctx)
	case n < 94:
		c.readTicket(ctx, c.newTicket().id)
	default:
		c.readList(ctx)
	}
}

// send sends a request to a gateway. Status 0 means that there was no whole response.
func (l *load) send(ctx context.Context, gateway int, token string, r client.Request) client.Response {
	response, err := l.api.At(l.gateways[gateway%len(l.gateways)]).As(token).Do(ctx, r)
	if err != nil {
		return client.Response{}
	}
	return response
}

// unclear reports whether the request may have had its effect, or may have it later.
func unclear(r client.Response) bool {
	switch r.Status {
	case 0:
		return true
	case http.StatusServiceUnavailable:
		return !slices.Contains(notDone, r.Code())
	}
	return false
}

// notDone are the codes of responses with status 503 that promise that the request had no effect and will have none.
var notDone = []string{"unavailable", "upstream_unavailable", "not_yet_known", "keys_unavailable", "orders_unavailable", "overloaded"}

// later reports whether the same request may succeed later.
func later(r client.Response) bool {
	return r.Status == 0 || r.Status == http.StatusServiceUnavailable || r.Status == http.StatusTooManyRequests
}

// decode reads the value in a granted response.
func decode[T any](r client.Response) (value T, ok bool) {
	return value, r.Granted() && json.Unmarshal(r.Body, &value) == nil
}

// exchange is a response with the times that the history needs.
type exchange struct {
	client.Response
	call, answer time.Time
	// unknown is the call of an earlier try whose outcome is unknown; zero if there is none.
	unknown time.Time
}

// do sends a request, counts its outcome, and pauses if the same request may succeed later.
func (c *simulatedClient) do(ctx context.Context, kind, token string, r client.Request) exchange {
	call := time.Now()
	x := exchange{Response: c.send(ctx, c.gateway, token, r), call: call, answer: time.Now()}
	if c.endedWithLoad(ctx, x.Response) {
		return x
	}
	c.stats.count(kind, x.Response)
	if later(x.Response) {
		if x.Status == 0 {
			c.gateway++
		}
		sleep(ctx, time.Duration(c.chance.IntN(maxPause))*time.Millisecond)
	}
	return x
}

// endedWithLoad reports whether there is no response because the load ended.
func (c *simulatedClient) endedWithLoad(ctx context.Context, r client.Response) bool {
	return r.Status == 0 && ctx.Err() != nil
}

// record adds a request with its outcome to the history.
func (c *simulatedClient) record(x exchange, r check.Request) {
	if !x.unknown.IsZero() && !x.Granted() { // an earlier try may have had its effect, or may have it later
		earlier := r
		earlier.Call = x.unknown
		c.history.Add(earlier)
	}
	r.Call = x.call
	if !unclear(x.Response) && (x.Status < 500 || x.Status == http.StatusServiceUnavailable) {
		r.Return = x.answer
		if r.Granted = x.Granted(); r.Granted && !x.unknown.IsZero() {
			r.Call = x.unknown
		}
		if !r.Granted {
			if r.Code = x.Code(); r.Code == "" {
				r.Code = strconv.Itoa(x.Status)
			}
		}
	}
	c.history.Add(r)
}

// doWithKey sends a request with an Idempotency-Key, and repeats it until it is granted or refused for good, or there were enough
// tries.
func (c *simulatedClient) doWithKey(ctx context.Context, kind string, by *user, r client.Request) (x exchange) {
	r = r.WithKey(uuid.NewString())
	if c.chance.IntN(duplicateShare) == 0 {
		return c.doTwice(ctx, kind, by, r)
	}
	var unknown time.Time
	for range triesWithKey {
		x = c.do(ctx, kind, by.token, r)
		x.unknown = unknown
		if !later(x.Response) {
			return x
		}
		if unclear(x.Response) && unknown.IsZero() {
			unknown = x.call
		}
	}
	return x
}

// doTwice sends the same request to two gateways at the same time. It must have its effect once: if both are granted, the
// responses are the same.
func (c *simulatedClient) doTwice(ctx context.Context, kind string, by *user, r client.Request) exchange {
	call := time.Now()
	var both [2]client.Response
	var sending sync.WaitGroup
	for i := range both {
		sending.Go(func() { both[i] = c.send(ctx, c.gateway+i, by.token, r) })
	}
	sending.Wait()
	for _, response := range both {
		if !c.endedWithLoad(ctx, response) {
			c.stats.count(kind, response)
		}
	}
	if both[0].Granted() && both[1].Granted() && idIn(both[0]) != idIn(both[1]) {
		c.stats.unexpectedly("%s was granted twice for one Idempotency-Key: %s and %s", kind, idIn(both[0]), idIn(both[1]))
	}
	x := exchange{Response: both[1], call: call, answer: time.Now()}
	if both[0].Granted() || unclear(both[1]) {
		x.Response = both[0]
	}
	if !x.Granted() && (unclear(both[0]) || unclear(both[1])) {
		x.unknown = call
	}
	return x
}

func idIn(r client.Response) string {
	made, _ := decode[struct{ ID string }](r)
	return made.ID
}

func pick[T any](chance *rand.Rand, from []T) (one T, ok bool) {
	if len(from) == 0 {
		return one, false
	}
	return from[chance.IntN(len(from))], true
}

// keepNewest removes the oldest elements that a client does not remember.
func keepNewest[T any](all []T) []T { return all[max(0, len(all)-ordersPerClient):] }

func (c *simulatedClient) anyUser() *user {
	u, _ := pick(c.chance, c.users)
	return u
}

const password = "a password in the chaos"

func (c *simulatedClient) signUp(ctx context.Context) {
	email := uuid.NewString() + "@example.com"
	x := c.do(ctx, "sign up", "", client.SignUp(email, password))
	if made, ok := decode[client.SignedIn](x.Response); ok {
		c.history.SignedUp(made.User.ID)
		u := &user{made.User.ID, email, made.Token}
		c.createEndpoint(ctx, u)
		c.users = append(c.users, u)
	}
}

// signOutEverywhere ends all sessions of a user and signs in again.
func (c *simulatedClient) signOutEverywhere(ctx context.Context) {
	u := c.anyUser()
	switch x := c.do(ctx, "sign out everywhere", u.token, client.SignOutEverywhere()); {
	case x.Granted():
		c.revoke(u.token)
	case !unclear(x.Response):
		return
	}
	for range triesWithKey {
		x := c.do(ctx, "sign in", "", client.SignIn(u.email, password))
		if made, ok := decode[client.SignedIn](x.Response); ok {
			u.token = made.Token
			return
		}
	}
	c.forget(u)
}

// deleteAccount deletes a user, unless orders of the user are unsettled. The user's listings are withdrawn later, and the unpaid
// orders and the shows are cancelled.
func (c *simulatedClient) deleteAccount(ctx context.Context) {
	u := c.anyUser()
	c.deleteEndpoint(u)
	x := c.do(ctx, "delete the account", u.token, client.DeleteAccount(password))
	if !x.Granted() && !unclear(x.Response) {
		return
	}
	c.showsMayEnd(u, x.call)
	for _, t := range c.listingsOf(u) {
		c.history.Add(check.Request{Kind: check.Withdraw, Ticket: t.id, Call: x.call})
		c.mayBeVoid(t, x.call)
	}
	for _, o := range c.newestOrders {
		if o.buyer == u {
			c.history.Add(check.Request{Kind: check.Cancel, Order: o.order, Call: x.call})
		}
	}
	c.forget(u)
	if x.Granted() {
		c.revoke(u.token)
	}
}

func (c *simulatedClient) listingsOf(u *user) []listing {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.tickets), func(t listing) bool { return t.seller != u })
}

// forget ends the use of a user.
func (c *simulatedClient) forget(u *user) {
	c.users = slices.DeleteFunc(c.users, func(other *user) bool { return other == u })
	isTheirs := func(r reservation) bool { return r.buyer == u }
	c.reservations, c.newestOrders = slices.DeleteFunc(c.reservations, isTheirs), slices.DeleteFunc(c.newestOrders, isTheirs)
	c.payments = slices.DeleteFunc(c.payments, func(p payment) bool { return p.buyer == u })
}

func (l *load) revoke(token string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.revoked = append(l.revoked, token)
}

// revocationTime is how long a gateway at rest may accept a token after its revocation.
const revocationTime = time.Minute

var errStillAccepted = errors.New("a revoked token is still accepted")

// checkRevoked finds tokens that gateways at rest accept although they were revoked.
func (l *load) checkRevoked(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, revocationTime)
	defer cancel()
	for _, token := range l.revoked {
		for gateway := range l.gateways {
			status := 0
			_, err := backoff.Retry(ctx, func() (struct{}, error) {
				if status = l.send(ctx, gateway, token, client.ReadOrders().WithQuery("limit", 1)).Status; status != http.StatusUnauthorized {
					return struct{}{}, errStillAccepted
				}
				return struct{}{}, nil
			}, backoff.WithBackOff(backoff.NewConstantBackOff(100*time.Millisecond)))
			if err != nil {
				l.stats.unexpectedly("%v: %d", errStillAccepted, status)
				return
			}
		}
	}
}

// recordListed adds the version of a ticket in a response to the history.
func (c *simulatedClient) recordListed(r client.Response) (t client.Ticket, ok bool) {
	if t, ok = decode[client.Ticket](r); ok {
		c.history.Listed(t.ID, check.Listing{Version: t.Version, Title: t.Title, Price: t.Price})
	}
	return t, ok
}

// offer is a random title and price.
func (c *simulatedClient) offer() client.Offer {
	return client.Offer{Title: fmt.Sprintf("Seat %d", c.chance.IntN(1_000_000)), Price: 100 + int64(c.chance.IntN(10_000))}
}

func (c *simulatedClient) list(ctx context.Context) {
	seller, offer := c.anyUser(), c.offer()
	c.addListing(c.doWithKey(ctx, "list a ticket", seller, client.ListTicket(offer.Title, offer.Price)).Response, listing{seller: seller})
}

// addListing adds the listing in a response to the tickets that clients want. The rest of it is known.
func (c *simulatedClient) addListing(r client.Response, added listing) {
	t, made := c.recordListed(r)
	if !made {
		return
	}
	added.id = t.ID
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tickets = append(c.tickets, added)
	if len(c.popular) < popularTickets {
		c.popular = append(c.popular, added)
	}
	if added.show != nil && !added.show.cancelled.IsZero() {
		c.history.Add(check.Request{Kind: check.Revoke, Ticket: t.ID, Call: added.show.cancelled})
	}
	if from, ends := c.resalesEnd[added.resaleOf]; ends {
		c.history.Add(check.Request{Kind: check.Revoke, Ticket: t.ID, Call: from})
	}
}

// unpopular removes a ticket from the popular ones. A ticket is popular until it is sold, so that clients try to reserve it all the
// time, also at the moment at which its reservation expires.
func (c *simulatedClient) unpopular(ticket string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.popular = slices.DeleteFunc(c.popular, func(t listing) bool { return t.id == ticket })
}

// edit changes a ticket with one or two requests at the same time. Both have the same version, so at most one may be granted.
func (c *simulatedClient) edit(ctx context.Context) {
	own, ok := c.ownListing()
	if !ok {
		return
	}
	t, ok := c.readTicket(ctx, own.id)
	if !ok {
		return
	}
	var editing sync.WaitGroup
	for i := range 1 + c.chance.IntN(2) {
		offer := c.offer()
		offer.Version = t.Version
		if own.resaleOf != "" {
			offer.Title = "" // a resale keeps it
		}
		editing.Go(func() {
			call := time.Now()
			x := exchange{Response: c.send(ctx, c.gateway+i, own.seller.token, client.EditTicket(own.id, offer)), call: call, answer: time.Now()}
			if !c.endedWithLoad(ctx, x.Response) {
				c.stats.count("edit a ticket", x.Response)
			}
			made, _ := c.recordListed(x.Response)
			c.record(x, check.Request{Kind: check.Edit, Ticket: own.id, From: t.Version, Version: made.Version, Title: offer.Title, Price: offer.Price})
		})
	}
	editing.Wait()
}

func (c *simulatedClient) withdraw(ctx context.Context) {
	own, ok := c.ownListing()
	if !ok {
		return
	}
	x := c.do(ctx, "delete a ticket", own.seller.token, client.DeleteTicket(own.id))
	c.record(x, check.Request{Kind: check.Withdraw, Ticket: own.id})
	c.mayBeVoid(own, x.call)
	if x.Granted() {
		c.history.Deleted(own.id)
	}
}

// readTicket reads a ticket and records the version that was shown.
func (c *simulatedClient) readTicket(ctx context.Context, id string) (client.Ticket, bool) {
	if id == "" {
		return client.Ticket{}, false
	}
	x := c.do(ctx, "read a ticket", "", client.ReadTicket(id))
	shown, ok := decode[client.Ticket](x.Response)
	if ok {
		c.recordShown(x, shown)
	}
	return shown, ok
}

func (c *simulatedClient) recordShown(x exchange, shown client.Ticket) {
	c.record(x, check.Request{Kind: check.ReadTicket, Ticket: shown.ID, Version: shown.Version, Status: shown.Status})
}

// readList reads the newest tickets.
func (c *simulatedClient) readList(ctx context.Context) {
	x := c.do(ctx, "read the list", "", client.ReadTickets().WithQuery("limit", 20))
	page, _ := decode[[]client.Ticket](x.Response)
	for _, shown := range page {
		c.recordShown(x, shown)
	}
}

// ownListing is one of the newest tickets that a user of this client sells.
func (c *simulatedClient) ownListing() (listing, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var own []listing
	for _, t := range c.tickets[max(0, len(c.tickets)-10*newestTickets):] {
		if slices.Contains(c.users, t.seller) {
			own = append(own, t)
		}
	}
	return pick(c.chance, own)
}

func (c *simulatedClient) newTicket() listing {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, _ := pick(c.chance, c.tickets[max(0, len(c.tickets)-newestTickets):])
	return t
}

func (c *simulatedClient) popularTicket() listing {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, _ := pick(c.chance, c.popular)
	return t
}

// reserve tries to reserve a ticket. Usually the buyer is not its seller.
func (c *simulatedClient) reserve(ctx context.Context, wanted listing) {
	if wanted.id == "" {
		return
	}
	buyer := c.anyUser()
	if buyer == wanted.seller && c.chance.IntN(ownShare) > 0 {
		return
	}
	x := c.doWithKey(ctx, "reserve", buyer, client.Reserve(wanted.id))
	made := c.orderIn(x.Response)
	if x.Code() == "own_reservation" {
		made.ID = c.ownOrderIn(x.Response)
	}
	c.record(x, check.Request{Kind: check.Reserve, Ticket: wanted.id, Buyer: buyer.id, Order: made.ID, ExpiresAt: made.ExpiresAt})
	if !x.Granted() {
		if x.Status == http.StatusConflict && x.Code() != "ticket_reserved" && x.Code() != "own_reservation" || x.Status == http.StatusNotFound {
			c.unpopular(wanted.id)
		}
		return
	}
	if buyer == wanted.seller {
		c.stats.unexpectedly("the seller of ticket %s reserved it with order %s", wanted.id, made.ID)
	}
	c.history.Ordered(made.ID, wanted.id, buyer.id)
	c.reservations = keepNewest(append(c.reservations, reservation{made.ID, buyer, wanted}))
	c.newestOrders = keepNewest(append(c.newestOrders, reservation{made.ID, buyer, wanted}))
}

// orderIn reads the order in a granted response.
func (c *simulatedClient) orderIn(r client.Response) client.Order {
	o, ok := decode[client.Order](r)
	if r.Granted() && !ok {
		c.stats.unexpectedly("a response with an order cannot be decoded: %.300s", r.Body)
	}
	return o
}

// ownOrderIn is the order that the problem own_reservation names.
func (c *simulatedClient) ownOrderIn(r client.Response) string {
	p, err := r.Problem()
	if err != nil || p.OrderID == "" {
		c.stats.unexpectedly("the problem own_reservation names no order: %.300s", r.Body)
	}
	return p.OrderID
}

// readOrder reads one of the newest orders.
func (c *simulatedClient) readOrder(ctx context.Context) {
	o, ok := pick(c.chance, c.newestOrders)
	if !ok {
		return
	}
	x := c.do(ctx, "read an order", o.buyer.token, client.ReadOrder(o.order))
	shown := c.orderIn(x.Response)
	c.record(x, check.Request{Kind: check.ReadOrder, Order: o.order, Status: shown.Status, Reason: shown.Reason})
}

// takeReservation removes one of the newest reservations from the client's list.
func (c *simulatedClient) takeReservation() (reservation, bool) {
	if len(c.reservations) == 0 {
		return reservation{}, false
	}
	i := len(c.reservations) - 1 - c.chance.IntN(min(3, len(c.reservations)))
	r := c.reservations[i]
	c.reservations = slices.Delete(c.reservations, i, i+1)
	return r, true
}

func (c *simulatedClient) cancel(ctx context.Context) {
	if r, ok := c.takeReservation(); ok {
		c.cancelOrder(ctx, r)
	}
}

func (c *simulatedClient) cancelOrder(ctx context.Context, r reservation) {
	x := c.do(ctx, "cancel", r.buyer.token, client.CancelOrder(r.order))
	c.record(x, check.Request{Kind: check.Cancel, Order: r.order})
	if x.Granted() {
		c.history.Cancelled(r.order)
	}
}

// cards are the payment methods of buyers. Those that need nothing else occur most often.
var cards = []string{
	"pm_card_visa", "pm_card_visa", "pm_card_visa", "pm_card_mastercard", "pm_card_visa", "pm_card_visa",
	"pm_card_chargeDeclined", "pm_card_authenticationRequired",
}

func (c *simulatedClient) pay(ctx context.Context) {
	r, ok := c.takeReservation()
	if !ok {
		return
	}
	card, _ := pick(c.chance, cards)
	c.history.Add(check.Request{Kind: check.Pay, Order: r.order, Call: time.Now()}) // from now on it may be complete
	x := c.doWithKey(ctx, "pay", r.buyer, client.Pay(r.order, card))
	switch {
	case x.Granted():
		made, ok := decode[client.Payment](x.Response)
		if !ok {
			return
		}
		c.history.Paid(made.ID, r.order)
		c.payments = keepNewest(append(c.payments, payment{r, made.StripeID, made.Amount}))
		if made.Status == "requires_action" {
			c.authenticate(ctx, made.StripeID)
		}
	case x.Status == http.StatusPaymentRequired, later(x.Response):
		c.reservations = append(c.reservations, r) // it may be paid with another card, or again
	}
	if c.chance.IntN(10) == 0 { // some buyers cancel right after they have paid
		c.cancelOrder(ctx, r)
	}
}

// authenticate completes 3-D Secure at the bank. It usually succeeds.
func (c *simulatedClient) authenticate(ctx context.Context, intent string) {
	outcome := "succeed"
	if c.chance.IntN(5) == 0 {
		outcome = "fail"
	}
	// If it fails, the payment stays as it is.
	_, _ = c.sandbox.Do(ctx, client.Request{
		Method: http.MethodPost, Path: "/sandbox/payment_intents/" + intent + "/authenticate", Body: map[string]string{"outcome": outcome},
	})
}

// refund refunds all or a part of a payment in Stripe's dashboard, as an operator of the marketplace may do. Stripe refuses if the
// money was not captured.
func (c *simulatedClient) refund(ctx context.Context) {
	p, ok := pick(c.chance, c.payments)
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
	c.resaleMayEnd(p.of.id, time.Now())
	request := client.Request{Method: http.MethodPost, Path: "/v1/refunds", Body: form.Encode()}
	response, err := c.sandbox.As("sk_test_dashboard").Do(ctx, request.With("Content-Type", "application/x-www-form-urlencoded"))
	if err != nil {
		response = client.Response{}
	}
	if !c.endedWithLoad(ctx, response) {
		c.stats.countOutcome(kind, client.Response{Status: response.Status}) // Stripe's codes are not shown
	}
}
