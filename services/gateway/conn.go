package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
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
	raw net.Conn // what lies under TLS, or the same
	// answered says that the last thing seen was an answer: what is written next begins a request.
	answered bool
}

// dial connects to a service, by TLS unless secure is nil. The handshake is made here and not left to fasthttp, so that what
// a conn reads and writes are responses and requests.
func dial(address string, secure *tls.Config) (net.Conn, error) {
	raw, err := net.DialTimeout("tcp", address, dialTime)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnconnected, err)
	}
	if secure == nil {
		return &conn{Conn: raw, raw: raw}, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), dialTime)
	defer cancel()
	// There is no session cache, so the service sends no tickets: on an idle connection only its end can come, as alive
	// takes for granted.
	c := tls.Client(raw, secure)
	if err := c.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("%w: %w", errUnconnected, err)
	}
	return &conn{Conn: c, raw: raw}, nil
}

// authorities reads UPSTREAM_CA_FILE; without one, they are the system's.
func authorities(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read UPSTREAM_CA_FILE: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("UPSTREAM_CA_FILE: %s holds no certificate in PEM", file)
	}
	return pool, nil
}

func (c *conn) Read(b []byte) (int, error) {
	c.answered = true
	return c.Conn.Read(b)
}

func (c *conn) Write(b []byte) (int, error) {
	if c.answered {
		c.answered = false
		if !alive(c.raw) {
			return 0, errStale
		}
	}
	return c.Conn.Write(b)
}
