package stack

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// proxy forwards the connections of sidecars to one server. It can delay each round trip, as if the server were farther away: it holds
// the bytes of clients for that time and forwards the server's at once. And it can hold all bytes of certain processes in both
// directions, as if the network were interrupted.
type proxy struct {
	listener net.Listener
	target   string
	delay    time.Duration

	mu     sync.Mutex
	links  map[*link]bool
	cuts   map[*cut]bool
	closed bool
	work   sync.WaitGroup
}

// link is a client's connection and its connection to the server.
type link struct {
	client, server net.Conn
	held           chan struct{} // closed while the link is not cut; guarded by the proxy's mu
	cut            *cut          // nil: none
}

// cut holds the connections of one process.
type cut struct{ process *Process }

func startProxy(address, target string, delay time.Duration) (*proxy, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: listener, target: target, delay: delay, links: map[*link]bool{}, cuts: map[*cut]bool{}}
	p.work.Go(p.accept)
	return p, nil
}

// close ends all connections.
func (p *proxy) close() error {
	p.mu.Lock()
	p.closed = true
	err := p.listener.Close()
	for l := range p.links {
		p.release(l)
		err = errors.Join(err, l.client.Close(), l.server.Close())
	}
	clear(p.links)
	p.mu.Unlock()
	p.work.Wait()
	return err
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		l := &link{client: client, server: server, held: make(chan struct{})}
		close(l.held)
		if !p.keep(l) {
			return
		}
		p.work.Go(func() { p.forward(l, server, client, p.delay); p.drop(l) })
		p.work.Go(func() { p.forward(l, client, server, 0); p.drop(l) })
	}
}

// keep adds a link to those that close and cuts apply to. It reports whether it did: after close it closes the link.
func (p *proxy) keep(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = l.client.Close()
		_ = l.server.Close()
		return false
	}
	p.links[l] = true
	for c := range p.cuts {
		p.holdIf(l, c)
	}
	return true
}

func (p *proxy) drop(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.links[l] {
		p.release(l)
		_ = l.client.Close()
		_ = l.server.Close()
		delete(p.links, l)
	}
}

// begin cuts a process off. Its connections, also those that it opens later, carry nothing until end.
func (p *proxy) begin(process *Process) *cut {
	c := &cut{process: process}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cuts[c] = true
	for l := range p.links {
		p.holdIf(l, c)
	}
	return c
}

// end ends a cut. What was sent meanwhile arrives now. If broken is true, it is lost, and both ends see that the connections are
// closed.
func (p *proxy) end(c *cut, broken bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.cuts, c)
	for l := range p.links {
		if l.cut != c {
			continue
		}
		if broken {
			_ = l.client.Close()
			_ = l.server.Close()
			delete(p.links, l)
		}
		p.release(l)
	}
}

// holdIf stops a link if its client is the process of a cut.
func (p *proxy) holdIf(l *link, c *cut) {
	if l.cut == nil && ownsConnection(c.process.PID(), l.client.RemoteAddr(), l.client.LocalAddr()) {
		l.cut, l.held = c, make(chan struct{})
	}
}

func (p *proxy) release(l *link) {
	if l.cut != nil {
		l.cut = nil
		close(l.held)
	}
}

// wait returns as soon as the link is not cut.
func (p *proxy) wait(l *link) {
	p.mu.Lock()
	held := l.held
	p.mu.Unlock()
	<-held
}

// forward copies until either end closes. It sends each part delay after its arrival. Many parts may wait at the same time.
func (p *proxy) forward(l *link, to, from net.Conn, delay time.Duration) {
	type part struct {
		bytes []byte
		due   time.Time
	}
	parts := make(chan part, 1024)
	p.work.Go(func() {
		defer close(parts)
		for {
			bytes := make([]byte, 16<<10)
			n, err := from.Read(bytes)
			if n > 0 {
				parts <- part{bytes[:n], time.Now().Add(delay)}
			}
			if err != nil {
				return
			}
		}
	})
	for one := range parts {
		if delay > 0 {
			time.Sleep(time.Until(one.due))
		}
		p.wait(l)
		if _, err := to.Write(one.bytes); err != nil {
			_ = from.Close() // ends the reader
			for range parts {
			}
			return
		}
	}
	p.wait(l) // a cut hides also the end of a connection
}

// startProxies starts a proxy for each server that sidecars reach through one.
func (s *Stack) startProxies() error {
	for server, port := range s.plan.proxies {
		if !s.plan.has(server) {
			continue
		}
		delay := time.Duration(0)
		if server == Postgres {
			delay = s.plan.opts.StoreDelay
		}
		p, err := startProxy(local(port), local(s.plan.ports.of(server)), delay)
		if err != nil {
			return fmt.Errorf("a proxy before %s: %w", server, err)
		}
		s.proxies[server] = p
	}
	return nil
}

// Cut interrupts the network between a process, usually a sidecar, and a server of the set: no bytes pass, and no connection ends.
// Restore ends the cut. What was sent meanwhile arrives then, or, if broken is true, never. It needs Options.Cuttable, and Linux, where
// the stack can find the process of a connection.
func (s *Stack) Cut(process, server string) (restore func(broken bool), err error) {
	p := s.proxies[server]
	if p == nil || s.processes[process] == nil {
		return nil, fmt.Errorf("there is no link between %s and %s to cut", process, server)
	}
	c := p.begin(s.processes[process])
	return func(broken bool) { p.end(c, broken) }, nil
}
