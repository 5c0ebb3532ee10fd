package check

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"boxoffice/deploy/proof/broker"
	"boxoffice/deploy/proof/client"
)

// The documents, with the members that rules need. Each service's store.go describes them.

type ticketDoc struct { // of tickets
	ID       string `json:"id"`
	Title    string `json:"title"`
	Price    int64  `json:"price"`
	Currency string `json:"currency"`
	UserID   string `json:"userId"` // the seller
	Status   string `json:"status"`
	OrderID  string `json:"orderId"`
	Sequence int    `json:"sequence"`
	Deleted  bool   `json:"deleted"`
	// Withdrawn means that the seller deleted the ticket. It is not Deleted if it was sold before that took effect.
	Withdrawn bool `json:"withdrawn"`
	Version   int  `json:"version"`
	// Listed is the version of the seller's last change. It is 0 in documents of the previous release.
	Listed int `json:"listed"`
	// The members below belong to a ticket for a show.
	ShowID     string    `json:"showId"`
	Seat       *place    `json:"seat"`
	FaceValue  int64     `json:"faceValue"`
	SalesEndAt time.Time `json:"salesEndAt"`
}

// published is the last version that was published: the seller's last change. The previous release published each version.
func (t ticketDoc) published() int { return cmp.Or(t.Listed, t.Version) }

// withdrawn reports whether the ticket is deleted in its last published version. A sale that restores the listing is
// not published; the previous release published it.
func (t ticketDoc) withdrawn() bool { return t.Deleted || t.Withdrawn && t.Listed != 0 }

type seatDoc struct { // of orders: the projection of a ticket, with its reservation
	ID       string `json:"id"`
	Title    string `json:"title"`
	Price    int64  `json:"price"`
	Currency string `json:"currency"`
	Version  int    `json:"version"`
	Deleted  bool   `json:"deleted"`
	Sequence int    `json:"sequence"`
	Withheld int    `json:"withheld"` // the change that was a refund, after which the seat is not on sale; 0 if it is
	// The members below belong to a ticket for a show.
	ShowID      string    `json:"showId"`
	Seat        *place    `json:"seat"`
	SalesEndAt  time.Time `json:"salesEndAt"`
	Reservation *struct {
		OrderID string `json:"orderId"`
		Status  string `json:"status"`
	} `json:"reservation"`
}

type orderDoc struct { // of orders; its events have the same members
	ID        string    `json:"id"`
	UserID    string    `json:"userId"`
	SellerID  string    `json:"sellerId"` // "" in earlier releases
	Status    string    `json:"status"`
	Reason    string    `json:"reason"`
	ExpiresAt time.Time `json:"expiresAt"`
	Ticket    struct {
		ID     string `json:"id"`
		Price  int64  `json:"price"`
		ShowID string `json:"showId"`
		Seat   *place `json:"seat"`
	} `json:"ticket"`
	PaymentID string    `json:"paymentId"` // of the payment that completed it
	UsedAt    time.Time `json:"usedAt"`    // when its pass was used
	ResoldAt  time.Time `json:"resoldAt"`  // when its ticket was resold, which made its pass void
	Sequence  int       `json:"sequence"`
	Version   int       `json:"version"`
	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"`
}

// expirationDoc is the data of expiration.complete: one order, or the orders of a slot.
type expirationDoc struct {
	expiredOrder
	OrderID string         `json:"orderId"`
	EndsAt  time.Time      `json:"endsAt"`
	Orders  []expiredOrder `json:"orders"`
}

