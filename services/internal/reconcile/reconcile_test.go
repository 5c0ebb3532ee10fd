package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/state"
	"boxoffice/services/internal/state/statetest"
)

// sidecar is a sidecar in memory.
type sidecar struct{ *statetest.Sidecar }

func newSidecar() *sidecar { return &sidecar{statetest.New()} }

// again are the ids of what was published again, without the part that is the reconciliation's own.
func (s *sidecar) again() (ids []string) {
	for _, event := range s.Published() {
		if id, _, found := strings.Cut(event.ID, "/reconciled-"); found {
			ids = append(ids, id)
		}
	}
	return ids
}

func openStore(t *testing.T, s *sidecar, instance string) *state.Store {
	t.Helper()
	store, err := state.Open(t.Context(), s, state.Options{Service: "tested", Instance: instance, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close(context.Background()) })
	return store
}

type thing struct {
	Schema  int       `json:"schema"`
	ID      string    `json:"id"`
	Version int       `json:"version"`
	Created time.Time `json:"created"`
}

func (th thing) event() events.Payload {
	return events.UserCreated{User: events.User{ID: id.User(th.ID), Version: th.Version}}
}

func create(t *testing.T, store *state.Store, id string, at time.Time) {
	t.Helper()
	th := thing{1, id, 1, at}
	var change state.Change
	change.Create("thing/"+id, th)
	change.Note("things", id, at, at)
	require.NoError(t, store.Commit(t.Context(), &change))
}

func touch(t *testing.T, store *state.Store, id string, at time.Time) {
	t.Helper()
	doc, err := state.Get[thing](t.Context(), store, "thing/"+id)
	require.NoError(t, err)
	doc.Value.Version++
	var change state.Change
	change.Update(doc.Key, doc.ETag, doc.Value)
	change.Note("things", id, doc.Value.Created, at)
	require.NoError(t, store.Commit(t.Context(), &change))
}

func republish(store *state.Store) Step {
	return RepublishRecent(store, "things", func(id string) string { return "thing/" + id }, (*thing).event)
}

func reconciler(store *state.Store, settings Settings, now *time.Time, steps ...Step) *Reconciler {
	r := New(store, settings, slog.New(slog.DiscardHandler), prometheus.NewRegistry(), steps...)
	r.now = func() time.Time { return *now }
	return r
}

var daily = Settings{ReconcileEvery: 24 * time.Hour}

func TestReconcile_PublishesTheLastEventOfWhatChangedLately(t *testing.T) {
	s := newSidecar()
	store := openStore(t, s, "here")
	now := time.Date(2026, 5, 20, 3, 0, 0, 0, time.UTC)
	create(t, store, "old", now.Add(-9*24*time.Hour))
	create(t, store, "old-but-changed", now.Add(-9*24*time.Hour))
	create(t, store, "young", now.Add(-30*time.Hour))
	create(t, store, "new", now.Add(-time.Minute))
	touch(t, store, "young", now.Add(-29*time.Hour))
	touch(t, store, "old-but-changed", now.Add(-2*time.Hour))
	touch(t, store, "old-but-changed", now.Add(-time.Hour))

	r := reconciler(store, daily, &now, republish(store))
	require.NoError(t, r.ReconcileIfDue(t.Context()))
	require.ElementsMatch(t, []string{"user.created:young:2", "user.created:new:1", "user.created:old-but-changed:3"}, s.again(), "each once, as it is now")
	for _, event := range s.Published() {
		require.NotEmpty(t, event.Republished)
		require.Equal(t, "/tested", event.Source)
	}
	require.EqualValues(t, 3, testutil.ToFloat64(r.published.WithLabelValues("things")))
	require.EqualValues(t, now.Unix(), testutil.ToFloat64(r.finished))
}

