package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/dapr/go-sdk/client"

	"boxoffice/services/internal/events"
)

const (
	// publishAtOnce bounds the events of one bulk publication, publishers how many of these are under way.
	publishAtOnce = 128
	publishers    = 4
	publishTime   = 15 * time.Second
)

// publisher publishes committed events in bulk, and retries until the broker has accepted them.
type publisher struct {
	sidecar         Sidecar
	metrics         *metrics
	limit           int // of events
	maxTransactions int // of journal entries
	outage          outage

	mu      sync.Mutex
	queue   []pending
	waiting int               // events in queue or under way
	entries int               // journal entries in queue or under way
	taken   map[int]time.Time // by the bulk that is under way: when its oldest entry was queued
	bulks   int               // begun so far
	wake    chan struct{}     // holds a token while the queue may have entries
	emptied chan struct{}     // closed and replaced when waiting falls to 0
}

// pending are the events of one journal entry.
type pending struct {
	events []record
	since  time.Time
	done   func()
}

func newPublisher(sidecar Sidecar, opts Options, m *metrics) *publisher {
	return &publisher{
		sidecar:         sidecar,
		metrics:         m,
		outage:          outage{log: opts.Log},
		limit:           opts.Backlog,
		maxTransactions: opts.MaxTransactions,
		wake:            make(chan struct{}, publishers),
		emptied:         make(chan struct{}),
		taken:           map[int]time.Time{},
	}
}

// oldest returns the age of the oldest entry that the broker has not accepted.
func (p *publisher) oldest(now time.Time) (age time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) > 0 {
		age = now.Sub(p.queue[0].since)
	}
	for _, since := range p.taken {
		age = max(age, now.Sub(since))
	}
	return age
}

// add queues events; done is called when the broker has accepted all of them.
func (p *publisher) add(events []record, done func()) {
	p.mu.Lock()
	p.queue = append(p.queue, pending{events, time.Now(), done})
	p.waiting += len(events)
	p.entries++
	p.measure()
	p.mu.Unlock()
	p.signal()
}

// measure sets the gauges. The caller holds the lock.
func (p *publisher) measure() {
	p.metrics.backlog.Set(float64(p.waiting))
	p.metrics.entries.Set(float64(p.entries))
}

func (p *publisher) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// full reports whether the backlog has reached its limit, in events or in journal entries.
func (p *publisher) full() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waiting >= p.limit || p.entries >= p.maxTransactions
}

func (p *publisher) backlog() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waiting
}

