package events

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"

	"golang.org/x/sync/errgroup"
)

// A bulk is many events in one delivery: Dapr's bulk subscribe
// (https://docs.dapr.io/developing-applications/building-blocks/pubsub/pubsub-bulk/). Its events are handled in parallel,
// so that their changes can share transactions. Each event has its own outcome.

const (
	// maxBulkBytes bounds a bulk; our components deliver about a megabyte at most.
	maxBulkBytes = 16 << 20
	// bulkAtOnce bounds the events of one bulk that are handled in parallel.
	bulkAtOnce = 64
)

// bulk is a delivery of a topic's events.
type bulk struct {
	Topic   string      `json:"topic"`
	Entries []bulkEntry `json:"entries"`
}

type bulkEntry struct {
	ID    string   `json:"entryId"`
	Event rawEvent `json:"event"`
}

// rawEvent is an event as it was published. The subscriptions ask for raw payloads, which Dapr neither decodes nor encodes:
// they arrive in base64. Without that setting, events arrive as JSON.
type rawEvent []byte

// UnmarshalJSON implements json.Unmarshaler.
func (p *rawEvent) UnmarshalJSON(text []byte) error {
	*p = bytes.Clone(text)
	if len(text) < 2 || text[0] != '"' {
		return nil
	}
	if raw, err := base64.StdEncoding.AppendDecode(nil, text[1:len(text)-1]); err == nil {
		*p = raw
	}
	return nil
}

type bulkOutcome struct {
	Statuses []entryOutcome `json:"statuses"`
}

type entryOutcome struct {
	ID     string `json:"entryId"`
	Status string `json:"status"`
}

// serveBulk handles a delivery. The response is 200, with the status of each event in the body. A bulk that cannot be decoded
// is refused as a whole, and the sidecar delivers it again: its events have no names that a response could use.
//
// All events are decoded first, one after the other: a goroutine for each would have to grow its stack for that. Then the handlers run
// in parallel. Those that only queue something run one after the other, and are waited for at the end.
func (r *Router) serveBulk(w http.ResponseWriter, req *http.Request) {
	b, ok := readBulk(w, req, r.opts.Log)
	if !ok {
		return
	}
	outcomes := bulkOutcome{Statuses: make([]entryOutcome, len(b.Entries))}
	set := func(i int, o outcome) { outcomes.Statuses[i] = entryOutcome{b.Entries[i].ID, o.status()} }
	deliveries := make([]delivery, len(b.Entries))
	for i, entry := range b.Entries {
		deliveries[i] = r.decode(b.Topic, entry.Event)
	}
	queueing, cancel := context.WithTimeout(req.Context(), handlingTime)
	defer cancel()
	var handling errgroup.Group
	handling.SetLimit(bulkAtOnce)
	for i := range deliveries {
		switch d := &deliveries[i]; {
		case d.queue != nil:
			r.unhandled.begin(d.event)
			d.wait, d.err = callQueue(queueing, d.queue)
		case d.ignored:
			set(i, r.count(d.event.Type, ignored))
		default:
			handling.Go(func() error {
				set(i, r.handle(req.Context(), d))
				return nil
			})
		}
	}
	for i := range deliveries {
		if d := &deliveries[i]; d.queue != nil {
			if d.err == nil {
				d.err = d.wait()
			}
			set(i, r.finish(traceContext(req.Context(), d.event), d.event, d.raw, d.err))
		}
	}
	_ = handling.Wait() // the functions return no errors
	respond(w, outcomes)
}

// Messages handles deliveries of messages that are not events of the catalogue, such as dead letters. handle is called in
// parallel, and may get a message more than once. After an error, the sidecar delivers the message again.
func Messages(log *slog.Logger, handle func(ctx context.Context, topic string, message []byte) error) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		serveBulk(w, req, log, func(ctx context.Context, topic string, message []byte) string {
			ctx, cancel := context.WithTimeout(ctx, handlingTime)
			defer cancel()
			if err := handle(ctx, topic, message); err != nil {
				log.Warn("a message will be delivered again", "topic", topic, "error", err)
				return retry.status()
			}
			return success.status()
		})
	}
}

func serveBulk(w http.ResponseWriter, req *http.Request, log *slog.Logger, deliver func(ctx context.Context, topic string, message []byte) (status string)) {
	b, ok := readBulk(w, req, log)
	if !ok {
		return
	}
	outcomes := bulkOutcome{Statuses: make([]entryOutcome, len(b.Entries))}
	var handling errgroup.Group
	handling.SetLimit(bulkAtOnce)
	for i, entry := range b.Entries {
		handling.Go(func() error {
			outcomes.Statuses[i] = entryOutcome{entry.ID, deliver(req.Context(), b.Topic, entry.Event)}
			return nil
		})
	}
	_ = handling.Wait() // the functions return no errors
	respond(w, outcomes)
}

// readBulk decodes a bulk. If that fails, it responds.
func readBulk(w http.ResponseWriter, req *http.Request, log *slog.Logger) (b bulk, ok bool) {
	var body bytes.Buffer
	body.Grow(int(min(max(req.ContentLength, 0), maxBulkBytes)) + bytes.MinRead)
	_, err := body.ReadFrom(http.MaxBytesReader(w, req.Body, maxBulkBytes))
	if err == nil {
		err = json.Unmarshal(body.Bytes(), &b)
	}
	if err != nil {
		log.Error("a bulk of events cannot be decoded and will be delivered again", "error", err)
		http.Error(w, "not a bulk of events: "+err.Error(), http.StatusBadRequest)
		return bulk{}, false
	}
	return b, true
}

func respond(w http.ResponseWriter, outcomes bulkOutcome) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(outcomes) // if the response is lost, the sidecar delivers the events again
}