func TestReconcile_OneOfManyProcessesMakesItOnceAPeriod(t *testing.T) {
	s := newSidecar()
	now := time.Now()
	var made sync.Map
	var all []*Reconciler
	for n := range 4 {
		store := openStore(t, s, fmt.Sprintf("replica-%d", n))
		all = append(all, reconciler(store, daily, &now, Step{"count", func(_ context.Context, p *Pass) error {
			made.Store(p.id+p.document.Instance, true)
			return nil
		}}))
	}
	fireAll := func() (reconciliations int) {
		var firing sync.WaitGroup
		for _, r := range all {
			firing.Go(func() {
				if err := r.ReconcileIfDue(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		firing.Wait()
		made.Range(func(any, any) bool { reconciliations++; return true })
		return reconciliations
	}
	require.Equal(t, 1, fireAll())
	now = now.Add(23 * time.Hour)
	require.Equal(t, 1, fireAll())
	now = now.Add(time.Hour)
	require.Equal(t, 2, fireAll())
}

func TestReconcile_AnotherProcessGoesOnWithAnInterruptedOne(t *testing.T) {
	s := newSidecar()
	now := time.Now()
	dying, stop := context.WithCancel(t.Context())
	first := reconciler(openStore(t, s, "first"), daily, &now,
		Step{"one", func(context.Context, *Pass) error { return nil }},
		Step{"two", func(context.Context, *Pass) error { stop(); return dying.Err() }})
	require.Error(t, first.ReconcileIfDue(dying))

	var made []string
	step := func(name string) Step {
		return Step{name, func(context.Context, *Pass) error { made = append(made, name); return nil }}
	}
	second := reconciler(openStore(t, s, "second"), daily, &now, step("one"), step("two"), step("three"))
	require.NoError(t, second.ReconcileIfDue(t.Context()))
	require.Empty(t, made, "the first may still live")
	now = now.Add(lease + time.Second)
	require.NoError(t, second.ReconcileIfDue(t.Context()))
	require.Equal(t, []string{"two", "three"}, made)
	require.NoError(t, second.ReconcileIfDue(t.Context()))
	require.Len(t, made, 2)
}

func TestReconcile_AProcessThatWasSilentForLongEndsWhenAnotherHasBegun(t *testing.T) {
	s := newSidecar()
	now := time.Now()
	second := reconciler(openStore(t, s, "second"), daily, &now)
	first := reconciler(openStore(t, s, "first"), daily, &now, Step{"slow", func(ctx context.Context, p *Pass) error {
		now = now.Add(lease + time.Second) // it was frozen
		require.NoError(t, second.ReconcileIfDue(ctx))
		return p.Publish(ctx, thing{ID: "x", Version: 1}.event())
	}}, Step{"next", func(context.Context, *Pass) error { t.Error("it goes on"); return nil }})
	require.ErrorIs(t, first.ReconcileIfDue(t.Context()), errOvertaken)
	require.Empty(t, s.again())
}

func TestReconcile_AStepThatFailsKeepsNoOtherFromBeingMade(t *testing.T) {
	now := time.Now()
	made := 0
	r := reconciler(openStore(t, newSidecar(), "here"), daily, &now,
		Step{"bad", func(context.Context, *Pass) error { return errors.New("away") }},
		Step{"good", func(_ context.Context, p *Pass) error { made++; p.Found("missing", 2); return nil }})
	require.ErrorContains(t, r.ReconcileIfDue(t.Context()), "bad: away")
	require.Equal(t, 1, made)
	require.EqualValues(t, 2, testutil.ToFloat64(r.found.WithLabelValues("good", "missing")))
	require.EqualValues(t, 1, testutil.ToFloat64(r.failures.WithLabelValues("bad")))
	require.Zero(t, testutil.ToFloat64(r.finished))
}

func TestReconcile_PublishesNoFasterThanItMay(t *testing.T) {
	s := newSidecar()
	store := openStore(t, s, "here")
	now := time.Now()
	var all []events.Payload
	for n := range 150 {
		all = append(all, thing{ID: strconv.Itoa(n), Version: 1}.event())
	}
	r := reconciler(store, Settings{ReconcileEvery: time.Hour, ReconcileRate: 300}, &now,
		Step{"many", func(ctx context.Context, p *Pass) error { return p.Publish(ctx, all...) }})
	began := time.Now()
	require.NoError(t, r.ReconcileIfDue(t.Context()))
	require.GreaterOrEqual(t, time.Since(began), 450*time.Millisecond)
	require.Len(t, s.again(), 150)
}

// From the owner's publication to the consumer's count: what a consumer commits because of an event that was published again is a
// repair, and what it knew before is not.
func TestReconcile_AConsumerCountsWhatItCommits(t *testing.T) {
	owner := newSidecar()
	now := time.Now()
	r := reconciler(openStore(t, owner, "owner"), Settings{ReconcileEvery: time.Minute}, &now, Step{"users", func(ctx context.Context, p *Pass) error {
		return p.Publish(ctx, thing{ID: "u1", Version: 1}.event())
	}})
	consumer := openStore(t, newSidecar(), "consumer")
	registry := prometheus.NewRegistry()
	router := events.NewRouter(events.Options{Origin: events.Origin{Service: "tested", PublicURL: "http://localhost:8080"}, Instance: "here", Deliveries: 3, Log: slog.New(slog.DiscardHandler), Metrics: registry})
	events.On(router, func(ctx context.Context, e events.UserCreated) error {
		var change state.Change
		change.Create("user/"+string(e.ID), thing{Schema: 1, ID: string(e.ID)})
		if err := consumer.Commit(ctx, &change); !errors.Is(err, state.ErrConflict) {
			return err
		}
		return nil
	})
	mux := chi.NewRouter()
	router.Mount(mux)
	for range 2 {
		now = now.Add(time.Hour)
		require.NoError(t, r.ReconcileIfDue(t.Context()))
		body, err := json.Marshal(owner.Published()[len(owner.Published())-1])
		require.NoError(t, err)
		response := httptest.NewRecorder()
		mux.ServeHTTP(response, httptest.NewRequest("POST", "/events", strings.NewReader(`{"topic":"events.users","entries":[{"entryId":"0","event":`+string(body)+`}]}`)))
		require.Contains(t, response.Body.String(), "SUCCESS")
		require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
			# HELP boxoffice_reconcile_repairs_total Events of a reconciliation that changed a document of this service, because it had missed the event before, by type.
			# TYPE boxoffice_reconcile_repairs_total counter
			boxoffice_reconcile_repairs_total{type="user.created"} 1
		`), "boxoffice_reconcile_repairs_total"))
	}
	require.Len(t, owner.Published(), 2)
}
