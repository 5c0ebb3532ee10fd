// Package reconcile is the daily comparison of what services know of each other. No service reads another's documents: the
// owner of an aggregate publishes its last event again, and who had missed it applies it and counts a repair
// (boxoffice_reconcile_repairs_total). A service may compare other things as well, such as its payments with those of Stripe.
//
// Dapr's scheduler fires a job in one of the service's processes, whichever that is. A document says when a reconciliation
// is due and which process makes it: who changes the document under its ETag does. The job fires more often than a
// reconciliation is due, so that one which was interrupted is made again soon, by anybody.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/service"
	"boxoffice/services/internal/state"
)

// Settings are part of the configuration of a service that reconciles.
type Settings struct {
	// ReconcileEvery is how often a service compares what changed lately with what others know. 0: never.
	ReconcileEvery time.Duration `env:"RECONCILE_EVERY" envDefault:"24h" validate:"omitempty,min=1s,max=72h"`
	// ReconcileRate bounds what is published again, in events a second. 0: no bound.
	ReconcileRate int `env:"RECONCILE_RATE" envDefault:"200" validate:"min=0"`
}

// Step is one comparison of a reconciliation. It may be interrupted anywhere, and made again by another process.
type Step struct {
	// Name says what is compared, in metrics and logs: one or two words in lower case.
	Name string
	Run  func(ctx context.Context, p *Pass) error
}

const (
	documentKey = "reconcile"
	// lease is how long the process that reconciles may be silent before another one begins anew, and renewal how often
	// it shows that it lives.
	lease   = 5 * time.Minute
	renewal = 30 * time.Second
	// tries is how often in a period the job fires.
	tries = 24
	// lookBack is from when on changes are compared, at least; twice the period, if that is more.
	lookBack = 48 * time.Hour
	// publishAtOnce bounds the events of one publication.
	publishAtOnce = 64
)

// document says which reconciliation is made, or was made last.
type document struct {
	Schema     int       `json:"schema"`
	Instance   string    `json:"instance"`
	StartedAt  time.Time `json:"startedAt"`
	RenewedAt  time.Time `json:"renewedAt"`
	FinishedAt time.Time `json:"finishedAt,omitzero"` // zero while it is under way
	Published  int       `json:"published"`
	Done       []string  `json:"done,omitempty"` // the steps that were made
}

// due says whether a reconciliation is to begin.
func (d *document) due(now time.Time, every time.Duration) bool {
	if d.FinishedAt.IsZero() && !d.StartedAt.IsZero() {
		return now.Sub(d.RenewedAt) > min(lease, every)
	}
	return now.Sub(d.StartedAt) >= every
}

// Reconciler makes reconciliations.
type Reconciler struct {
	store    *state.Store
	settings Settings
	log      *slog.Logger
	steps    []Step
	now      func() time.Time // time.Now, but for tests
	fired    chan struct{}    // holds a token when the job has fired

	published *prometheus.CounterVec
	found     *prometheus.CounterVec
	failures  *prometheus.CounterVec
	finished  prometheus.Gauge
}

// Start has a service reconcile by these steps, one after the other.
func Start(s *service.Service, store *state.Store, settings Settings, steps ...Step) {
	if settings.ReconcileEvery == 0 {
		return
	}
	r := New(store, settings, s.Log, s.Metrics, steps...)
	s.Go("reconcile", r.run)
	s.Job("reconcile", max(time.Second, settings.ReconcileEvery/tries).Truncate(time.Second), r.fire)
}

