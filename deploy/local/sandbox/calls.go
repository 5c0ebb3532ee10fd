package sandbox

import (
	"maps"
	"net/http"
	"sync"
)

// Calls counts the requests to Stripe's API since the sandbox was started: all that arrived with a key, also those that
// were refused, and those that were answered as before.
type Calls struct {
	Writes int `json:"writes"`
	Reads  int `json:"reads"`
	// Operations counts them by what they do, in the words of Rule. One that creates an intent and confirms it is counted
	// as "authorize".
	Operations map[string]int `json:"operations"`
}

// calls is a Calls that requests count in side by side.
type calls struct {
	mu  sync.Mutex
	sum Calls
}

const opAuthorize = "authorize"

func (c *calls) add(r *request) {
	operation := r.operation
	if operation == opCreate && r.does(opConfirm) {
		operation = opAuthorize
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.method == http.MethodGet {
		c.sum.Reads++
	} else {
		c.sum.Writes++
	}
	if c.sum.Operations == nil {
		c.sum.Operations = map[string]int{}
	}
	c.sum.Operations[operation]++
}

// listCalls answers GET /sandbox/calls. Whoever wants to know what something costs asks before and after.
func (s *Server) listCalls(w http.ResponseWriter, _ *http.Request) {
	s.calls.mu.Lock()
	sum := s.calls.sum
	sum.Operations = maps.Clone(sum.Operations)
	s.calls.mu.Unlock()
	writeJSON(w, http.StatusOK, sum)
}
