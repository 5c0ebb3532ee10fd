package stack

import (
	"errors"
	"net"
	"sync"
	"time"
)

// delayed stands between sidecars and the database and adds a time to each round trip, as a database does that is farther
// away: it holds what clients send for that long, and forwards answers at once. Many round trips wait at the same time.
type delayed struct {
	listener net.Listener
	target   string
	delay    time.Duration

	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool
	work   sync.WaitGroup
}

func startDelayed(address, target string, delay time.Duration) (*delayed, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	d := &delayed{listener: listener, target: target, delay: delay, conns: map[net.Conn]bool{}}
	d.work.Go(d.accept)
	return d, nil
}

// close ends all connections.
func (d *delayed) close() error {
	d.mu.Lock()
	d.closed = true
	err := d.listener.Close()
	for conn := range d.conns {
		err = errors.Join(err, conn.Close())
	}
	clear(d.conns)
	d.mu.Unlock()
	d.work.Wait()
	return err
}

func (d *delayed) accept() {
	for {
		client, err := d.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", d.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		if !d.keep(client, server) {
			return
		}
		d.work.Go(func() { d.forward(server, client, d.delay); d.drop(client, server) })
		d.work.Go(func() { d.forward(client, server, 0); d.drop(client, server) })
	}
}

// keep notes connections for close. It reports false, and closes them, if that has been called.
func (d *delayed) keep(conns ...net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, conn := range conns {
		if d.closed {
			_ = conn.Close()
			continue
		}
		d.conns[conn] = true
	}
	return !d.closed
}

func (d *delayed) drop(conns ...net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, conn := range conns {
		if d.conns[conn] {
			_ = conn.Close()
			delete(d.conns, conn)
		}
	}
}

// forward copies until either end closes. Each part is sent delay after it came, however many are under way.
func (d *delayed) forward(to, from net.Conn, delay time.Duration) {
	type part struct {
		bytes []byte
		due   time.Time
	}
	parts := make(chan part, 1024)
	d.work.Go(func() {
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
	for p := range parts {
		time.Sleep(time.Until(p.due))
		if _, err := to.Write(p.bytes); err != nil {
			_ = from.Close() // ends the reader
			for range parts {
			}
			return
		}
	}
}
