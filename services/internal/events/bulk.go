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

func readBulk(w http.ResponseWriter, req *http.Request) (b bulk, err error) {
	return b, json.NewDecoder(http.MaxBytesReader(w, req.Body, maxBulkBytes)).Decode(&b)
}

// serveBulk handles a delivery of many. One that cannot be read is refused whole, and delivered again: it holds events
// that nobody can name.
func (r *Router) serveBulk(w http.ResponseWriter, req *http.Request) {
	b, err := readBulk(w, req)
	if err != nil {
		r.opts.Log.Error("a bulk of events cannot be read and will be delivered again", "error", err)
		http.Error(w, "not a bulk of events: "+err.Error(), http.StatusBadRequest)
		return
	}
	told := bulkOutcome{Statuses: make([]entryOutcome, len(b.Entries))}
	places := make(chan struct{}, bulkAtOnce)
	var handling sync.WaitGroup
	for i, entry := range b.Entries {
		places <- struct{}{}
		handling.Go(func() {
			defer func() { <-places }()
			told.Statuses[i] = entryOutcome{entry.ID, r.deliver(req.Context(), "", entry.Event).status()}
		})
	}
	handling.Wait()
	tell(w, told)
}

// ignore accepts whatever comes, alone or in bulk.
func ignore(w http.ResponseWriter, req *http.Request) {
	b, err := readBulk(w, req)
	if err != nil || b.Entries == nil {
		say(w, success)
		return
	}
	told := bulkOutcome{Statuses: make([]entryOutcome, len(b.Entries))}
	for i, entry := range b.Entries {
		told.Statuses[i] = entryOutcome{entry.ID, success.status()}
	}
	tell(w, told)
}

func tell(w http.ResponseWriter, told bulkOutcome) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(told) // who does not hear it asks again
}
