package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// answerTime bounds one request. It is shorter than the gateway's patience, so that a client gives up at times.
const answerTime = 12 * time.Second

// front are the gateways. A client keeps to one until it does not answer.
type front struct {
	urls []string
	http *http.Client
}

func newFront(urls []string) *front {
	return &front{urls: urls, http: &http.Client{
		Timeout:   answerTime,
		Transport: &http.Transport{MaxIdleConnsPerHost: 256, IdleConnTimeout: 5 * time.Second},
	}}
}

// reply is what came back; status 0 is no answer.
type reply struct {
	status int
	code   string // of a problem, for example "ticket_reserved"
	body   []byte
	err    error
}

func (r reply) granted() bool { return r.status/100 == 2 }

// unclear says whether what was asked for may or may not have happened, or may be asked for again later.
func (r reply) unclear() bool {
	return r.status == 0 || r.status == http.StatusServiceUnavailable || r.status == http.StatusTooManyRequests
}

// call makes one request. key is its Idempotency-Key, if it has one.
func (f *front) call(ctx context.Context, gateway int, method, path, token, key string, body any) reply {
	var text []byte
	if body != nil {
		text, _ = json.Marshal(body)
	}
	request, err := http.NewRequestWithContext(ctx, method, f.urls[gateway%len(f.urls)]+path, bytes.NewReader(text))
	if err != nil {
		return reply{err: err}
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	response, err := f.http.Do(request)
	if err != nil {
		return reply{err: err}
	}
	defer func() { _ = response.Body.Close() }()
	r := reply{status: response.StatusCode}
	if r.body, err = io.ReadAll(response.Body); err != nil {
		return reply{err: err} // a status without its body is no answer
	}
	if r.status >= 400 {
		var problem struct {
			Errors []struct {
				Code string `json:"code"`
			} `json:"errors"`
		}
		if json.Unmarshal(r.body, &problem) == nil && len(problem.Errors) > 0 {
			r.code = problem.Errors[0].Code
		}
	}
	return r
}

// tally counts what became of one kind of request.
type tally struct {
	sent, granted, unanswered int
	refused                   map[string]int // by status and code
}

// tallies count all requests, and keep the answers that there should never be.
type tallies struct {
	mu     sync.Mutex
	order  []string
	byKind map[string]*tally
	odd    []string
}

func newTallies() *tallies { return &tallies{byKind: map[string]*tally{}} }

// maxOdd bounds the odd answers that are kept.
const maxOdd = 20

// count counts a reply of the marketplace, of which some kinds are odd.
func (t *tallies) count(kind string, r reply) {
	t.tally(kind, r)
	t.mu.Lock()
	defer t.mu.Unlock()
	if r.status >= 500 && r.status != http.StatusServiceUnavailable || r.status == http.StatusBadRequest {
		t.strange("%s was answered %d: %.300s", kind, r.status, r.body)
	}
}

func (t *tallies) tally(kind string, r reply) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.byKind[kind]
	if k == nil {
		k = &tally{refused: map[string]int{}}
		t.byKind[kind] = k
		t.order = append(t.order, kind)
	}
	k.sent++
	switch {
	case r.status == 0:
		k.unanswered++
	case r.granted():
		k.granted++
	default:
		k.refused[strings.TrimSpace(fmt.Sprint(r.status, " ", r.code))]++
	}
}

// note keeps something odd that a client has met.
func (t *tallies) note(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.strange(format, args...)
}

func (t *tallies) strange(format string, args ...any) {
	if len(t.odd) < maxOdd {
		t.odd = append(t.odd, fmt.Sprintf(format, args...))
	}
}
