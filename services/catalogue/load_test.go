package main

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"github.com/dapr/go-sdk/client"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/services/catalogue/feed"
	"boxoffice/services/catalogue/index"
	"boxoffice/services/catalogue/live"
	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/service"
	"boxoffice/services/internal/state"
)

// BenchmarkStart measures the start of a replica with 50,000 shows and 300,000 listings, of which a quarter is in batches after the
// snapshot, at a real sidecar with SQLite:
//
//	go test ./services/catalogue -run '^$' -bench Start -benchtime 1x
//
// It also shows the time to append a change and to make the snapshot.
func BenchmarkStart(b *testing.B) {
	const shows, listings = 50_000, 300_000
	folder := b.TempDir()
	s, err := stack.Start(b.Context(), stack.Options{Folder: folder, Sidecars: []stack.Sidecar{{ID: "catalogue"}}})
	require.NoError(b, err)
	defer s.Stop()
	b.Setenv("DAPR_API_TOKEN", s.SidecarToken("catalogue"))
	var port int
	_, err = fmt.Sscanf(s.SidecarGRPC("catalogue"), "127.0.0.1:%d", &port)
	require.NoError(b, err)
	dapr, err := service.Connect(b.Context(), port)
	require.NoError(b, err)
	defer dapr.Close()

	follow := func(instance string) (*feed.Feed, *readModel, *state.Store, func()) {
		documents, err := state.Open(b.Context(), client.Client(dapr), state.Options{Service: "catalogue", Instance: instance, Log: slog.New(slog.DiscardHandler)})
		require.NoError(b, err)
		x, err := index.New(clock.System)
		require.NoError(b, err)
		log := slog.New(slog.DiscardHandler)
		m := &readModel{index: x, live: live.New(live.Options{Log: log, Metrics: prometheus.NewRegistry()}), clock: clock.System, log: log}
		f := feed.New(documents, m, feed.Options{Log: log})
		ctx, cancel := context.WithCancel(b.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = f.Run(ctx)
		}()
		return f, m, documents, func() {
			cancel()
			<-ended
			_ = documents.Close(b.Context())
			_ = x.Close()
		}
	}

	fill, _, documents, stop := follow("fill")
	showIDs := make([]id.Show, shows)
	now := clock.System()
	began := time.Now()
	queueAll := func(n int, change func(i int) index.Change) {
		const atOnce = 4096
		for from := 0; from < n; from += atOnce {
			var waits []func() error
			for i := from; i < min(n, from+atOnce); i++ {
				wait, err := fill.Queue(b.Context(), change(i))
				require.NoError(b, err)
				waits = append(waits, wait)
			}
			for _, wait := range waits {
				require.NoError(b, wait())
			}
		}
	}
	queueAll(shows, func(i int) index.Change {
		showIDs[i] = id.New[id.Show]()
		return index.Change{Show: &index.Show{
			ID: showIDs[i], Name: fmt.Sprintf("The show of the %d stars", i), Venue: fmt.Sprintf("Hall %d", i%900), City: fmt.Sprintf("City %d", i%400), Country: "GB",
			StartsAt: now.Add(time.Duration(i%2000+1) * time.Hour), TimeZone: "Europe/London", Category: categories[i%len(categories)],
			Description: "An evening with an orchestra, two choirs and a guest who has never been here before.", UserID: id.New[id.User](), Version: 1, CreatedAt: now, UpdatedAt: now,
		}}
	})
	listing := func(i int) index.Change {
		return index.Change{Listing: &index.Listing{
			ID: id.New[id.Ticket](), ShowID: showIDs[i%shows], Title: fmt.Sprintf("The show of the %d stars", i%shows), Price: int64(1000 + i%9000), Currency: "usd",
			UserID: id.New[id.User](), Place: &index.Place{Section: "Stalls", Row: fmt.Sprint(i % 40), Number: fmt.Sprint(i)}, FaceValue: 5000,
			SalesEndAt: now.Add(time.Duration(i%shows%2000+1) * time.Hour), Status: index.Available, Version: 1, CreatedAt: now, UpdatedAt: now,
		}}
	}
	queueAll(listings*3/4, listing)
	made := func() (m struct{ Schema, Entries, Chunks int }) {
		doc, err := state.Get[struct{ Schema, Entries, Chunks int }](b.Context(), documents, "feed/snapshot")
		require.NoError(b, err)
		return doc.Value
	}
	appended := time.Since(began)
	began = time.Now()
	require.NoError(b, fill.Compact(b.Context()))
	require.Eventually(b, func() bool { return made().Entries > 0 }, 5*time.Minute, 10*time.Millisecond)
	snapshot := time.Since(began)
	queueAll(listings/4, listing)
	stop()
	b.Logf("%s for a change; %s for the snapshot, %+v", appended/(shows+listings*3/4), snapshot, made())

	for b.Loop() {
		began := time.Now()
		f, m, _, stop := follow("start")
		for f.CaughtUp(b.Context()) != nil {
			time.Sleep(time.Millisecond)
		}
		b.ReportMetric(time.Since(began).Seconds(), "s/start")
		haveShows, haveListings, available := m.index.Stats()
		require.Equal(b, []int{shows, listings, listings}, []int{haveShows, haveListings, available})
		runtime.GC()
		var memory runtime.MemStats
		runtime.ReadMemStats(&memory)
		b.ReportMetric(float64(memory.HeapAlloc)/(1<<20), "MB-heap")
		stop()
	}
}
