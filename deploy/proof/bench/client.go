package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/client"
)

// endpoint sends requests of package client to a server, or to its replicas in turn. It uses fasthttp, because the load shares the
// processors with the servers and net/http would take three times as much of them.
type endpoint struct {
	replicas []*fasthttp.HostClient
	turn     atomic.Uint64
}

// answerTime limits one call. A later answer counts as a failure.
const answerTime = 30 * time.Second

func newEndpoint(addresses []string) (*endpoint, error) {
	e := &endpoint{}
	for _, address := range addresses {
		parsed, err := url.Parse(address)
		if err != nil {
			return nil, err
		}
		e.replicas = append(e.replicas, &fasthttp.HostClient{
			Addr: parsed.Host, MaxConns: 4096, ReadTimeout: answerTime, WriteTimeout: answerTime,
			NoDefaultUserAgentHeader: true, MaxIdemponentCallAttempts: 1,
		})
	}
	return e, nil
}

// errNotYetKnown means that the same request will be answered in a moment: an event is on its way.
var errNotYetKnown = errors.New("not yet known")

// errUnavailable means that the service refuses changes for a moment, for example because too many of its events wait for the broker.
var errUnavailable = errors.New("status 503")

// call sends a request. If read is not nil, it reads the response, which is not valid after the call.
func (e *endpoint) call(token string, r client.Request, read func(*fasthttp.Response) error) (status int, err error) {
	req, res := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(res)
	replica := e.replicas[e.turn.Add(1)%uint64(len(e.replicas))]
	req.Header.SetMethod(r.Method)
	req.SetRequestURI("http://" + replica.Addr + r.Path)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for name, values := range r.Header {
		req.Header.Set(name, values[0])
	}
	if r.Body != nil {
		body, err := json.Marshal(r.Body)
		if err != nil {
			return 0, err
		}
		req.Header.SetContentType("application/json")
		req.SetBodyRaw(body)
	}
	if err := replica.Do(req, res); err != nil {
		return 0, fmt.Errorf("%s %s: %w", r.Method, withoutID(r.Path), err)
	}
	status = res.StatusCode()
	if status == 503 && bytes.Contains(res.Body(), []byte(`"not_yet_known"`)) {
		return status, errNotYetKnown
	}
	if status == 503 && bytes.Contains(res.Body(), []byte(`"unavailable"`)) {
		return status, fmt.Errorf("%s %s: %w: %.200s", r.Method, withoutID(r.Path), errUnavailable, res.Body())
	}
	if status >= 500 {
		return status, fmt.Errorf("%s %s: status %d: %.200s", r.Method, withoutID(r.Path), status, res.Body())
	}
	if read != nil {
		if err := read(res); err != nil {
			return status, fmt.Errorf("%s %s: status %d: %w", r.Method, withoutID(r.Path), status, err)
		}
	}
	return status, nil
}

// withoutID is a path without its id, so that failures of one kind have the same message.
func withoutID(path string) string {
	parts := strings.SplitN(path, "/", 4)
	return strings.Join(parts[:min(3, len(parts))], "/")
}

// createdID reads the id of the created resource from the Location header.
func createdID(id *string) func(*fasthttp.Response) error {
	return func(res *fasthttp.Response) error {
		location := string(res.Header.Peek("Location"))
		*id = location[strings.LastIndexByte(location, '/')+1:]
		return nil
	}
}

// body decodes the response's body.
func body(into any) func(*fasthttp.Response) error {
	return func(res *fasthttp.Response) error { return json.Unmarshal(res.Body(), into) }
}

// nextPage reads the path of a list's next page from the Link header; "" at the end of the list.
func nextPage(path *string) func(*fasthttp.Response) error {
	return func(res *fasthttp.Response) error {
		// Link: </api/tickets?limit=200&cursor=…>; rel="next"
		link := string(res.Header.Peek("Link"))
		if from, to := strings.IndexByte(link, '<'), strings.IndexByte(link, '>'); from >= 0 && to > from {
			*path = link[from+1 : to]
		}
		return nil
	}
}

// route is how clients reach the services: all through the gateway, or each service at its own port.
type route struct {
	name                                       string
	auth, tickets, orders, payments, catalogue *endpoint
}

func newRoutes(s *stack.Stack) (gateway, direct *route, err error) {
	made := map[string]*endpoint{}
	for _, app := range []string{"gateway", "auth", "tickets", "orders", "payments", catalogueApp} {
		var addresses []string
		for _, replica := range s.Replicas(app) {
			addresses = append(addresses, s.URL(replica))
		}
		if made[app], err = newEndpoint(addresses); err != nil {
			return nil, nil, fmt.Errorf("address of %s: %w", app, err)
		}
	}
	front := made["gateway"]
	return &route{"gateway", front, front, front, front, front},
		&route{"service", made["auth"], made["tickets"], made["orders"], made["payments"], made[catalogueApp]}, nil
}