// New makes a Reconciler that waits to be fired. Start is what services use.
func New(store *state.Store, settings Settings, log *slog.Logger, metrics prometheus.Registerer, steps ...Step) *Reconciler {
	r := &Reconciler{
		store: store, settings: settings, log: log, steps: steps, now: time.Now, fired: make(chan struct{}, 1),
		published: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "boxoffice_reconcile_published_total", Help: "Events that a reconciliation published again, by step.",
		}, []string{"step"}),
		found: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "boxoffice_reconcile_differences_total", Help: "Differences that a reconciliation found in what its own service knows, by step and kind.",
		}, []string{"step", "kind"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "boxoffice_reconcile_failures_total", Help: "Steps of reconciliations that were not made to their end, by step.",
		}, []string{"step"}),
		finished: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "boxoffice_reconcile_finished_timestamp_seconds",
			Help: "When the service's last reconciliation ended well, as this process last saw it. 0: it has seen none.",
		}),
	}
	metrics.MustRegister(r.published, r.found, r.failures, r.finished)
	for _, step := range steps {
		r.published.WithLabelValues(step.Name)
		r.failures.WithLabelValues(step.Name)
	}
	return r
}

// fire asks for a reconciliation, if one is due. It never waits.
func (r *Reconciler) fire(context.Context) error {
	select {
	case r.fired <- struct{}{}:
	default:
	}
	return nil
}

func (r *Reconciler) run(ctx context.Context) error {
	for {
		select {
		case <-r.fired:
		case <-ctx.Done():
			return nil
		}
		if err := r.ReconcileIfDue(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("a reconciliation did not get through; it is made again", "error", err)
		}
	}
}

// ReconcileIfDue makes a reconciliation if one is due and no other process makes it. The error of a step does not keep the
// following ones from being made; then, or if this process dies, the steps that were not made are made a lease later.
func (r *Reconciler) ReconcileIfDue(ctx context.Context) error {
	p, err := r.begin(ctx)
	if err != nil || p == nil {
		return err
	}
	var failed []error
	for _, step := range r.steps {
		if slices.Contains(p.document.Done, step.Name) {
			continue
		}
		p.step = step.Name
		err := step.Run(ctx, p)
		if err == nil {
			p.document.Done = append(p.document.Done, step.Name)
			err = p.write(ctx)
		}
		if err != nil {
			r.failures.WithLabelValues(step.Name).Inc()
			failed = append(failed, fmt.Errorf("%s: %w", step.Name, err))
		}
		if ctx.Err() != nil || errors.Is(err, errOvertaken) {
			break
		}
	}
	if len(failed) > 0 {
		return errors.Join(failed...)
	}
	return p.finish(ctx)
}

// begin takes the document, if a reconciliation is due; nil says that none is, or that another process was first.
func (r *Reconciler) begin(ctx context.Context) (*Pass, error) {
	doc, err := state.Get[document](ctx, r.store, documentKey)
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return nil, err
	}
	if !doc.Value.FinishedAt.IsZero() {
		r.finished.Set(float64(doc.Value.FinishedAt.Unix()))
	}
	now := r.now().UTC()
	if !doc.Value.due(now, r.settings.ReconcileEvery) {
		return nil, nil
	}
	p := &Pass{r: r, document: document{Schema: 1, Instance: r.store.Instance(), StartedAt: now, RenewedAt: now}}
	if last := &doc.Value; last.FinishedAt.IsZero() && now.Sub(last.StartedAt) < r.settings.ReconcileEvery {
		p.document.Done = last.Done // that one was interrupted, and this one goes on with it
	}
	p.id = strconv.FormatInt(now.UnixMilli(), 36)
	var change state.Change
	change.Put(documentKey, doc.ETag, p.document)
	if err := r.store.Commit(ctx, &change); errors.Is(err, state.ErrConflict) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return p, nil
}

// errOvertaken says that another process has begun a reconciliation, for this one was silent for too long.
var errOvertaken = errors.New("another process reconciles now")

// Pass is one reconciliation, for its steps.
type Pass struct {
	r        *Reconciler
	id       string
	step     string
	document document
}

// Since is the time from which on changes are to be compared.
func (p *Pass) Since() time.Time {
	return p.document.StartedAt.Add(-min(max(lookBack, 2*p.r.settings.ReconcileEvery), state.MaxRecent))
}

