// Package reconcile compares the services' projections with their owners, once a day. No service reads another's documents: the
// owner of an aggregate publishes its last event again, and a service that had missed it applies it and counts a repair
// (boxoffice_reconcile_repairs_total). A service may compare other things too, such as its payments with those of Stripe.
//
// Dapr's scheduler calls a job in any one of the service's processes. A document has the time of the last reconciliation and the
// process that makes it: the process that changes the document under its ETag. The job is called more often than a
// reconciliation is due, so that another process soon continues one that was interrupted.
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

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/service"
	"boxoffice/services/internal/state"
)

// Settings are part of the configuration of a service that reconciles.
type Settings struct {
	// ReconcileEvery is how often a service publishes the last events of recent changes again. 0: never.
	ReconcileEvery time.Duration `env:"RECONCILE_EVERY" envDefault:"24h" validate:"omitempty,min=1s,max=72h"`
	// ReconcileRate bounds the events that are published again, in events a second. 0: no limit.
	ReconcileRate int `env:"RECONCILE_RATE" envDefault:"200" validate:"min=0"`
}

// Step is one comparison of a reconciliation. If it is interrupted, another process makes it again from its beginning.
type Step struct {
	// Name is the step's name in metrics and logs: one or two words in lower case.
	Name string
	Run  func(ctx context.Context, p *Pass) error
}

const (
	documentKey = "reconcile"
	// lease is the time without a renewal after which another process begins a reconciliation, and renewal the time between two
	// renewals.
	lease   = 5 * time.Minute
	renewal = 30 * time.Second
	// tries is how often the job is called in a period.
	tries = 24
	// minRecent is the shortest time whose changes are compared. It is twice the period if that is longer.
	minRecent = 48 * time.Hour
	// publishAtOnce bounds the events of one publication.
	publishAtOnce = 64
)

// document has the current or last reconciliation.
type document struct {
	Schema     int       `json:"schema"`
	Instance   string    `json:"instance"`
	StartedAt  time.Time `json:"startedAt"`
	RenewedAt  time.Time `json:"renewedAt"`
	FinishedAt time.Time `json:"finishedAt,omitzero"` // zero while it is under way
	Published  int       `json:"published"`
	Done       []string  `json:"done,omitempty"` // the steps that were made
}

// due reports whether a reconciliation is to begin.
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
	now      clock.Clock
	fired    chan struct{} // holds a token when the job was called

	published *prometheus.CounterVec
	found     *prometheus.CounterVec
	failures  *prometheus.CounterVec
	finished  prometheus.Gauge
}

// Start lets a service reconcile with these steps, one after the other.
func Start(s *service.Service, store *state.Store, settings Settings, steps ...Step) {
	if settings.ReconcileEvery == 0 {
		return
	}
	r := New(store, settings, s.Log, s.Metrics, steps...)
	s.Go("reconcile", r.run)
	s.Job("reconcile", max(time.Second, settings.ReconcileEvery/tries).Truncate(time.Second), r.fire)
}

// New makes a Reconciler that is not scheduled. Services use Start.
func New(store *state.Store, settings Settings, log *slog.Logger, metrics prometheus.Registerer, steps ...Step) *Reconciler {
	r := &Reconciler{
		store: store, settings: settings, log: log, steps: steps, now: clock.System, fired: make(chan struct{}, 1),
		published: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "boxoffice_reconcile_published_total", Help: "Events that a reconciliation published again, by step.",
		}, []string{"step"}),
		found: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "boxoffice_reconcile_differences_total", Help: "Differences that a reconciliation found in the documents of its own service, by step and kind.",
		}, []string{"step", "kind"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "boxoffice_reconcile_failures_total", Help: "Steps of reconciliations that failed or were interrupted, by step.",
		}, []string{"step"}),
		finished: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "boxoffice_reconcile_finished_timestamp_seconds",
			Help: "When the service's last reconciliation succeeded, as this process last read it. 0: unknown.",
		}),
	}
	metrics.MustRegister(r.published, r.found, r.failures, r.finished)
	for _, step := range steps {
		r.published.WithLabelValues(step.Name)
		r.failures.WithLabelValues(step.Name)
	}
	return r
}

// fire requests a reconciliation, if one is due. It does not block.
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
			r.log.Warn("a reconciliation failed; it is retried", "error", err)
		}
	}
}

// ReconcileIfDue makes a reconciliation if one is due and no other process makes it. After the error of a step it makes the
// following ones. The failed steps, and those missing if this process ends, are made again a lease later.
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

