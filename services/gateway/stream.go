package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http/httputil"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/rest"
)

const (
	// streamSilence is how long a service may send nothing on a stream. It sends a heartbeat every 15 s.
	streamSilence = 40 * time.Second
	// streamWriteTimeout is how long a client may not read before its stream is closed.
	streamWriteTimeout = 10 * time.Second
	// streamRetryAfter is what clients are advised when there are too many streams.
	streamRetryAfter = 10 * time.Second
	// maxRefusal bounds the body of a response that is not a stream.
	maxRefusal = 1 << 20
)

// streams forward responses that do not end: server-sent events. A stream has a connection to the service of its own, because the client of
// other requests reads a response to its end before it returns it. Each part is written to the client when it arrives, and a client that does not read
// stops only its own stream.
type streams struct {
	perAddress, total int
	silence, write    time.Duration // bounds of a stream
	open              prometheus.Gauge
	refused           *prometheus.CounterVec

	mu        sync.Mutex
	stopped   bool
	upstreams map[net.Conn]struct{} // the connections to services
	count     int
	byAddress map[netip.Addr]int
}

func newStreams(cfg config, metrics prometheus.Registerer) *streams {
	s := &streams{
		perAddress: cfg.StreamsPerAddress, total: cfg.MaxStreams, silence: cmp.Or(cfg.streamSilence, streamSilence), write: cmp.Or(cfg.streamWriteTimeout, streamWriteTimeout),
		open: prometheus.NewGauge(prometheus.GaugeOpts{Name: "boxoffice_streams", Help: "Streams that the gateway forwards."}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "boxoffice_streams_refused_total", Help: "Streams refused because there were too many, by limit (total, address).",
		}, []string{"bound"}),
		upstreams: map[net.Conn]struct{}{}, byAddress: map[netip.Addr]int{},
	}
	for _, bound := range []string{"address", "total"} {
		s.refused.WithLabelValues(bound) // or a rate would miss the first one
	}
	metrics.MustRegister(s.open, s.refused)
	return s
}

// run waits until ctx ends, and then ends all streams.
func (s *streams) run(ctx context.Context) error {
	<-ctx.Done()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	for conn := range s.upstreams {
		_ = conn.Close() // ends its stream
	}
	return nil
}

// take counts a stream of a client's address, or refuses it. The caller must call release when the stream has ended.
func (s *streams) take(address netip.Addr) (release func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	bound, message := "", ""
	switch {
	case s.perAddress > 0 && s.byAddress[address] >= s.perAddress:
		bound, message = "address", "There are too many live streams from your address. Close one of them."
	case s.total > 0 && s.count >= s.total:
		bound, message = "total", "There are too many live streams at the moment. Try again later."
	}
	if bound != "" {
		s.refused.WithLabelValues(bound).Inc()
		return nil, problem.New(problem.Unavailable, "too_many_streams", "%s", message).WithRetryAfter(streamRetryAfter)
	}
	s.count++
	s.byAddress[address]++
	s.open.Set(float64(s.count))
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.count--
		if s.byAddress[address]--; s.byAddress[address] == 0 {
			delete(s.byAddress, address)
		}
		s.open.Set(float64(s.count))
	}, nil
}

// add registers the connection to a service, so that run closes it. It reports whether the gateway still runs.
func (s *streams) add(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.upstreams[conn] = struct{}{}
	}
	return !s.stopped
}

func (s *streams) remove(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.upstreams, conn)
}

// proxy returns a handler that forwards GET requests to a service and its responses as streams. A response that is not a stream, such as
// a problem, is forwarded as by upstream.proxy.
func (s *streams) proxy(u *upstream) fiber.Handler {
	return func(c *fiber.Ctx) error {
		release, err := s.take(rest.NetworkOf(rest.Client(c)))
		if err != nil {
			return err
		}
		req, res := c.Request(), c.Response()
		u.prepare(c, req)
		opened, err := u.open(req, res)
		if err != nil {
			release()
			return u.fail(c, err)
		}
		finish(c)
		if opened == nil {
			release()
			return nil
		}
		rest.Stream(c, func(client net.Conn) {
			defer release()
			defer opened.close()
			if s.add(opened.conn) {
				defer s.remove(opened.conn)
				s.forward(client, opened)
			}
		})
		return nil
	}
}