// Publish publishes events of this service again, no faster than the settings say. They are the last ones of their aggregates.
func (p *Pass) Publish(ctx context.Context, payloads ...events.Payload) error {
	for len(payloads) > 0 {
		some := payloads[:min(len(payloads), publishAtOnce)]
		payloads = payloads[len(some):]
		if err := p.Alive(ctx); err != nil {
			return err
		}
		again := make([]events.Event, len(some))
		for i, payload := range some {
			event, err := events.New(ctx, payload)
			if err != nil {
				return err
			}
			again[i] = event.Again(p.id)
		}
		began := time.Now()
		if err := p.r.store.PublishAgain(ctx, again); err != nil {
			return err
		}
		p.document.Published += len(some)
		p.r.published.WithLabelValues(p.step).Add(float64(len(some)))
		if rate := p.r.settings.ReconcileRate; rate > 0 {
			pause := time.Duration(len(some))*time.Second/time.Duration(rate) - time.Since(began)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

// Found counts differences that a step found in what its own service knows.
func (p *Pass) Found(kind string, n int) {
	p.r.found.WithLabelValues(p.step, kind).Add(float64(n))
}

// Alive shows other processes, now and then, that this reconciliation goes on. Publish does so by itself; a step that publishes
// little and takes long calls it, too. An error says that the step must end.
func (p *Pass) Alive(ctx context.Context) error {
	now := p.r.now().UTC()
	if now.Sub(p.document.RenewedAt) < min(renewal, p.r.settings.ReconcileEvery/4) {
		return nil
	}
	p.document.RenewedAt = now
	return p.write(ctx)
}

func (p *Pass) finish(ctx context.Context) error {
	p.document.FinishedAt = p.r.now().UTC()
	if err := p.write(ctx); err != nil {
		return err
	}
	p.r.finished.Set(float64(p.document.FinishedAt.Unix()))
	p.r.log.Info("reconciled with what other services know", "published", p.document.Published,
		"took", p.document.FinishedAt.Sub(p.document.StartedAt).Round(time.Millisecond).String())
	return nil
}

// write writes the document, if this reconciliation is still the one that it tells of.
func (p *Pass) write(ctx context.Context) error {
	return state.Retry(ctx, func(ctx context.Context) error {
		doc, err := state.Get[document](ctx, p.r.store, documentKey)
		if err != nil {
			return err
		}
		if doc.Value.Instance != p.document.Instance || !doc.Value.StartedAt.Equal(p.document.StartedAt) {
			return errOvertaken
		}
		var change state.Change
		change.Update(doc.Key, doc.ETag, p.document)
		return p.r.store.Commit(ctx, &change)
	})
}

// rememberedIDs bounds the ids that RepublishRecent remembers; past that, an aggregate may be published twice.
const rememberedIDs = 500_000

// RepublishRecent is a step that publishes the last event of every aggregate of a kind that has changed lately (noted by
// state.Change.Note). key is the key of an aggregate's document, and event the aggregate's last event. One that does not exist any
// more is left out.
func RepublishRecent[T any](store *state.Store, kind string, key func(id string) string, event func(*T) events.Payload) Step {
	return Step{Name: kind, Run: func(ctx context.Context, p *Pass) error {
		seen := map[string]struct{}{}
		return store.Recent(ctx, kind, p.Since(), p.document.StartedAt, func(ids []string) error {
			var fresh []string
			for _, id := range ids {
				if _, again := seen[id]; !again {
					fresh = append(fresh, key(id))
					seen[id] = struct{}{}
				}
			}
			if len(seen) > rememberedIDs {
				clear(seen)
			}
			docs, err := state.GetMany[T](ctx, store, fresh)
			if err != nil {
				return err
			}
			last := make([]events.Payload, len(docs))
			for i := range docs {
				last[i] = event(&docs[i].Value)
			}
			return p.Publish(ctx, last...)
		})
	}}
}
