package chaos

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"boxoffice/deploy/proof/check"
	"boxoffice/deploy/proof/client"
)

// eventTypes are all that an endpoint may ask for.
var eventTypes = []string{"ticket.created", "ticket.updated", "ticket.deleted", "order.created", "order.completed", "order.cancelled"}

// endpointTries is how often a client tries to make an endpoint for a new user.
const endpointTries = 3

// receiver is the server of all users who have an endpoint. The path is the user.
type receiver struct {
	url       string
	server    *http.Server
	endpoints *check.Endpoints
}

// startReceiver listens on a free port of this machine.
func startReceiver() (*receiver, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &receiver{url: "http://" + listener.Addr().String(), endpoints: check.NewEndpoints()}
	r.server = &http.Server{Handler: r, ReadTimeout: 10 * time.Second}
	go func() { _ = r.server.Serve(listener) }()
	return r, nil
}

func (r *receiver) close() { _ = r.server.Close() }

func (r *receiver) ServeHTTP(_ http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(io.LimitReader(request.Body, 1<<20))
	if err == nil { // otherwise the sender has ended, and sends it again
		r.endpoints.Arrived(strings.TrimPrefix(request.URL.Path, "/"), body)
	}
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