// forward copies what the service sends to the client until one of them ends.
func (s *streams) forward(client net.Conn, from *upstreamStream) {
	go func() {
		var ignored [64]byte
		for {
			if _, err := client.Read(ignored[:]); err != nil {
				_ = from.conn.Close() // ends the loop below
				return
			}
		}
	}()
	part := make([]byte, 4<<10)
	for {
		_ = from.conn.SetReadDeadline(time.Now().Add(s.silence)) // if it fails, so does reading
		n, err := from.body.Read(part)
		if n > 0 {
			_ = client.SetWriteDeadline(time.Now().Add(s.write)) // if it fails, so does writing
			if _, err := client.Write(part[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// upstreamStream is a response that does not end.
type upstreamStream struct {
	replica *replica
	conn    net.Conn
	body    io.Reader
}

func (s *upstreamStream) close() {
	_ = s.conn.Close()
	s.replica.streams.Add(-1)
}

// open sends a request to a replica whose response may be a stream. It tries another replica if the first does not respond, or has
// too many streams. If the response is not a stream, it is complete in res, and the stream is nil.
func (u *upstream) open(req *fasthttp.Request, res *fasthttp.Response) (*upstreamStream, error) {
	if !req.Header.IsHTTP11() {
		protocol := string(req.Header.Protocol())
		req.Header.SetProtocol("HTTP/1.1")
		defer req.Header.SetProtocol(protocol)
	}
	var tried []*replica
	for {
		r := u.pick(tried, (*replica).openStreams)
		tried = append(tried, r)
		last := len(tried) >= max(2, len(u.replicas))
		stream, err := r.open(req, res, u.timeout)
		switch {
		case errors.Is(err, errNotConnected):
			r.down.Store(true) // until its next health check passes
		case isTimeout(err):
			return nil, err
		case err == nil && (stream != nil || res.StatusCode() != fasthttp.StatusServiceUnavailable):
			return stream, nil
		}
		if last {
			return nil, err
		}
		res.Reset()
	}
}

// open sends a request on a connection of its own. The stream is nil if the response is not one.
func (r *replica) open(req *fasthttp.Request, res *fasthttp.Response, timeout time.Duration) (*upstreamStream, error) {
	conn, err := r.client.Dial(r.client.Addr)
	if err != nil {
		return nil, err
	}
	rest.BoundStream(conn)
	stream, err := r.exchange(conn, req, res, timeout)
	if stream == nil {
		_ = conn.Close()
	}
	return stream, err
}

// exchange sends a request and reads the response: the head of a stream, or the whole of any other.
func (r *replica) exchange(conn net.Conn, req *fasthttp.Request, res *fasthttp.Response, timeout time.Duration) (*upstreamStream, error) {
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	req.URI().SetHost(r.host)
	out := bufio.NewWriter(conn)
	if err := req.Write(out); err != nil {
		return nil, err
	}
	if err := out.Flush(); err != nil {
		return nil, err
	}
	in := bufio.NewReader(conn)
	if err := res.Header.Read(in); err != nil {
		return nil, err
	}
	length := res.Header.ContentLength()
	if length >= 0 || !isEventStream(res) {
		return nil, res.ReadBody(in, maxRefusal)
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	r.streams.Add(1)
	stream := &upstreamStream{replica: r, conn: conn}
	if length == -1 {
		stream.body = httputil.NewChunkedReader(in)
		return stream, nil
	}
	// The reader may have read more than the head. After that its memory is not needed.
	begin, _ := in.Peek(in.Buffered())
	stream.body = io.MultiReader(strings.NewReader(string(begin)), conn)
	return stream, nil
}

func isEventStream(res *fasthttp.Response) bool {
	return res.StatusCode() == fasthttp.StatusOK && strings.HasPrefix(string(res.Header.ContentType()), "text/event-stream")
}
