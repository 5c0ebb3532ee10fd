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

// ConnectionLimits bound the connections to a port. 0 is no bound.
type ConnectionLimits struct {
	// Total bounds all connections, PerAddress those of one address (see NetworkOf) that is not a trusted proxy's.
	Total, PerAddress int
	Trusted           []netip.Prefix
}

// connections are those of a port. A connection waits while no request of it is being handled: before its first request is
// complete, between two requests, and while the client reads a response. When a bound is reached, a waiting connection is
// closed to make room for a new one: first those that have never sent a complete request, then the others, and of each the
// one that has waited longest. So a client that opens connections and sends nothing, or a byte now and then, loses them, and
// a client that reuses a connection for its next request keeps it. A new connection is refused only while requests of all
// others are being handled.
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

// waitingConnections are lists of *connection, the one that has waited longest first: those that have not sent a complete
// request yet, and those that wait for their next one.
type waitingConnections struct{ unused, idle list.List }

// first is the connection to close next, or nil.
func (w *waitingConnections) first() *connection {
	for _, l := range []*list.List{&w.unused, &w.idle} {
		if e := l.Front(); e != nil {
			return e.Value.(*connection)
		}
	}
	return nil
}

func (w *waitingConnections) of(c *connection) *list.List {
	if c.used {
		return &w.idle
	}
	return &w.unused
}

// LimitConnections bounds the connections that a listener accepts. The app that serves them must be one of New.
func LimitConnections(l net.Listener, limits ConnectionLimits, metrics prometheus.Registerer) net.Listener {
	c := &connections{
		Listener: l, limits: limits, byAddress: map[netip.Addr]*addressConnections{},
		open: prometheus.NewGauge(prometheus.GaugeOpts{Name: "boxoffice_connections", Help: "Open connections to the public port."}),
		cut: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "boxoffice_connections_cut_total",
			Help: "Connections closed because there were too many, by bound (total, address): one that waited, or a new one.",
		}, []string{"bound"}),
	}
	metrics.MustRegister(c.open, c.cut)
	return c
}

// connection is one of them.
type connection struct {
	net.Conn
	all     *connections
	address netip.Addr          // not valid if it does not count
	same    *addressConnections // of that address; nil if it does not count
	// Places in the two lists of waiting connections; nil while it does not wait. Guarded by all.mu, as closed is.
	place, placeOfSame *list.Element
	used               bool // it has sent a complete request; it changes only while the connection does not wait
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

// admit makes room for a connection: by one that waits, which the caller closes, or not at all.
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
		c.byAddress[conn.address] = conn.same // it may have been the last of its address that was cut
	}
	c.total++
	c.open.Set(float64(c.total))
	conn.wait()
	return cut, true
}

// forget drops the count of an address that has no connection. c.mu is held.
func (c *connections) forget(conn *connection) {
	if conn.same != nil && conn.same.total == 0 {
		delete(c.byAddress, conn.address)
	}
}

// wait puts the connection at the end of those that wait. all.mu is held.
func (c *connection) wait() {
	c.place = c.all.waiting.of(c).PushBack(c)
	if c.same != nil {
		c.placeOfSame = c.same.waiting.of(c).PushBack(c)
	}
}

// work takes it from those that wait. all.mu is held.
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

// remove takes it from all that is counted, once. all.mu is held.
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

// begin and end stand around the handling of a request.
func (c *connection) begin() {
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	c.work()
	c.used = true
}

func (c *connection) end() {
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	if !c.closed {
		c.wait()
	}
}

// connectionOf is the connection of a request, if its listener bounds connections.
func connectionOf(ctx *fasthttp.RequestCtx) *connection {
	raw := ctx.Conn()
	if secure, ok := raw.(*tls.Conn); ok {
		raw = secure.NetConn()
	}
	conn, _ := raw.(*connection)
	return conn
}

// served marks the connections whose requests are being handled.
func served(handle fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		if conn := connectionOf(ctx); conn != nil {
			conn.begin()
			defer conn.end()
		}
		handle(ctx)
	}
}
