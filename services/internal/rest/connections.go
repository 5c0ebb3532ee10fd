package rest

import (
	"container/list"
	"crypto/tls"
	"net"
	"net/netip"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
)

// ConnectionLimits bound the connections to a port. 0 is no limit.
type ConnectionLimits struct {
	// Total bounds all connections, PerAddress those of one address (see NetworkOf) that is not a trusted proxy's.
	Total, PerAddress int
	Trusted           []netip.Prefix
}

// connections are the open connections to a port. A connection waits while none of its requests is being handled: before its
// first request is complete, between two requests, and while the client reads a response. When a limit is reached, a waiting
// connection is closed for a new one (waitingConnections.first). A new connection is refused only while requests of all others are
// being handled. A connection with a stream (Stream) does not wait.
type connections struct {
	net.Listener
	limits ConnectionLimits
	open   prometheus.Gauge
	cut    *prometheus.CounterVec

	mu        sync.Mutex
	total     int
	waiting   waitingConnections
	byAddress map[netip.Addr]*addressConnections
}

type addressConnections struct {
	total   int
	waiting waitingConnections
}

// waitingConnections are two lists of *connection, each with the longest wait first: connections that have not sent a complete
// request yet, and those that wait for their next one.
type waitingConnections struct{ unused, idle list.List }

// first returns the connection to close next, or nil: the longest wait of the longer list. So neither clients that open connections
// and send nothing, nor those that keep connections idle after a request, take the places of the other kind.
func (w *waitingConnections) first() *connection {
	longer := &w.unused
	if w.idle.Len() > w.unused.Len() {
		longer = &w.idle
	}
	if e := longer.Front(); e != nil {
		return e.Value.(*connection)
	}
	return nil
}

func (w *waitingConnections) of(c *connection) *list.List {
	if c.used {
		return &w.idle
	}
	return &w.unused
}

// LimitConnections bounds the connections that a listener accepts. The app that serves them must be made by New.
func LimitConnections(l net.Listener, limits ConnectionLimits, metrics prometheus.Registerer) net.Listener {
	c := &connections{
		Listener: l, limits: limits, byAddress: map[netip.Addr]*addressConnections{},
		open: prometheus.NewGauge(prometheus.GaugeOpts{Name: "boxoffice_connections", Help: "Open connections to the public port."}),
		cut: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "boxoffice_connections_cut_total",
			Help: "Connections closed because there were too many, by limit (total, address): one that waited, or a new one.",
		}, []string{"bound"}),
	}
	metrics.MustRegister(c.open, c.cut)
	return c
}

// connection is an open connection.
type connection struct {
	net.Conn
	all     *connections
	address netip.Addr          // not valid if PerAddress does not apply
	same    *addressConnections // the connections of the address; nil if PerAddress does not apply
	// Places in the lists of waiting connections; nil while it does not wait. Guarded by all.mu, like closed.
	place, placeOfSame *list.Element
	used               bool // it has sent a complete request; it changes only while the connection does not wait
	streams            bool // its request has a stream as the response (Stream): it does not wait again; as used
	closed             bool
}

func (c *connections) Accept() (net.Conn, error) {
	for {
		raw, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		conn := &connection{Conn: raw, all: c}
		if tcp, ok := raw.RemoteAddr().(*net.TCPAddr); ok && c.limits.PerAddress > 0 {
			if address := tcp.AddrPort().Addr().Unmap().WithZone(""); !IsTrusted(address, c.limits.Trusted) {
				conn.address = NetworkOf(address)
			}
		}
		cut, admitted := c.admit(conn)
		if cut != nil {
			_ = cut.Close()
		}
		if admitted {
			return conn, nil
		}
		_ = raw.Close()
	}
}

// admit counts a new connection. At a limit it returns a waiting connection that the caller must close, or refuses the new one.
func (c *connections) admit(conn *connection) (cut *connection, admitted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn.address.IsValid() {
		conn.same = c.byAddress[conn.address]
		if conn.same == nil {
			conn.same = &addressConnections{}
			c.byAddress[conn.address] = conn.same
		}
	}
	switch {
	case conn.same != nil && conn.same.total >= c.limits.PerAddress:
		c.cut.WithLabelValues("address").Inc()
		if cut = conn.same.waiting.first(); cut == nil {
			return nil, false
		}
	case c.limits.Total > 0 && c.total >= c.limits.Total:
		c.cut.WithLabelValues("total").Inc()
		if cut = c.waiting.first(); cut == nil {
			c.forget(conn)
			return nil, false
		}
	}
	if cut != nil {
		cut.remove()
	}
	if conn.same != nil {
		conn.same.total++
		c.byAddress[conn.address] = conn.same // the connection that was cut may have been the last one of the address
	}
	c.total++
	c.open.Set(float64(c.total))
	conn.wait()
	return cut, true
}

// forget deletes the entry of an address without connections. c.mu is held.
func (c *connections) forget(conn *connection) {
	if conn.same != nil && conn.same.total == 0 {
		delete(c.byAddress, conn.address)
	}
}

// wait appends the connection to those that wait. all.mu is held.
func (c *connection) wait() {
	c.place = c.all.waiting.of(c).PushBack(c)
	if c.same != nil {
		c.placeOfSame = c.same.waiting.of(c).PushBack(c)
	}
}

// work removes the connection from those that wait. all.mu is held.
func (c *connection) work() {
	if c.place != nil {
		c.all.waiting.of(c).Remove(c.place)
		c.place = nil
	}
	if c.placeOfSame != nil {
		c.same.waiting.of(c).Remove(c.placeOfSame)
		c.placeOfSame = nil
	}
}

// remove ends the counting of the connection. A second call has no effect. all.mu is held.
func (c *connection) remove() {
	if c.closed {
		return
	}
	c.closed = true
	c.work()
	c.all.total--
	c.all.open.Set(float64(c.all.total))
	if c.same != nil {
		c.same.total--
		c.all.forget(c)
	}
}

func (c *connection) Close() error {
	c.all.mu.Lock()
	c.remove()
	c.all.mu.Unlock()
	return c.Conn.Close()
}

// begin is called before a request is handled, and end afterwards.
func (c *connection) begin() {
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	c.work()
	c.used = true
}

func (c *connection) end() {
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	if !c.closed && !c.streams {
		c.wait()
	}
}

// connectionOf returns the connection of a request, or nil if its listener has no limits.
func connectionOf(ctx *fasthttp.RequestCtx) *connection {
	raw := ctx.Conn()
	if secure, ok := raw.(*tls.Conn); ok {
		raw = secure.NetConn()
	}
	conn, _ := raw.(*connection)
	return conn
}

// markBusy marks connections while their requests are being handled.
func markBusy(handle fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		if conn := connectionOf(ctx); conn != nil {
			conn.begin()
			defer conn.end()
		}
		handle(ctx)
	}
}