type expiredOrder struct {
	ID        string    `json:"id"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// orders are the expired orders, in either form.
func (e expirationDoc) orders() []expiredOrder {
	if e.OrderID != "" {
		return []expiredOrder{{e.OrderID, e.ExpiresAt}}
	}
	return e.Orders
}

func (o orderDoc) live() bool { return o.Status == "created" || o.Status == "complete" }

type accountDoc struct { // of payments: the projection of an order, with its payment
	ID      string      `json:"id"`
	Status  string      `json:"status"`
	Amount  int64       `json:"amount"`
	Version int         `json:"version"`
	Payment *paymentDoc `json:"payment"`
	// PaymentID names the payment's own document, up to schema 1.
	PaymentID string `json:"paymentId"`
}

// paymentID is the id of the order's payment; "" if there is none.
func (a accountDoc) paymentID() string {
	if a.Payment != nil {
		return a.Payment.ID
	}
	return a.PaymentID
}

type paymentDoc struct { // of payments; and of orders, which kept a projection in the previous release
	ID      string `json:"id"`
	OrderID string `json:"orderId"`
	Status  string `json:"status"`
	Amount  int64  `json:"amount"`
	Version int    `json:"version"`
	// Refunded is the part that was refunded of a payment that is still captured.
	Refunded int64 `json:"refunded"`
}

type indexPage struct {
	Number int      `json:"number"`
	IDs    []string `json:"ids"`
}

// intent is a PaymentIntent in the sandbox's ledger.
type intent struct {
	ID         string            `json:"id"`
	Status     string            `json:"status"`
	Metadata   map[string]string `json:"metadata"`
	Charges    int               `json:"charges"`
	Authorized int64             `json:"authorized"`
	Held       int64             `json:"held"`
	Captured   int64             `json:"captured"`
	Voided     int64             `json:"voided"`
	Refunded   int64             `json:"refunded"`
	Kept       int64             `json:"kept"`
	CapturedAt *time.Time        `json:"capturedAt"`
}

// event is a CloudEvent of the broker.
type event struct {
	ID      string          `json:"id"`
	Type    string          `json:"type"`
	Subject string          `json:"subject"`
	Time    time.Time       `json:"time"`
	Data    json.RawMessage `json:"data"`

	topic string
	at    uint64 // its position among all events
}

// version is the last part of the event's id: the version of its aggregate.
func (e event) version() int {
	n, _ := strconv.Atoi(e.ID[strings.LastIndexByte(e.ID, ':')+1:])
	return n
}

// deadLetter is an event that a service could not handle.
type deadLetter struct {
	Service string
	Event   string // its id, or a hash if it has none
}

// facts are everything that the rules need, read at about one time.
type facts struct {
	now                time.Time
	tickets            map[string]ticketDoc
	seats              map[string]seatDoc
	orders             map[string]orderDoc
	accounts           map[string]accountDoc
	payments           map[string]paymentDoc
	paymentProjections map[string]paymentDoc // of payments in orders, by order: of the previous release
	listed             map[string]client.Ticket
	shows              map[string]showDoc // nil if the catalogue does not run
	catalogues         []catalogueFacts   // of its replicas
	intents            []intent
	events             []event // in the order in which they were published
	allEvents          bool    // whether the broker still has all events since the first
	counts             Events
	unresent           []deadLetter // dead letters that were not sent again
	webhooks           int          // not delivered
	history            *History
}

// reader reads facts. It keeps the events that it has read.
type reader struct {
	target Target
	api    *client.Client
	broker broker.Broker
	events []event
	place  string // of the last event
}

// requestTime limits one request.
const requestTime = 20 * time.Second

func newReader(t Target) (*reader, error) {
	b, err := broker.Open(t.Broker)
	if err != nil {
		return nil, err
	}
	return &reader{target: t, broker: b, api: client.New("", client.Options{Timeout: requestTime})}, nil
}

func (r *reader) close() {
	r.broker.Close()
	r.api.Close()
}

// facts reads everything. It reads the events first, for they name orders, and again at the end: an event that is still
// missing then was not published.
func (r *reader) facts(ctx context.Context, history *History) (*facts, error) {
	f := &facts{now: time.Now(), history: history}
	for _, read := range []func(context.Context, *facts) error{
		r.readEvents, r.readShows, r.readTickets, r.readOrders, r.readPayments, r.readList, r.readCatalogues, r.readLedger, r.readEvents, r.readDeadLetters,
	} {
		if err := read(ctx, f); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// brokerTime limits the calls to the broker in one step.
const brokerTime = time.Minute

// readEvents reads the events that were published since the last call.
func (r *reader) readEvents(ctx context.Context, f *facts) error {
	ctx, cancel := context.WithTimeout(ctx, brokerTime)
	defer cancel()
	messages, err := r.broker.Events(ctx, r.place)
	for _, message := range messages {
		r.place = message.Place
		e := event{topic: message.Topic, at: uint64(len(r.events)) + 1}
		_ = json.Unmarshal(message.Data, &e) // a message that is no event has no type, and rules ignore it
		r.events = append(r.events, e)
	}
	if err != nil {
		return fmt.Errorf("read the events: %w", err)
	}
	state, err := r.broker.State(ctx)
	if err != nil {
		return fmt.Errorf("read the state of the broker: %w", err)
	}
	f.events, f.allEvents = r.events, state.Complete
	f.counts = Events{Published: state.Messages, Redelivered: state.Redelivered, Pending: state.Waiting, Dead: state.Dead}
	return nil
}

// readDeadLetters finds the dead letters that were not sent again. The broker keeps a dead letter for 30 days in any case.
func (r *reader) readDeadLetters(ctx context.Context, f *facts) error {
	ctx, cancel := context.WithTimeout(ctx, brokerTime)
	defer cancel()
	if f.counts.Dead == 0 {
		return nil
	}
	letters, err := r.broker.DeadLetters(ctx)
	if err != nil {
		return fmt.Errorf("read the dead letters: %w", err)
	}
	retries, err := r.broker.Retries(ctx)
	if err != nil {
		return fmt.Errorf("read the dead letters that were sent again: %w", err)
	}
	resent := resentLetters(retries)
	for _, message := range letters {
		if letter := deadLetterIn(message); !resent[letter] {
			f.unresent = append(f.unresent, letter)
		}
	}
	f.counts.Dead = uint64(len(letters))
	f.counts.Resent = uint64(len(letters) - len(f.unresent))
	return nil
}

const (
	deadTopicPrefix  = "dead."
	retryTopicPrefix = "retry."
	deadLetterType   = "event.dead"
	// resentMark separates a dead letter's id from the number of the sending: "order.created:…:1/again-1@tickets".
	resentMark = "/again-"
)

// deadLetterIn reads a message of a topic of dead letters. A service publishes an envelope whose id is
// "event.dead:SERVICE:EVENT:1"; a sidecar publishes the event itself.
func deadLetterIn(message broker.Message) deadLetter {
	letter := deadLetter{Service: strings.TrimPrefix(message.Topic, deadTopicPrefix)}
	var e event
	_ = json.Unmarshal(message.Data, &e) // a message that is no event has no id, and cannot be sent again
	letter.Event = e.ID
	if e.Type == deadLetterType {
		letter.Event = strings.TrimSuffix(strings.TrimPrefix(e.ID, deadLetterType+":"+letter.Service+":"), ":1")
	}
	return letter
}

// resentLetters are the dead letters whose events are on the retry topics.
func resentLetters(retries []broker.Message) map[deadLetter]bool {
	resent := map[deadLetter]bool{}
	for _, message := range retries {
		var e event
		_ = json.Unmarshal(message.Data, &e)
		if at := strings.LastIndex(e.ID, resentMark); at >= 0 {
			resent[deadLetter{strings.TrimPrefix(message.Topic, retryTopicPrefix), e.ID[:at]}] = true
		}
	}
	return resent
}

func (r *reader) readTickets(ctx context.Context, f *facts) error {
	ids, err := r.index(ctx, "tickets", "tickets")
	if err != nil {
		return err
	}
	ids = append(ids, f.subjects("ticket.created")...)
	f.tickets, err = documents[ticketDoc](ctx, r, "tickets", "ticket/", ids)
	return err
}

// readOrders finds orders by their buyers, their events and the history, and reads them with their projections.
func (r *reader) readOrders(ctx context.Context, f *facts) (err error) {
	buyers := f.subjects("user.created")
	ids := f.subjects("order.created")
	if f.history != nil {
		f.history.mu.Lock()
		buyers = append(buyers, f.history.users...)
		ids = append(ids, slices.Collect(maps.Keys(f.history.orders))...)
		f.history.mu.Unlock()
	}
	for _, e := range f.events {
		if e.Type == "expiration.complete" {
			expired, _ := decode[expirationDoc](e)
			for _, o := range expired.orders() {
				ids = append(ids, o.ID)
			}
		}
	}
	buyers = unique(buyers)
	indexes := make([]string, len(buyers))
	for i, buyer := range buyers {
		indexes[i] = "orders/" + buyer
	}
	indexed, err := r.indexes(ctx, "orders", indexes)
	if err != nil {
		return err
	}
	ids = unique(append(ids, indexed...))
	if f.orders, err = documents[orderDoc](ctx, r, "orders", "order/", ids); err != nil {
		return err
	}
	if f.paymentProjections, err = documents[paymentDoc](ctx, r, "orders", "payment/", ids); err != nil {
		return err
	}
	if f.seats, err = documents[seatDoc](ctx, r, "orders", "ticket/", slices.Collect(maps.Keys(f.tickets))); err != nil {
		return err
	}
	f.accounts, err = documents[accountDoc](ctx, r, "payments", "order/", ids)
	return err
}

// readPayments finds payments in their orders' accounts. Up to schema 1 a payment has a document of its own. A payment
// without an intent was not published.
func (r *reader) readPayments(ctx context.Context, f *facts) (err error) {
	var ids []string
	for _, account := range f.accounts {
		if account.Payment == nil && account.PaymentID != "" {
			ids = append(ids, account.PaymentID)
		}
	}
	if f.payments, err = documents[paymentDoc](ctx, r, "payments", "payment/", ids); err != nil {
		return err
	}
	for id, account := range f.accounts {
		if p := account.Payment; p != nil {
			p.OrderID, p.Amount = id, account.Amount
			f.payments[p.ID] = *p
		}
	}
	return nil
}

// readList reads the list of all tickets as a client does.
func (r *reader) readList(ctx context.Context, f *facts) error {
	f.listed = map[string]client.Ticket{}
	for next := client.ReadTickets().WithQuery("limit", 200); next.Path != ""; {
		response, err := r.request(ctx, r.target.Gateways, next)
		page, err := client.Decode[[]client.Ticket](response, err)
		if err != nil {
			return fmt.Errorf("list the tickets: %w", err)
		}
		for _, ticket := range page {
			f.listed[ticket.ID] = ticket
		}
		next.Path = response.Next()
	}
	return nil
}

type ledger struct {
	Intents     []intent `json:"intents"`
	Undelivered int      `json:"undelivered"`
	Fault       string   `json:"fault"`
}

func (r *reader) readLedger(ctx context.Context, f *facts) error {
	ledger, err := client.Decode[ledger](r.request(ctx, []string{r.target.Sandbox}, client.Request{Method: http.MethodGet, Path: "/sandbox/ledger"}))
	if err != nil {
		return fmt.Errorf("read the sandbox's ledger: %w", err)
	}
	if ledger.Fault != "" {
		return fmt.Errorf("read the sandbox's ledger: %s", ledger.Fault)
	}
	f.intents, f.webhooks = ledger.Intents, ledger.Undelivered
	return nil
}

// subjects are the ids of the aggregates that have events of a type.
func (f *facts) subjects(eventType string) []string {
	var ids []string
	for _, e := range f.events {
		if e.Type == eventType {
			ids = append(ids, e.Subject)
		}
	}
	return ids
}

// index reads all ids of an index of an app.
func (r *reader) index(ctx context.Context, app, name string) ([]string, error) {
	return r.indexes(ctx, app, []string{name})
}

// registryKey is the key of the document with the number of partitions of an app's indexes.
const registryKey = "journal/registry"

// indexes reads all ids of several indexes. The partitions of an index are "name@0", "name@1" and so on; entries of the
// previous release are under the name alone. The head of each partition has the number of full pages before it.
func (r *reader) indexes(ctx context.Context, app string, names []string) (ids []string, err error) {
	registries, err := documents[struct {
		Partitions int `json:"partitions"`
	}](ctx, r, app, "", []string{registryKey})
	if err != nil {
		return nil, err
	}
	parts := slices.Clone(names)
	for partition := range registries[registryKey].Partitions {
		for _, name := range names {
			parts = append(parts, name+"@"+strconv.Itoa(partition))
		}
	}
	heads, err := documents[indexPage](ctx, r, app, "index/", parts)
	if err != nil {
		return nil, err
	}
	var pages []string
	for name, head := range heads {
		ids = append(ids, head.IDs...)
		for number := 1; number < head.Number; number++ {
			pages = append(pages, name+"/"+strconv.Itoa(number))
		}
	}
	full, err := documents[indexPage](ctx, r, app, "index/", pages)
	for _, page := range full {
		ids = append(ids, page.IDs...)
	}
	return ids, err
}

// bulk is how many documents one request reads.
const bulk = 200

type bulkItem struct {
	Key   string          `json:"key"`
	Data  json.RawMessage `json:"data"`
	Error string          `json:"error"`
}

// documents reads an app's documents by their ids. It omits those that do not exist.
func documents[T any](ctx context.Context, r *reader, app, prefix string, ids []string) (map[string]T, error) {
	ids = unique(ids)
	docs := make(map[string]T, len(ids))
	for some := range slices.Chunk(ids, bulk) {
		keys := make([]string, len(some))
		for i, id := range some {
			keys[i] = prefix + id
		}
		items, err := client.Decode[[]bulkItem](r.request(ctx, r.target.Sidecars[app], client.Request{
			Method: http.MethodPost, Path: "/v1.0/state/state/bulk", Body: map[string]any{"keys": keys, "parallelism": 8},
		}))
		if err != nil {
			return nil, fmt.Errorf("read documents of %s: %w", app, err)
		}
		for _, item := range items {
			if item.Error != "" {
				return nil, fmt.Errorf("read %s of %s: %s", item.Key, app, item.Error)
			}
			if len(item.Data) == 0 || string(item.Data) == "null" {
				continue
			}
			var doc T
			if err := json.Unmarshal(item.Data, &doc); err != nil {
				return nil, fmt.Errorf("document %s of %s cannot be decoded: %w", item.Key, app, err)
			}
			docs[strings.TrimPrefix(item.Key, prefix)] = doc
		}
	}
	return docs, nil
}

func unique(ids []string) []string {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	return slices.Compact(ids)
}

// request sends a request to one address after the other until one grants it. A sidecar gets its API token.
func (r *reader) request(ctx context.Context, addresses []string, request client.Request) (client.Response, error) {
	var failed []error
	for _, address := range addresses {
		to := request
		if token := r.target.Tokens[address]; token != "" {
			to = request.With("dapr-api-token", token)
		}
		response, err := backoff.Retry(ctx, func() (client.Response, error) { return granted(r.api.At(address).Do(ctx, to)) })
		if err == nil {
			return response, nil
		}
		failed = append(failed, fmt.Errorf("%s: %w", address, err))
	}
	if len(addresses) == 0 {
		return client.Response{}, errors.New("the address is not known")
	}
	return client.Response{}, errors.Join(failed...)
}

// granted turns a refusal into an error. Only a response that names a time may be tried again: a list of many pages exceeds the gateway's
// rate limit for one client.
func granted(response client.Response, err error) (client.Response, error) {
	switch {
	case err != nil:
		return response, backoff.Permanent(err)
	case response.Granted():
		return response, nil
	}
	if problem, err := response.Problem(); err == nil && problem.RetryAfter > 0 && response.Status == http.StatusTooManyRequests {
		return response, backoff.RetryAfter(int(problem.RetryAfter.Seconds()))
	}
	return response, backoff.Permanent(&client.Problem{Status: response.Status, Detail: fmt.Sprintf("%.300s", response.Body)})
}

// decode reads the data of an event.
func decode[T any](e event) (T, error) {
	var data T
	err := json.Unmarshal(e.Data, &data)
	return data, err
}
