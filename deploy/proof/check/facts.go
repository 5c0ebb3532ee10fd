package check

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"boxoffice/deploy/proof/broker"
)

// The documents, as far as they are looked at. See the head of each service's store.go.

type ticketDoc struct { // of tickets
	ID       string `json:"id"`
	Title    string `json:"title"`
	Price    int64  `json:"price"`
	Currency string `json:"currency"`
	Status   string `json:"status"`
	OrderID  string `json:"orderId"`
	Sequence int    `json:"sequence"`
	Deleted  bool   `json:"deleted"`
	// Withdrawn: its seller deleted it. It is not Deleted if a sale stands against that.
	Withdrawn bool `json:"withdrawn"`
	Version   int  `json:"version"`
	// Listed is the version of the seller's last change. In documents of the release before it is 0.
	Listed int `json:"listed"`
}

// published is the last version that was published: the seller's last change. The release before published each version.
func (t ticketDoc) published() int { return cmp.Or(t.Listed, t.Version) }

// withdrawn is what was published of the ticket's deletion. When a sale brings a listing back, nothing is published;
// the release before did it.
func (t ticketDoc) withdrawn() bool { return t.Deleted || t.Withdrawn && t.Listed != 0 }

type seatDoc struct { // orders' view of a ticket
	ID          string `json:"id"`
	Title       string `json:"title"`
	Price       int64  `json:"price"`
	Currency    string `json:"currency"`
	Version     int    `json:"version"`
	Deleted     bool   `json:"deleted"`
	Sequence    int    `json:"sequence"`
	Withheld    int    `json:"withheld"` // the change that was a refund, after which it is not for sale; 0 if it is
	Reservation *struct {
		OrderID string `json:"orderId"`
		Status  string `json:"status"`
	} `json:"reservation"`
}

type orderDoc struct { // of orders, and what its events carry
	ID        string    `json:"id"`
	UserID    string    `json:"userId"`
	Status    string    `json:"status"`
	Reason    string    `json:"reason"`
	ExpiresAt time.Time `json:"expiresAt"`
	Ticket    struct {
		ID    string `json:"id"`
		Price int64  `json:"price"`
	} `json:"ticket"`
	PaymentID string    `json:"paymentId"` // of the payment that completed it
	Sequence  int       `json:"sequence"`
	Version   int       `json:"version"`
	UpdatedAt time.Time `json:"updatedAt"`
}

// expirationDoc is what an event carries that says whose time is over: one order, or those of a slot.
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

// orders are all that the event names.
func (e expirationDoc) orders() []expiredOrder {
	if e.OrderID != "" {
		return []expiredOrder{{e.OrderID, e.ExpiresAt}}
	}
	return e.Orders
}

func (o orderDoc) live() bool { return o.Status == "created" || o.Status == "complete" }

type accountDoc struct { // payments' view of an order, with its payment
	ID      string      `json:"id"`
	Status  string      `json:"status"`
	Amount  int64       `json:"amount"`
	Version int         `json:"version"`
	Payment *paymentDoc `json:"payment"`
	// PaymentID names the payment's own document, up to schema 1.
	PaymentID string `json:"paymentId"`
}

// paymentID is the id of the order's payment; "" if none was begun.
func (a accountDoc) paymentID() string {
	if a.Payment != nil {
		return a.Payment.ID
	}
	return a.PaymentID
}

type paymentDoc struct { // of payments; and orders' record of it, which the release before kept
	ID      string `json:"id"`
	OrderID string `json:"orderId"`
	Status  string `json:"status"`
	Amount  int64  `json:"amount"`
	Version int    `json:"version"`
	// Refunded is what was given back of a payment that is still captured.
	Refunded int64 `json:"refunded"`
}

type indexPage struct {
	Number int      `json:"number"`
	IDs    []string `json:"ids"`
}

