package events

import (
	"encoding/json"
	"io"
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

// bulk is a delivery whose events are E.
type bulk[E any] struct {
	Topic   string `json:"topic"`
	Entries []struct {
		ID    string `json:"entryId"`
		Event E      `json:"event"`
	} `json:"entries"`
}

// delivery is one event of a bulk. Raw is the event as it came, which only a dead letter needs; Unreadable says why it could
// not be decoded.
type delivery struct {
	Event
	raw        func() []byte
	unreadable error
}

// readBulk decodes a bulk in one pass. If there is something in it that is no event, its events are decoded one by one.
func readBulk(body []byte) (topic string, ids []string, all []delivery, err error) {
	rawEvents := sync.OnceValues(func() (b bulk[json.RawMessage], err error) { return b, json.Unmarshal(body, &b) })
	raw := func(i int) func() []byte {
		return func() []byte {
			b, _ := rawEvents() // it was readable before
			return b.Entries[i].Event
		}
	}
	var decoded bulk[Event]
	if json.Unmarshal(body, &decoded) == nil {
		for i, entry := range decoded.Entries {
			ids, all = append(ids, entry.ID), append(all, delivery{Event: entry.Event, raw: raw(i)})
		}
		return decoded.Topic, ids, all, nil
	}
	b, err := rawEvents()
	if err != nil {
		return "", nil, nil, err
	}
	for i, entry := range b.Entries {
		d := delivery{raw: raw(i)}
		d.unreadable = json.Unmarshal(entry.Event, &d.Event)
		ids, all = append(ids, entry.ID), append(all, d)
	}
	return b.Topic, ids, all, nil
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
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBulkBytes))
	var topic string
	var ids []string
	var all []delivery
	if err == nil {
		topic, ids, all, err = readBulk(body)
	}
	if err != nil {
		r.opts.Log.Error("a bulk of events cannot be read and will be delivered again", "error", err)
		http.Error(w, "not a bulk of events: "+err.Error(), http.StatusBadRequest)
		return
	}
	outcomes := bulkOutcome{Statuses: make([]entryOutcome, len(all))}
	places := make(chan struct{}, bulkAtOnce)
	var handling sync.WaitGroup
	for i, event := range all {
		places <- struct{}{}
		handling.Go(func() {
			defer func() { <-places }()
			outcomes.Statuses[i] = entryOutcome{ids[i], r.deliver(req.Context(), topic, event).status()}
		})
	}
	handling.Wait()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(outcomes) // if it is lost, the sidecar delivers the events again
}
