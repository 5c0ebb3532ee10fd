package chaos

import (
	"context"
	"hash/fnv"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"boxoffice/deploy/proof/check"
	"boxoffice/deploy/proof/client"
)

// eventTypes are all that an endpoint may ask for.
var eventTypes = []string{"ticket.created", "ticket.updated", "ticket.deleted", "order.created", "order.completed", "order.updated", "order.cancelled"}

// endpointTries is how often a client tries to make an endpoint for a new user.
const endpointTries = 3

// receiver is the server of all users who have an endpoint. The path is the user. While there is load, it fails the first attempt of
// some messages; their ids choose which, and how.
type receiver struct {
	url       string
	server    *http.Server
	endpoints *check.Endpoints

	mu       sync.Mutex
	attempts map[string]int // by the message's id
	failed   map[string]int // by the kind of failure
	behaves  bool
}

// failures are what a receiver does to the first attempt of a message. Of so many messages one fails in each way.
var failures = []struct {
	name string
	one  uint32
	fail func(w http.ResponseWriter, r *http.Request)
}{
	{"receiver answers 500", 15, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }},
	{"receiver closes", 15, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
	{"receiver redirects", 50, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) }},
	{"receiver hangs", 150, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
}

// slowOne and slowTime: an answer to one of so many messages is right, but comes so late.
const (
	slowOne  = 15
	slowTime = time.Second
)

// startReceiver listens on a free port of this machine.
func startReceiver() (*receiver, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &receiver{url: "http://" + listener.Addr().String(), endpoints: check.NewEndpoints(), attempts: map[string]int{}, failed: map[string]int{}}
	r.server = &http.Server{Handler: r, ReadTimeout: 10 * time.Second}
	go func() { _ = r.server.Serve(listener) }()
	return r, nil
}

func (r *receiver) close() { _ = r.server.Close() }

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(io.LimitReader(request.Body, 1<<20))
	if err != nil {
		return // the sender has ended, and sends it again
	}
	id := request.Header.Get("webhook-id")
	if fail := r.failure(id); fail != nil {
		fail(w, request)
		return
	}
	if chosen(id, "slow", slowOne) {
		sleep(request.Context(), slowTime)
	}
	r.endpoints.Arrived(strings.TrimPrefix(request.URL.Path, "/"), body)
}

// failure is what happens to an attempt of a message; nil: it is answered.
func (r *receiver) failure(id string) func(http.ResponseWriter, *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.attempts[id]++; r.attempts[id] > 1 || r.behaves {
		return nil
	}
	for _, each := range failures {
		if chosen(id, each.name, each.one) {
			r.failed[each.name]++
			return each.fail
		}
	}
	return nil
}

// chosen reports whether a message is one of those for a purpose, by chance.
func chosen(id, purpose string, one uint32) bool {
	sum := fnv.New32a()
	_, _ = io.WriteString(sum, purpose+id)
	return sum.Sum32()%one == 0
}

// behave ends the failures: from now on each message must arrive within a minute.
func (r *receiver) behave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.behaves = true
	r.endpoints.Quiet()
}

// faults are how often attempts failed, by the kind of failure.
func (r *receiver) faults() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.failed)
}

// createEndpoint makes an endpoint of a new user. If it cannot be made, the user has none.
func (c *simulatedClient) createEndpoint(ctx context.Context, u *user) {
	if c.receiver == nil {
		return
	}
	for range endpointTries {
		x := c.do(ctx, "create an endpoint", u.token, client.CreateWebhook(c.receiver.url+"/"+u.id, eventTypes...).WithKey(u.id))
		if x.Granted() {
			c.receiver.endpoints.Created(u.id)
			return
		}
		if !later(x.Response) {
			return
		}
	}
}

// deleteEndpoint forgets the endpoint of a user whose account may be deleted.
func (c *simulatedClient) deleteEndpoint(u *user) {
	if c.receiver != nil {
		c.receiver.endpoints.Deleted(u.id)
	}
}