// purse is one PaymentIntent in the sandbox's ledger.
type purse struct {
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

// event is one that the stream holds.
type event struct {
	ID      string          `json:"id"`
	Type    string          `json:"type"`
	Subject string          `json:"subject"`
	Time    time.Time       `json:"time"`
	Data    json.RawMessage `json:"data"`

	topic string
	at    uint64 // its place in the stream
}

// version is what the event's id ends with.
func (e event) version() int {
	n, _ := strconv.Atoi(e.ID[strings.LastIndexByte(e.ID, ':')+1:])
	return n
}

// shown is a ticket as clients see it in the list.
type shown struct {
	ID      string `json:"id"`
	Status  string `json:"status"`
	OrderID string `json:"orderId"`
	Version int    `json:"version"`
}

// facts are everything that rules look at, as it was at about one time.
type facts struct {
	now      time.Time
	tickets  map[string]ticketDoc
	seats    map[string]seatDoc
	orders   map[string]orderDoc
	accounts map[string]accountDoc
	payments map[string]paymentDoc
	records  map[string]paymentDoc // orders' records of payments, by order: of the release before
	shown    map[string]shown
	purses   []purse
	events   []event // in the order of the stream
	whole    bool    // whether the stream still has its first event
	counts   Events
	webhooks int // not taken yet
	told     *Told
}

// looker reads facts. The events that it has read it keeps for the next look.
type looker struct {
	market Market
	http   *http.Client
	broker broker.Broker
	events []event
	place  string // of the last one
}

func newLooker(m Market) (*looker, error) {
	b, err := broker.Open(m.Broker)
	if err != nil {
		return nil, err
	}
	return &looker{market: m, broker: b, http: &http.Client{Timeout: 20 * time.Second}}, nil
}

func (l *looker) close() {
	l.broker.Close()
	l.http.CloseIdleConnections()
}

// facts looks at everything. The stream is read last: an event that is missing there was not told.
func (l *looker) facts(ctx context.Context, told *Told) (*facts, error) {
	f := &facts{now: time.Now(), told: told}
	if err := l.readStream(ctx, f); err != nil {
		return nil, fmt.Errorf("read the events: %w", err)
	}
	for _, read := range []func(context.Context, *facts) error{l.readTickets, l.readOrders, l.readPayments, l.readShown, l.readLedger, l.readStream} {
		if err := read(ctx, f); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// readStream reads what was told since the last time.
func (l *looker) readStream(ctx context.Context, f *facts) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	messages, err := l.broker.Events(ctx, l.place)
	for _, message := range messages {
		l.place = message.Place
		e := event{topic: message.Topic, at: uint64(len(l.events)) + 1}
		_ = json.Unmarshal(message.Data, &e) // what is no event has no type, and no rule looks at it
		l.events = append(l.events, e)
	}
	if err != nil {
		return err
	}
	state, err := l.broker.State(ctx)
	if err != nil {
		return err
	}
	f.events, f.whole = l.events, state.Whole
	f.counts = Events{Published: state.Messages, Redelivered: state.Redelivered, Pending: state.Waiting, Dead: state.Dead}
	return nil
}

func (l *looker) readTickets(ctx context.Context, f *facts) error {
	ids, err := l.index(ctx, "tickets", "tickets")
	if err != nil {
		return err
	}
	ids = append(ids, f.subjects("ticket.created")...)
	f.tickets, err = documents[ticketDoc](ctx, l, "tickets", "ticket/", ids)
	return err
}

// readOrders finds orders by their buyers and by what was told of them.
func (l *looker) readOrders(ctx context.Context, f *facts) (err error) {
	buyers := f.subjects("user.created")
	if f.told != nil {
		f.told.mu.Lock()
		buyers = append(buyers, f.told.users...)
		f.told.mu.Unlock()
	}
	ids := f.subjects("order.created")
	for _, e := range f.events {
		if e.Type == "expiration.complete" {
			expired, _ := decode[expirationDoc](e)
			for _, o := range expired.orders() {
				ids = append(ids, o.ID)
			}
		}
	}
	indexes := make([]string, len(buyers))
	for i, buyer := range unique(buyers) {
		indexes[i] = "orders/" + buyer
	}
	listed, err := l.indexes(ctx, "orders", indexes)
	if err != nil {
		return err
	}
	ids = append(ids, listed...)
	if f.told != nil {
		f.told.mu.Lock()
		ids = append(ids, slices.Collect(maps.Keys(f.told.orders))...)
		f.told.mu.Unlock()
	}
	ids = unique(ids)
	if f.orders, err = documents[orderDoc](ctx, l, "orders", "order/", ids); err != nil {
		return err
	}
	if f.records, err = documents[paymentDoc](ctx, l, "orders", "payment/", ids); err != nil {
		return err
	}
	if f.seats, err = documents[seatDoc](ctx, l, "orders", "ticket/", slices.Collect(maps.Keys(f.tickets))); err != nil {
		return err
	}
	f.accounts, err = documents[accountDoc](ctx, l, "payments", "order/", ids)
	return err
}

// readPayments finds payments with their orders, and those that have documents of their own, as up to schema 1. Of a
// payment without an intent nobody was told.
func (l *looker) readPayments(ctx context.Context, f *facts) (err error) {
	var ids []string
	for _, account := range f.accounts {
		if account.Payment == nil && account.PaymentID != "" {
			ids = append(ids, account.PaymentID)
		}
	}
	if f.payments, err = documents[paymentDoc](ctx, l, "payments", "payment/", ids); err != nil {
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

// readShown reads the whole list of tickets as a client does.
func (l *looker) readShown(ctx context.Context, f *facts) error {
	f.shown = map[string]shown{}
	for path := "/api/tickets?limit=200"; path != ""; {
		var page []shown
		header, err := l.get(ctx, l.market.Gateways, path, &page)
		if err != nil {
			return fmt.Errorf("list the tickets: %w", err)
		}
		for _, ticket := range page {
			f.shown[ticket.ID] = ticket
		}
		link := header.Get("Link") // <…>; rel="next"
		from, to := strings.IndexByte(link, '<'), strings.IndexByte(link, '>')
		if path = ""; from >= 0 && to > from {
			path = link[from+1 : to]
		}
	}
	return nil
}

func (l *looker) readLedger(ctx context.Context, f *facts) error {
	var ledger struct {
		Intents     []purse `json:"intents"`
		Undelivered int     `json:"undelivered"`
		Fault       string  `json:"fault"`
	}
	if _, err := l.get(ctx, []string{l.market.Sandbox}, "/sandbox/ledger", &ledger); err != nil {
		return fmt.Errorf("read the sandbox's ledger: %w", err)
	}
	if ledger.Fault != "" {
		return fmt.Errorf("the sandbox's ledger: %s", ledger.Fault)
	}
	f.purses, f.webhooks = ledger.Intents, ledger.Undelivered
	return nil
}

// subjects are the aggregates that events of a type tell of.
func (f *facts) subjects(eventType string) []string {
	var ids []string
	for _, e := range f.events {
		if e.Type == eventType {
			ids = append(ids, e.Subject)
		}
	}
	return ids
}

// index reads all ids of one of an app's indexes.
func (l *looker) index(ctx context.Context, app, name string) ([]string, error) {
	return l.indexes(ctx, app, []string{name})
}

// registryKey is the document of an app's journal that says how many partitions its indexes have.
const registryKey = "journal/registry"

// indexes reads all ids of several indexes, whose partitions are "name@0", "name@1" and so on; what the release before
// has appended is under the name alone. The head of each says how many pages are before it.
func (l *looker) indexes(ctx context.Context, app string, names []string) (ids []string, err error) {
	registries, err := documents[struct {
		Partitions int `json:"partitions"`
	}](ctx, l, app, "", []string{registryKey})
	if err != nil {
		return nil, err
	}
	parts := slices.Clone(names)
	for partition := range registries[registryKey].Partitions {
		for _, name := range names {
			parts = append(parts, name+"@"+strconv.Itoa(partition))
		}
	}
	heads, err := documents[indexPage](ctx, l, app, "index/", parts)
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
	full, err := documents[indexPage](ctx, l, app, "index/", pages)
	for _, page := range full {
		ids = append(ids, page.IDs...)
	}
	return ids, err
}

// bulk is how many documents are asked for at once.
const bulk = 200

// documents reads an app's documents by their ids; those that do not exist are left out.
func documents[T any](ctx context.Context, l *looker, app, prefix string, ids []string) (map[string]T, error) {
	ids = unique(ids)
	docs := make(map[string]T, len(ids))
	store := l.market.StateName
	if store == "" {
		store = "state"
	}
	for some := range slices.Chunk(ids, bulk) {
		keys := make([]string, len(some))
		for i, id := range some {
			keys[i] = prefix + id
		}
		body, err := json.Marshal(map[string]any{"keys": keys, "parallelism": 8})
		if err != nil {
			return nil, err
		}
		var items []struct {
			Key   string          `json:"key"`
			Data  json.RawMessage `json:"data"`
			ETag  *string         `json:"etag"`
			Error string          `json:"error"`
		}
		if _, err := l.ask(ctx, http.MethodPost, l.market.Sidecars[app], "/v1.0/state/"+store+"/bulk", body, &items); err != nil {
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
				return nil, fmt.Errorf("document %s of %s is not readable: %w", item.Key, app, err)
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

func (l *looker) get(ctx context.Context, bases []string, path string, into any) (http.Header, error) {
	return l.ask(ctx, http.MethodGet, bases, path, nil, into)
}

// ask makes a request to the first of several addresses that answers it.
func (l *looker) ask(ctx context.Context, method string, bases []string, path string, body []byte, into any) (http.Header, error) {
	var failed []error
	for _, base := range bases {
		header, err := l.askOne(ctx, method, base, path, body, into)
		if err == nil {
			return header, nil
		}
		failed = append(failed, err)
	}
	if len(bases) == 0 {
		return nil, errors.New("no address is known")
	}
	return nil, errors.Join(failed...)
}

func (l *looker) askOne(ctx context.Context, method, base, path string, body []byte, into any) (http.Header, error) {
	request, err := http.NewRequestWithContext(ctx, method, base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if token := l.market.Tokens[base]; token != "" {
		request.Header.Set("dapr-api-token", token)
	}
	response, err := l.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	// A list of many pages is more than the gateway lets one client ask for at once.
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && response.StatusCode == http.StatusTooManyRequests {
		select {
		case <-time.After(time.Duration(seconds) * time.Second):
			return l.askOne(ctx, method, base, path, body, into)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if response.StatusCode/100 != 2 {
		return nil, fmt.Errorf("%s %s%s: %s: %.300s", method, base, path, response.Status, text)
	}
	if len(text) == 0 {
		return response.Header, nil
	}
	return response.Header, json.Unmarshal(text, into)
}

// decode reads what an event carries.
func decode[T any](e event) (T, error) {
	var carried T
	err := json.Unmarshal(e.Data, &carried)
	return carried, err
}
