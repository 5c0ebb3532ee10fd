package chaos

import (
	"fmt"
	"net/http"
	"strings"
	"sync"

	"boxoffice/deploy/proof/client"
)

// outcomes counts the outcomes of one kind of request.
type outcomes struct {
	sent, granted, unanswered int
	refused                   map[string]int // by status and code
}

// stats count the outcomes of all requests, and keep responses that should never occur.
type stats struct {
	mu         sync.Mutex
	kinds      []string // in the order of their first request
	byKind     map[string]*outcomes
	unexpected []string
}

func newStats() *stats { return &stats{byKind: map[string]*outcomes{}} }

// maxUnexpected limits the unexpected responses that are kept.
const maxUnexpected = 20

// count counts a response of the marketplace, and keeps it if its status should never occur.
func (s *stats) count(kind string, r client.Response) {
	s.countOutcome(kind, r)
	soon := strings.HasSuffix(kind, " a show") && r.Code() == "min" // a clock that is ahead refuses a show that starts soon
	if r.Status >= 500 && r.Status != http.StatusServiceUnavailable || r.Status == http.StatusBadRequest && !soon {
		s.unexpectedly("%s was answered %d: %.300s", kind, r.Status, r.Body)
	}
}

func (s *stats) countOutcome(kind string, r client.Response) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.byKind[kind]
	if o == nil {
		o = &outcomes{refused: map[string]int{}}
		s.byKind[kind] = o
		s.kinds = append(s.kinds, kind)
	}
	o.sent++
	switch {
	case r.Status == 0:
		o.unanswered++
	case r.Granted():
		o.granted++
	default:
		o.refused[strings.TrimSpace(fmt.Sprint(r.Status, " ", r.Code()))]++
	}
}

// unexpectedly keeps a description of something that should never occur.
func (s *stats) unexpectedly(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.unexpected) < maxUnexpected {
		s.unexpected = append(s.unexpected, fmt.Sprintf(format, args...))
	}
}