// begin changes the document if a reconciliation is due. It returns nil if none is, or if another process was faster.
func (r *Reconciler) begin(ctx context.Context) (*Pass, error) {
	doc, err := state.Get[document](ctx, r.store, documentKey)
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return nil, err
	}
	if !doc.Value.FinishedAt.IsZero() {
		r.finished.Set(float64(doc.Value.FinishedAt.Unix()))
	}
	now := r.now()
	if !doc.Value.due(now, r.settings.ReconcileEvery) {
		return nil, nil
	}
	p := &Pass{r: r, document: document{Schema: 1, Instance: r.store.Instance(), StartedAt: now, RenewedAt: now}}
	if last := &doc.Value; last.FinishedAt.IsZero() && now.Sub(last.StartedAt) < r.settings.ReconcileEvery {
		p.document.Done = last.Done // this one continues it
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

// errOvertaken means that this process did not renew its lease in time, and another one has begun a reconciliation.
var errOvertaken = errors.New("another process reconciles now")

// Pass is one reconciliation, for its steps.
type Pass struct {
	r        *Reconciler
	id       string
	step     string
	document document
}

// Since returns the time from which on changes are compared.
func (p *Pass) Since() time.Time {
	return p.document.StartedAt.Add(-min(max(minRecent, 2*p.r.settings.ReconcileEvery), state.MaxRecent))
}

// Publish publishes the last events of some aggregates again, with the rate of the settings.
func (p *Pass) Publish(ctx context.Context, payloads ...events.Payload) error {
	for some := range slices.Chunk(payloads, publishAtOnce) {
		if err := p.Renew(ctx); err != nil {
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

// Found counts differences that a step has found in the documents of its own service.
func (p *Pass) Found(kind string, n int) {
	p.r.found.WithLabelValues(p.step, kind).Add(float64(n))
}

// Renew renews the lease if that is due. Publish does so too; a step that takes long without publishing calls Renew. After an
// error the step must end.
func (p *Pass) Renew(ctx context.Context) error {
	now := p.r.now()
	if now.Sub(p.document.RenewedAt) < min(renewal, p.r.settings.ReconcileEvery/4) {
		return nil
	}
	p.document.RenewedAt = now
	return p.write(ctx)
}

func (p *Pass) finish(ctx context.Context) error {
	p.document.FinishedAt = p.r.now()
	if err := p.write(ctx); err != nil {
		return err
	}
	p.r.finished.Set(float64(p.document.FinishedAt.Unix()))
	p.r.log.Info("reconciled", "published", p.document.Published,
		"took", p.document.FinishedAt.Sub(p.document.StartedAt).Round(time.Millisecond).String())
	return nil
}

// write writes the document, if it is still that of this reconciliation.
func (p *Pass) write(ctx context.Context) error {
	_, err := state.Modify(ctx, p.r.store, documentKey, func(doc *document, _ *state.Change) (bool, error) {
		if doc.Instance != p.document.Instance || !doc.StartedAt.Equal(p.document.StartedAt) {
			return false, errOvertaken
		}
		*doc = p.document
		return true, nil
	})
	return err
}

// rememberedIDs bounds the ids that RepublishRecent remembers. Beyond it, an aggregate may be published twice.
const rememberedIDs = 500_000

// RepublishRecent is a step that publishes the last event of every recent aggregate of a kind (see state.Change.Note). key returns
// the key of an aggregate's document, and event the aggregate's last event. Aggregates that do not exist any more are skipped.
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

// converted notes that a step of Convert has found nothing to convert any more.
type converted struct {
	Schema int       `json:"schema"`
	At     time.Time `json:"at"`
}

func convertedKey(step string) string { return "converted/" + step }

// IsConverted reports whether a step of Convert has found nothing to convert any more.
func IsConverted(ctx context.Context, store *state.Store, step string) (bool, error) {
	_, err := state.Get[converted](ctx, store, convertedKey(step))
	if errors.Is(err, state.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Convert is a step for documents of the previous release: it calls convert with each document of an index for which isOld returns true, until one
// pass has found none. From then on it does nothing, so old documents that a process of the previous release makes later must be converted
// with their next change.
func Convert[T any](store *state.Store, name, index string, key func(id string) string, isOld func(T) bool, convert func(context.Context, T) error) Step {
	return Step{Name: name, Run: func(ctx context.Context, p *Pass) error {
		if done, err := IsConverted(ctx, store, name); done || err != nil {
			return err
		}
		found := 0
		err := state.Each(ctx, store, index, key, func(docs []state.Doc[T]) error {
			for _, doc := range docs {
				if !isOld(doc.Value) {
					continue
				}
				if err := p.Renew(ctx); err != nil {
					return err
				}
				if err := convert(ctx, doc.Value); err != nil {
					return fmt.Errorf("%s: %w", doc.Key, err)
				}
				found++
			}
			return p.Renew(ctx)
		})
		if err != nil || found > 0 {
			return err
		}
		var change state.Change
		change.Create(convertedKey(name), converted{Schema: 1, At: p.r.now()})
		return store.Commit(ctx, &change)
	}}
}
