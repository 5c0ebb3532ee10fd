package events

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"sync"
)

// A bulk is many events in one delivery: Dapr's bulk subscribe
// (https://docs.dapr.io/developing-applications/building-blocks/pubsub/pubsub-bulk/). Its events are handled side by
// side, so that what they change can share transactions, and each has an outcome of its own.

const (
	// maxBulkBytes bounds a bulk; those of our component are about a megabyte at most.
	maxBulkBytes = 16 << 20
	// bulkAtOnce bounds the events of one bulk that are handled side by side.
	bulkAtOnce = 64
)

// bulk is a delivery of a topic's events.
type bulk struct {
	Topic   string `json:"topic"`
	Entries []struct {
		ID    string  `json:"entryId"`
		Event payload `json:"event"`
	} `json:"entries"`
}

// payload is an event as it was published. The subscriptions ask for raw payloads, so it comes in base64: Dapr then
// neither decodes nor encodes it. Without that setting it comes as JSON.
type payload []byte

// UnmarshalJSON implements json.Unmarshaler.
func (p *payload) UnmarshalJSON(text []byte) error {
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

// serveBulk handles a delivery of many. One that cannot be read is refused whole, and delivered again: it holds events
// that nobody can name. The response is always 200; each event's status is in the body.
func (r *Router) serveBulk(w http.ResponseWriter, req *http.Request) {
	serveBulk(w, req, r.opts.Log, func(ctx context.Context, topic string, event []byte) string {
		return r.deliver(ctx, topic, event).status()
	})
}

// Messages serves deliveries of messages that need not be events of the catalogue, such as dead letters. take is called in
// parallel, and must bear repeats; after an error the message is delivered again.
func Messages(log *slog.Logger, take func(ctx context.Context, topic string, message []byte) error) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		serveBulk(w, req, log, func(ctx context.Context, topic string, message []byte) string {
			ctx, cancel := context.WithTimeout(ctx, handlingTime)
			defer cancel()
			if err := take(ctx, topic, message); err != nil {
				log.Warn("a message will be delivered again", "topic", topic, "error", err)
				return retry.status()
			}
			return success.status()
		})
	}
}

func serveBulk(w http.ResponseWriter, req *http.Request, log *slog.Logger, deliver func(ctx context.Context, topic string, message []byte) (status string)) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBulkBytes))
	var b bulk
	if err == nil {
		err = json.Unmarshal(body, &b)
	}
	if err != nil {
		log.Error("a bulk of events cannot be read and will be delivered again", "error", err)
		http.Error(w, "not a bulk of events: "+err.Error(), http.StatusBadRequest)
		return
	}
	outcomes := bulkOutcome{Statuses: make([]entryOutcome, len(b.Entries))}
	places := make(chan struct{}, bulkAtOnce)
	var handling sync.WaitGroup
	for i, entry := range b.Entries {
		places <- struct{}{}
		handling.Go(func() {
			defer func() { <-places }()
			outcomes.Statuses[i] = entryOutcome{entry.ID, deliver(req.Context(), b.Topic, entry.Event)}
		})
	}
	handling.Wait()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(outcomes) // if it is lost, the sidecar delivers the events again
}
