package main

import (
	"errors"
	"fmt"
	"net"
)

// errStale says that a kept connection was found dead before anything was written to it, so that whatever was
// to be sent can be sent on another.
var errStale = errors.New("the service has closed this connection")

// errUnconnected says that there was no connection to send anything on.
var errUnconnected = errors.New("no connection to the service")

// conn is a connection to a service that is used for one request after the other. fasthttp learns of the end
// of a kept connection only by using it, when it can no more tell whether the service has read the request;
// so before each request we look.
type conn struct {
	net.Conn
	// answered says that the last thing seen was an answer: what is written next begins a request.
	answered bool
}

func dial(address string) (net.Conn, error) {
	c, err := net.DialTimeout("tcp", address, dialTime)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnconnected, err)
	}
	return &conn{Conn: c}, nil
}

func (c *conn) Read(b []byte) (int, error) {
	c.answered = true
	return c.Conn.Read(b)
}

func (c *conn) Write(b []byte) (int, error) {
	if c.answered {
		c.answered = false
		if !alive(c.Conn) {
			return 0, errStale
		}
	}
	return c.Conn.Write(b)
}
