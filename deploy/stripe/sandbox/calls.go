package sandbox

import (
	"net/http"
	"strings"
	"sync/atomic"
)

// callCounter counts the calls of the Stripe API since the start, replays and refusals included: an account has a limit of
// calls a second. GET /sandbox/calls shows it.
type callCounter struct{ reads, writes atomic.Int64 }

// Calls is what GET /sandbox/calls answers.
type Calls struct {
	Reads  int64 `json:"reads"`  // GET
	Writes int64 `json:"writes"` // all others
}

func (c *callCounter) count(r *http.Request) {
	switch {
	case !strings.HasPrefix(r.URL.Path, "/v1/"):
	case r.Method == http.MethodGet:
		c.reads.Add(1)
	default:
		c.writes.Add(1)
	}
}

func (c *callCounter) show(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, Calls{Reads: c.reads.Load(), Writes: c.writes.Load()})
}
