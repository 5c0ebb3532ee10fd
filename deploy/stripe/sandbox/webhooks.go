package sandbox

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// apiVersion is the version of Stripe's API that stripe-go v76 speaks and that its webhook check demands.
	apiVersion = "2023-10-16"
	// deliveryTime bounds one try of a webhook.
	deliveryTime = 10 * time.Second
	// longestWait is where the growing wait between tries stops growing.
	longestWait = 30 * time.Second
	// deliveriesAtOnce bounds how many webhooks are on their way at a time.
	deliveriesAtOnce = 8
)

// event is Stripe's webhook body.
type event struct {
	ID              string         `json:"id"`
	Object          string         `json:"object"`
	APIVersion      string         `json:"api_version"`
	Created         int64          `json:"created"`
	Data            eventData      `json:"data"`
	Livemode        bool           `json:"livemode"`
	PendingWebhooks int            `json:"pending_webhooks"`
	Request         map[string]any `json:"request"`
	Type            string         `json:"type"`
}

// eventData holds the object as it was when the event came to be.
type eventData struct {
	Object json.RawMessage `json:"object"`
}

// webhooks sends events to the one receiver, each until it is accepted with a 2xx, in no promised order:
// that is Stripe's contract, and the receiver must bear it.
type webhooks struct {
	opts     Options
	log      *slog.Logger
	store    *store
	faults   *faults
	client   *http.Client
	ctx      context.Context
	cancel   context.CancelFunc
	sending  sync.WaitGroup
	underWay chan struct{}
}

func startWebhooks(opts Options, store *store, faults *faults) *webhooks {
	ctx, cancel := context.WithCancel(context.Background())
	w := &webhooks{
		opts: opts, log: opts.Log, store: store, faults: faults, client: &http.Client{Timeout: deliveryTime},
		ctx: ctx, cancel: cancel, underWay: make(chan struct{}, deliveriesAtOnce),
	}
	store.mu.Lock()
	defer store.mu.Unlock()
	for _, left := range store.pendingEvents() {
		w.start(left, 0)
	}
	return w
}

// stop ends all sending and waits for it.
func (w *webhooks) stop() {
	w.cancel()
	w.sending.Wait()
}

// emit records an event about object and starts sending it. The store is locked by the caller.
func (w *webhooks) emit(eventType string, object any, r *request) {
	snapshot, err := json.Marshal(object)
	if err != nil {
		w.log.Error("stripe sandbox: event not made", "type", eventType, "error", err)
		return
	}
	e := &event{
		ID: newID("evt_"), Object: "event", APIVersion: apiVersion, Created: r.now.Unix(), Data: eventData{snapshot},
		PendingWebhooks: 1, Type: eventType, Request: map[string]any{"id": r.id, "idempotency_key": nil},
	}
	if r.idempotencyKey != "" {
		e.Request["idempotency_key"] = r.idempotencyKey
	}
	w.store.remember(e)
	if w.opts.WebhookURL == "" {
		return
	}
	var fault Fault
	delay := time.Duration(0)
	if rule := w.faults.strike(onEvent, r); rule != nil {
		fault, delay = rule.Fault, rule.wait()
	}
	if fault == WebhookDrop {
		return
	}
	w.store.putEvent(e)
	tried := w.start(e, delay)
	switch fault {
	case WebhookDouble:
		w.start(e, 0)
	case WebhookFirst:
		r.first = append(r.first, tried)
	}
}

// listEvents answers which events there were, newest first, whether their webhooks were accepted or not.
func (s *Server) listEvents(r *request) (any, *apiError) {
	if err := r.params.only("created", "type", "types", "delivery_success", "limit", "starting_after", "ending_before"); err != nil {
		return nil, err
	}
	within, err := r.params.createdWithin()
	if err != nil {
		return nil, err
	}
	types := append(slices.Clone(r.params.Values["types[]"]), slices.Collect(maps.Values(indexed(r.params, "types")))...)
	if one := r.params.Get("type"); one != "" {
		types = append(types, one)
	}
	if len(types) > 20 {
		return nil, invalid("types", "", "You may only specify up to 20 event types.")
	}
	var found []*event
	for _, e := range slices.Backward(s.store.history) {
		matches := func(wanted string) bool {
			prefix, wildcard := strings.CutSuffix(wanted, "*")
			return e.Type == wanted || wildcard && strings.HasPrefix(e.Type, prefix)
		}
		if within(e.Created) && (len(types) == 0 || slices.ContainsFunc(types, matches)) {
			found = append(found, e)
		}
	}
	return page(r, found, func(e *event) string { return e.ID })
}

func (s *Server) retrieveEvent(r *request) (any, *apiError) {
	at := slices.IndexFunc(s.store.history, func(e *event) bool { return e.ID == r.objectID })
	if at < 0 {
		return nil, missing(404, "event", r.objectID, "id")
	}
	return s.store.history[at], nil
}

// start sends an event after delay. tried is closed when the receiver has answered for the first time, or has not.
func (w *webhooks) start(e *event, delay time.Duration) (tried <-chan struct{}) {
	done := make(chan struct{})
	body, err := json.Marshal(e)
	if err != nil || w.opts.WebhookURL == "" {
		close(done)
		return done
	}
	w.sending.Go(func() { w.deliver(e.ID, e.Type, body, delay, done) })
	return done
}

// deliver tries until the receiver accepts or the sandbox stops.
func (w *webhooks) deliver(id, eventType string, body []byte, delay time.Duration, tried chan<- struct{}) {
	select {
	case <-time.After(delay):
	case <-w.ctx.Done():
	}
	wait := w.opts.retryAfter
	for try := 1; ; try++ {
		err := w.post(body)
		if try == 1 {
			close(tried)
		}
		if err == nil {
			w.store.eventAccepted(id)
			w.log.Debug("stripe sandbox: webhook accepted", "event", id, "type", eventType, "tries", try)
			return
		}
		if w.ctx.Err() != nil {
			return
		}
		w.log.Info("stripe sandbox: webhook will be sent again", "event", id, "type", eventType, "tries", try, "wait", wait, "error", err)
		select {
		case <-time.After(wait):
		case <-w.ctx.Done():
			return
		}
		wait = min(2*wait, longestWait)
	}
}

func (w *webhooks) post(body []byte) error {
	select {
	case w.underWay <- struct{}{}:
		defer func() { <-w.underWay }()
	case <-w.ctx.Done():
		return w.ctx.Err()
	}
	req, err := http.NewRequestWithContext(w.ctx, http.MethodPost, w.opts.WebhookURL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	req.Header.Set("User-Agent", "Stripe/1.0 (box office sandbox)")
	req.Header.Set("Stripe-Signature", signature(body, w.opts.WebhookSecret, time.Now()))
	res, err := w.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxBodyBytes))
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return fmt.Errorf("the receiver answered %s", res.Status)
	}
	return nil
}

// signature is the value of the header Stripe-Signature: https://docs.stripe.com/webhooks#verify-manually
func signature(body []byte, secret string, now time.Time) string {
	at := strconv.FormatInt(now.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(at + "."))
	mac.Write(body)
	return "t=" + at + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}
