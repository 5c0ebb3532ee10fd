package live

import (
	"errors"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"boxoffice/services/catalogue/index"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
)

const (
	// heartbeatPeriod is the time between two heartbeats of a stream. A heartbeat has the current position, so that a client of a show
	// without updates continues from there.
	heartbeatPeriod = 15 * time.Second
	// writeTimeout is how long a client may not read before its stream is closed.
	writeTimeout = 10 * time.Second
	// writeBytes is how much is written at once.
	writeBytes = 32 << 10
	// retryAfterFull is what clients are advised when there are too many streams.
	retryAfterFull = 10 * time.Second
)

// The reasons for which a stream ends. They are values of a metric.
var (
	errClientClosed = errors.New("client")  // the client has closed the connection
	errSlow         = errors.New("slow")    // the client does not read
	errBehind       = errors.New("behind")  // its position is no longer in the ring
	errStopped      = errors.New("stopped") // this process stops
)

// stream is a client that follows shows. Only its own goroutine uses it, except for woken and what its hub guards.
type stream struct {
	hub       *Hub
	woken     chan struct{} // capacity 1
	timelines []*timeline
	first     []byte // what it sends first
	// read is the number of the last entry that it has read, and resets is Hub.resets at that time. It does not send updates up to after:
	// its client has them from a replica that is ahead of this one.
	read   uint64
	resets int
	after  index.Position
	// what next has found; used again by each call
	numbers []uint64
	frames  [][]byte
	oldest  time.Time
}

// open begins a stream of shows, with the updates after the smallest of the positions: the id of the last event that the client has got, or
// those of the pages that it has read. Without a position, the stream begins now.
func (h *Hub) open(shows []id.Show, after []string) (*stream, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.isStopped() || !h.loaded:
		return nil, problem.New(problem.Unavailable, "unavailable", "There are no live updates at the moment. Try again.")
	case h.maxStreams > 0 && h.streams >= h.maxStreams:
		h.metrics.refused.Inc()
		return nil, problem.New(problem.Unavailable, "too_many_streams", "There are too many live streams at the moment. Try again later.").
			WithRetryAfter(retryAfterFull)
	}
	s := &stream{hub: h, woken: make(chan struct{}, 1), read: h.last, resets: h.resets}
	from, continues := h.smallest(after)
	switch {
	case len(after) == 0:
		s.first = appendReady(nil, h.current.Format(h.epoch))
	case !continues:
		s.first = appendReset(appendReady(nil, h.current.Format(h.epoch)), h.current.Format(h.epoch))
	default:
		s.first = appendReady(nil, from.Format(h.epoch))
		s.after = from
		s.read = h.lastUpTo(from)
	}
	for _, show := range shows {
		t := h.timeline(show)
		if t.streams == nil {
			t.streams = map[*stream]struct{}{}
		}
		t.streams[s] = struct{}{}
		s.timelines = append(s.timelines, t)
	}
	h.streams++
	h.metrics.open.Set(float64(h.streams))
	return s, nil
}

// close ends a stream for a reason.
func (s *stream) close(reason error) {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range s.timelines {
		delete(t.streams, s)
		h.forget(t)
	}
	h.streams--
	h.metrics.open.Set(float64(h.streams))
	h.metrics.ended.WithLabelValues(reason.Error()).Inc()
}

func (h *Hub) isStopped() bool {
	select {
	case <-h.stopped:
		return true
	default:
		return false
	}
}

// smallest returns the smallest of the positions. continues is false if the updates after one of them are not known any more. h.mu is held.
func (h *Hub) smallest(positions []string) (smallest index.Position, continues bool) {
	for i, text := range positions {
		p, known := h.position(text)
		if !known {
			return p, false
		}
		if i == 0 || p.Compare(smallest) < 0 {
			smallest = p
		}
	}
	return smallest, len(positions) > 0
}

// position returns the position in an event id. continues is false if the updates after it are not known any more. h.mu is held.
func (h *Hub) position(eventID string) (p index.Position, continues bool) {
	epoch, p, err := index.ParsePosition(eventID)
	return p, err == nil && epoch == h.epoch && p.Compare(h.begin) >= 0 && (p.Batch <= h.current.Batch || p.Batch-h.current.Batch <= maxAhead)
}

