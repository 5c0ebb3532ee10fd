// Package live sends the updates of shows to clients, as server-sent events.
//
// A process has one Hub. It keeps the recent updates once, in a ring, however many streams there are. Each stream reads the ring at its
// own position, so a slow client costs no memory and delays nobody: if its position is no longer in the ring, its stream is closed.
//
// hub.go has the ring, stream.go one client's stream, frame.go the form of the events, api.go the request.
package live

import (
	"context"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"boxoffice/services/catalogue/index"
	"boxoffice/services/internal/id"
)

const (
	// defaultHistory is how many updates a ring has: half a minute at 500 a second.
	defaultHistory = 16 << 10

	// While a show has many updates, its streams are written every shortestPause, and later the more there are: a process writes to
	// 1/pausePerStream streams a second at most. After a pause an update is sent at once.
	shortestPause  = 10 * time.Millisecond
	pausePerStream = 20 * time.Microsecond
	longestPause   = 250 * time.Millisecond

	// maxAhead is how many batches another replica may be ahead of this one. A position further ahead is not of this feed.
	maxAhead = 10_000
)

// after returns the position after all changes of a batch: no batch has so many. A client that has got all updates of the batch continues from
// there, also at a replica that has begun after this batch and does not know its changes.
func after(batch uint64) index.Position {
	return index.Position{Batch: batch, Number: math.MaxInt32}
}

// Options are the settings of a hub.
type Options struct {
	// MaxStreams bounds the open streams; 0 is no limit.
	MaxStreams int
	// History is the number of updates that are kept for streams that continue. Default 16,384.
	History int
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// Hub has the recent updates and the streams of this process.
type Hub struct {
	maxStreams int
	log        *slog.Logger
	metrics    metrics
	changed    chan struct{} // capacity 1: shows have updates that their streams are not notified of
	stopped    chan struct{} // closed when Run ends

	mu        sync.RWMutex
	loaded    bool
	epoch     string
	current   index.Position // of the last batch
	resets    int            // how often the ring was emptied
	timelines map[id.Show]*timeline
	pending   []*timeline // with updates that their streams are not notified of
	streams   int
	// The ring. Entry n is at n modulo the length; the entries first to last are valid. All updates after begin are there.
	ring        []entry
	first, last uint64
	begin       index.Position
}

// timeline is a show that has streams, or updates in the ring.
type timeline struct {
	show     id.Show
	newest   uint64 // the number of its newest entry; below Hub.first: none in the ring
	streams  map[*stream]struct{}
	pending  bool
	notified time.Time // when its streams were notified last
}

// entry is an update in the ring. The entries of a show are linked, newest first, so that a stream reads no others.
type entry struct {
	timeline *timeline
	earlier  uint64 // the number of the show's entry before this one; below Hub.first: none
	at       time.Time
	update   index.Update
	frame    *frame
}

// New makes a hub. Until the first Reset it accepts no stream.
func New(o Options) *Hub {
	if o.History == 0 {
		o.History = defaultHistory
	}
	return &Hub{
		maxStreams: o.MaxStreams, log: o.Log, metrics: newMetrics(o.Metrics),
		changed: make(chan struct{}, 1), stopped: make(chan struct{}),
		timelines: map[id.Show]*timeline{}, ring: make([]entry, o.History), first: 1,
	}
}

// Reset begins with the read model as it is after a batch of the feed with this epoch. The streams that are open get the event
// reset, because their clients may have missed updates.
func (h *Hub) Reset(epoch string, batch uint64) {
	at := after(batch)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.loaded {
		h.resets++
	}
	h.loaded, h.epoch, h.current, h.begin = true, epoch, at, at
	h.first = h.last + 1
	clear(h.ring)
	for show, t := range h.timelines {
		t.newest = 0
		if len(t.streams) == 0 {
			delete(h.timelines, show)
			continue
		}
		h.await(t)
	}
	h.notifyLater()
}

// Open is how many streams are open.
func (h *Hub) Open() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.streams
}

// Position is that after which a stream has what the index does not have: the index was as it is there, or is newer. It is "" until the
// feed is loaded.
func (h *Hub) Position() string {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if !h.loaded {
		return ""
	}
	return h.current.Format(h.epoch)
}

// Add adds the updates of the feed's next batch, in their order. It does not wait for any stream. A batch without updates moves the
// position from which clients continue.
func (h *Hub) Add(batch uint64, updates []index.Update) {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range updates {
		h.add(&updates[i], now)
	}
	h.current = after(batch)
	if len(h.pending) > 0 {
		h.notifyLater()
	}
}

// add writes an update into the ring, over the oldest one if it is full. h.mu is held.
func (h *Hub) add(u *index.Update, now time.Time) {
	if h.last-h.first+1 == uint64(len(h.ring)) {
		h.dropFirst()
	}
	t := h.timeline(u.Show)
	h.last++
	*h.at(h.last) = entry{timeline: t, earlier: t.newest, at: now, update: *u, frame: &frame{}}
	t.newest = h.last
	if len(t.streams) > 0 {
		h.await(t)
	}
}

func (h *Hub) dropFirst() {
	oldest := h.at(h.first)
	h.begin = oldest.update.Position
	h.first++
	h.forget(oldest.timeline)
	*oldest = entry{}
}

func (h *Hub) at(n uint64) *entry { return &h.ring[n%uint64(len(h.ring))] }

func (h *Hub) timeline(show id.Show) *timeline {
	t := h.timelines[show]
	if t == nil {
		t = &timeline{show: show}
		h.timelines[show] = t
	}
	return t
}

// forget deletes a timeline without streams and without entries in the ring.
func (h *Hub) forget(t *timeline) {
	if len(t.streams) == 0 && t.newest < h.first {
		delete(h.timelines, t.show)
	}
}

func (h *Hub) await(t *timeline) {
	if !t.pending {
		t.pending = true
		h.pending = append(h.pending, t)
	}
}

func (h *Hub) notifyLater() {
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

// Run notifies streams of updates until ctx ends. Then all streams are closed.
func (h *Hub) Run(ctx context.Context) error {
	defer close(h.stopped)
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-h.changed:
		case <-again.C:
		}
		if wait := h.notify(time.Now()); wait > 0 {
			again.Reset(wait)
		}
	}
}

// notify wakes the streams of the shows that have updates, except shows whose streams were woken a moment ago. It returns the time until
// the first of those is due; 0 if there is none.
func (h *Hub) notify(now time.Time) (wait time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pending = slices.DeleteFunc(h.pending, func(t *timeline) bool {
		pause := min(longestPause, max(shortestPause, time.Duration(len(t.streams))*pausePerStream))
		if left := t.notified.Add(pause).Sub(now); left > 0 {
			if wait == 0 || left < wait {
				wait = left
			}
			return false
		}
		t.pending, t.notified = false, now
		for s := range t.streams {
			s.wake()
		}
		return true
	})
	return wait
}
