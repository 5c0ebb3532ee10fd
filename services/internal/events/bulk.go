package events

import (
	"encoding/json"
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

type bulk struct {
	Topic   string `json:"topic"`
	Entries []struct {
		ID    string          `json:"entryId"`
		Event json.RawMessage `json:"event"`
	} `json:"entries"`
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
	var b bulk
	if err := json.NewDecoder(http.MaxBytesReader(w, req.Body, maxBulkBytes)).Decode(&b); err != nil {
		r.opts.Log.Error("a bulk of events cannot be read and will be delivered again", "error", err)
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
			outcomes.Statuses[i] = entryOutcome{entry.ID, r.deliver(req.Context(), b.Topic, entry.Event).status()}
		})
	}
	handling.Wait()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(outcomes) // if it is lost, the sidecar delivers the events again
}