// drain returns when everything is published, or with ctx's error.
func (p *publisher) drain(ctx context.Context) error {
	for {
		p.mu.Lock()
		left, emptied := p.waiting, p.emptied
		p.mu.Unlock()
		if left == 0 {
			return nil
		}
		select {
		case <-emptied:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *publisher) run(ctx context.Context) {
	var workers sync.WaitGroup
	defer workers.Wait()
	for range publishers {
		workers.Go(func() {
			for {
				select {
				case <-p.wake:
				case <-ctx.Done():
					return
				}
				for p.publishNext(ctx) {
				}
			}
		})
	}
}

// publishNext takes entries from the queue and publishes them. It reports whether it did: the queue may be empty, or ctx has ended.
func (p *publisher) publishNext(ctx context.Context) bool {
	p.mu.Lock()
	var taken []pending
	var batch []record
	for len(p.queue) > 0 && (len(taken) == 0 || len(batch)+len(p.queue[0].events) <= publishAtOnce) {
		batch = append(batch, p.queue[0].events...)
		taken = append(taken, p.queue[0])
		p.queue = p.queue[1:]
	}
	more := len(p.queue) > 0
	p.bulks++
	bulk := p.bulks
	if len(taken) > 0 {
		p.taken[bulk] = taken[0].since
	}
	p.mu.Unlock()
	if len(taken) == 0 {
		return false
	}
	if more {
		p.signal()
	}
	if err := p.publishAll(ctx, batch); err != nil {
		return false // ctx has ended: the events stay in the journal
	}
	for _, entry := range taken {
		entry.done()
	}
	p.mu.Lock()
	delete(p.taken, bulk)
	p.waiting -= len(batch)
	p.entries -= len(taken)
	p.measure()
	if p.waiting == 0 {
		close(p.emptied)
		p.emptied = make(chan struct{})
	}
	p.mu.Unlock()
	return true
}

// publishAll publishes events until the broker has accepted each of them. It fails only when ctx ends.
func (p *publisher) publishAll(ctx context.Context, records []record) error {
	for left := range slices.Chunk(records, publishAtOnce) {
		refused := false
		_, err := backoff.Retry(ctx, func() (none struct{}, err error) {
			left, err = p.publish(ctx, left)
			if err != nil && ctx.Err() == nil { // what fails because the process ends is no outage
				p.metrics.publishFailures.Inc()
				if !refused {
					refused = true
					p.outage.begin(err, len(left))
				}
			}
			return none, err
		}, persistently(50*time.Millisecond, 2*time.Second)...)
		if refused {
			p.outage.end(err == nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// outage logs when the broker begins to refuse events and when it has accepted all that it refused, once each.
type outage struct {
	log *slog.Logger

	mu      sync.Mutex
	refused int       // bulks that are being retried
	since   time.Time // when the first of them was refused
}

// begin is called when a bulk is refused for the first time.
func (o *outage) begin(err error, events int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.refused++; o.refused == 1 {
		o.since = time.Now()
		o.log.Warn("the broker did not accept events; they stay in the journal and are tried again until it does", "events", events, "error", err)
	}
}

// end is called when the bulk was accepted, or is not tried again because the process ends.
func (o *outage) end(accepted bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.refused--; o.refused == 0 && accepted {
		o.log.Info("the broker accepts events again", "after", time.Since(o.since).Round(time.Millisecond).String())
	}
}

// PublishAgain publishes events without the journal, and returns when the broker has accepted all of them or ctx ends. It is
// for the events of a reconciliation: if this process dies, the next reconciliation publishes them.
func (s *Store) PublishAgain(ctx context.Context, again []events.Event) error {
	records, err := encodeEvents(s.opts.origin(), again)
	if err != nil {
		return err
	}
	return s.publisher.publishAll(ctx, records)
}

// record is an event as it is stored and published: a CloudEvent in JSON, with its id and its topic.
type record struct {
	id    string
	topic string
	body  []byte
}

// readRecord reads an event of a journal entry.
func readRecord(body []byte) (record, error) {
	var event struct {
		ID   string `json:"id"`
		Type string `json:"type"`
	}
	if err := json.Unmarshal(body, &event); err != nil {
		return record{}, fmt.Errorf("decode an event of the journal: %w", err)
	}
	return record{id: event.ID, topic: events.TopicOf(event.Type), body: body}, nil
}

// recordsOf reads the events of journal entries, in their order.
func recordsOf(entries []Doc[entryDocument]) (records []record, err error) {
	for _, entry := range entries {
		for _, event := range entry.Value.Events {
			r, err := readRecord(event)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", entry.Key, err)
			}
			records = append(records, r)
		}
	}
	return records, nil
}

// publish makes one bulk publication for each topic and returns the events that were not accepted.
func (p *publisher) publish(ctx context.Context, records []record) (refused []record, err error) {
	ctx, cancel := context.WithTimeout(ctx, publishTime)
	defer cancel()
	var topics []string
	byTopic := map[string][]any{}
	byID := make(map[string]record, len(records))
	for _, r := range records {
		if _, twice := byID[r.id]; twice {
			continue // the same event is in two entries
		}
		byID[r.id] = r
		if byTopic[r.topic] == nil {
			topics = append(topics, r.topic)
		}
		byTopic[r.topic] = append(byTopic[r.topic], client.PublishEventsEvent{EntryID: r.id, Data: r.body, ContentType: events.ContentType})
	}
	var problems []error
	for _, topic := range topics {
		entries := byTopic[topic]
		response := p.sidecar.PublishEvents(ctx, events.PubSub, topic, entries, client.PublishEventsWithRawPayload())
		if response.Error == nil {
			p.metrics.published.Add(float64(len(entries)))
			continue
		}
		problems = append(problems, fmt.Errorf("publish on %q: %w", topic, response.Error))
		failed := response.FailedEvents
		if len(failed) == 0 {
			failed = entries
		}
		for _, one := range failed {
			if entry, ok := one.(client.PublishEventsEvent); ok {
				refused = append(refused, byID[entry.EntryID])
			}
		}
	}
	if len(problems) == 0 {
		return nil, nil
	}
	if len(refused) == 0 { // the response does not name them
		refused = records
	}
	return refused, errors.Join(append(problems, ctx.Err())...)
}