// lastUpTo returns the number of the last entry with a position up to p. h.mu is held.
func (h *Hub) lastUpTo(p index.Position) uint64 {
	low, high := h.first, h.last+1 // the first entry after p is in low..high
	for low < high {
		middle := low + (high-low)/2
		if h.at(middle).update.Position.Compare(p) <= 0 {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low - 1
}

func (s *stream) wake() {
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

// next sets s.frames to what the stream has to send, and returns the position after it. The error is errBehind.
func (s *stream) next() (position string, err error) {
	h := s.hub
	s.frames, s.numbers = s.frames[:0], s.numbers[:0]
	h.mu.RLock()
	defer h.mu.RUnlock()
	if s.resets != h.resets {
		s.resets, s.read, s.after = h.resets, h.last, index.Position{}
		s.oldest = time.Time{}
		position = h.current.Format(h.epoch)
		s.frames = append(s.frames, appendReset(nil, position))
		return position, nil
	}
	for _, t := range s.timelines {
		n := t.newest
		for ; n > s.read && n >= h.first; n = h.at(n).earlier {
			s.numbers = append(s.numbers, n)
		}
		if n > s.read {
			return "", errBehind
		}
	}
	slices.Sort(s.numbers)
	for _, n := range s.numbers {
		e := h.at(n)
		if e.update.Position.Compare(s.after) <= 0 && s.after != (index.Position{}) {
			continue
		}
		if len(s.frames) == 0 {
			s.oldest = e.at
		}
		s.frames = append(s.frames, e.frame.bytes(h.epoch, &e.update))
	}
	s.read = h.last
	at := h.current
	if at.Compare(s.after) < 0 {
		at = s.after
	}
	return at.Format(h.epoch), nil
}

// serve writes the stream to its client until one of them ends it.
func (s *stream) serve(conn net.Conn) {
	left := make(chan struct{})
	go func() {
		defer close(left)
		var ignored [64]byte
		for {
			if _, err := conn.Read(ignored[:]); err != nil {
				return
			}
		}
	}()
	s.close(s.write(conn, left))
	// The connection is closed next, which ends the goroutine.
}

// write writes the stream. The error is the reason for its end.
func (s *stream) write(conn net.Conn, left <-chan struct{}) error {
	if err := send(conn, s.first); err != nil {
		return err
	}
	s.first = nil
	heartbeat := time.NewTicker(heartbeatPeriod)
	defer heartbeat.Stop()
	s.wake() // for the updates after the position of a stream that continues
	for {
		beats := false
		select {
		case <-s.woken:
		case <-heartbeat.C:
			beats = true
		case <-left:
			return errClientClosed
		case <-s.hub.stopped:
			return errStopped
		}
		position, err := s.next()
		if err != nil {
			return err
		}
		if beats {
			s.frames = append(s.frames, appendHeartbeat(nil, position))
		}
		if err := s.send(conn); err != nil {
			return err
		}
	}
}

var buffers = sync.Pool{New: func() any { return new([writeBytes]byte) }}

// send writes s.frames.
func (s *stream) send(conn net.Conn) error {
	if len(s.frames) == 0 {
		return nil
	}
	buffer := buffers.Get().(*[writeBytes]byte)
	defer buffers.Put(buffer)
	batch := buffer[:0]
	for _, f := range s.frames {
		if len(batch) > 0 && len(batch)+len(f) > writeBytes {
			if err := send(conn, batch); err != nil {
				return err
			}
			batch = buffer[:0]
		}
		batch = append(batch, f...)
	}
	if err := send(conn, batch); err != nil {
		return err
	}
	if !s.oldest.IsZero() {
		s.hub.metrics.delay.Observe(time.Since(s.oldest).Seconds())
	}
	s.hub.metrics.sent.Add(float64(len(s.frames)))
	s.oldest = time.Time{}
	clear(s.frames) // the ring alone keeps them
	if cap(s.frames) > maxKept {
		s.frames, s.numbers = nil, nil
	}
	return nil
}

// maxKept bounds the memory that a stream keeps for its next write.
const maxKept = 256

func send(conn net.Conn, b []byte) error {
	_ = conn.SetWriteDeadline(time.Now().Add(writeTimeout)) // if it fails, so does writing
	_, err := conn.Write(b)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errSlow
	case err != nil:
		return errClientClosed
	}
	return nil
}
