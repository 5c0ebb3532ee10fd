package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"boxoffice/deploy/proof/client"
)

// Measures the catalogue: search at a steady rate, how soon a reserved listing has left it, streams, and what a process needs. How many
// pages it serves in a second is measured as other workloads are.

const (
	catalogueApp = "catalogue"
	// The names of the measurements, for -only.
	searchName  = "search"
	goneName    = "gone from the catalogue"
	streamsName = "streams"
	processName = "catalogue process"

	searchRate = 500
	// reservationRate is the number of reservations in a second, and sampledOne of so many of them one is observed.
	reservationRate = 500
	sampledOne      = 10
	changeRate      = 200
	// followedShows are the shows that streams follow, one each.
	followedShows = 100
	// shortestSpan is the shortest measured time of a steady rate: for p99 it must be long enough.
	shortestSpan = 10 * time.Second
	// pagesRead are the shows whose pages are read.
	pagesRead = 1000
	// fewShows and fewListings are what the catalogue contains if nothing else is asked for.
	fewShows, fewListings = 1000, 6000
)

// catalogueResult has the measurements of the catalogue. Times are in milliseconds.
type catalogueResult struct {
	Shows    int           `json:"shows"`
	Listings int           `json:"listings"`
	Search   []steadyRoute `json:"search,omitempty"` // through the gateway, and at the service
	Gone     *steadyReport `json:"gone,omitempty"`
	Streams  *streamReport `json:"streams,omitempty"`
	Process  *processSize  `json:"process,omitempty"`
}

// steadyReport are latencies at a steady rate.
type steadyReport struct {
	Rate    int     `json:"perSecond"`
	Samples int     `json:"samples"`
	P50     float64 `json:"p50Ms"`
	P99     float64 `json:"p99Ms"`
}

type steadyRoute struct {
	Route string `json:"route"`
	steadyReport
	Processor map[string]float64 `json:"processorShare,omitempty"` // by process, of one processor
}

type streamReport struct {
	steadyReport
	Streams  int `json:"streams"`
	Expected int `json:"expected"` // updates, of all streams together
	Arrived  int `json:"arrived"`
	Ended    int `json:"ended"` // streams that did not last
	// OpenedMs is how long it took to open all streams.
	OpenedMs  float64            `json:"openedMs"`
	Processor map[string]float64 `json:"processorShare,omitempty"`
}

// processSize is what a process of the catalogue needs.
type processSize struct {
	MemoryMB    float64 `json:"memoryMB"` // in memory now
	MostMB      float64 `json:"mostMB"`   // and at most
	ReadyMs     float64 `json:"readyMs"`  // from a start to ready
	RestartedMB float64 `json:"restartedMB"`
}

func (r *catalogueResult) String() string {
	var lines []string
	for _, s := range r.Search {
		lines = append(lines, fmt.Sprintf("%s by the %s, %d/s: p50 %.1f ms, p99 %.1f ms; of a processor: %s", searchName, s.Route, s.Rate, s.P50, s.P99, shares(s.Processor)))
	}
	if l := r.Gone; l != nil {
		lines = append(lines, fmt.Sprintf("a reserved listing is %s, at %d reservations/s, so long after the answer (at the replica that is last): p50 %.1f ms, p99 %.1f ms (of %d)", goneName, l.Rate, l.P50, l.P99, l.Samples))
	}
	if s := r.Streams; s != nil {
		lines = append(lines, fmt.Sprintf("%d %s, opened in %.1f s, %d changes/s: from the answer to the update p50 %.1f ms, p99 %.1f ms; %d of %d updates arrived, %d streams ended; of a processor: %s",
			s.Streams, streamsName, s.OpenedMs/1000, s.Rate, s.P50, s.P99, s.Arrived, s.Expected, s.Ended, shares(s.Processor)))
	}
	if p := r.Process; p != nil {
		lines = append(lines, fmt.Sprintf("%s: %.0f MB in memory (at most %.0f MB); ready %.1f s after a start, with %.0f MB", processName, p.MemoryMB, p.MostMB, p.ReadyMs/1000, p.RestartedMB))
	}
	return fmt.Sprintf("the catalogue, with %d shows and %d listings\n  %s", r.Shows, r.Listings, strings.Join(lines, "\n  "))
}

// shares are the processes that used most, in per cent.
func shares(of map[string]float64) string {
	names := slices.SortedFunc(maps.Keys(of), func(a, b string) int { return int(1000 * (of[b] - of[a])) })
	var parts []string
	for _, name := range names[:min(4, len(names))] {
		parts = append(parts, fmt.Sprintf("%s %.0f%%", name, 100*of[name]))
	}
	return strings.Join(parts, ", ")
}

func (t cpuTimes) shares(of time.Duration) map[string]float64 {
	all := map[string]float64{}
	for name, spent := range t {
		if share := spent.Seconds() / of.Seconds(); share >= 0.005 {
			all[name] = share
		}
	}
	return all
}

// catalogueWorkloads are the pages of the catalogue that are read in the table of workloads.
func (b *bench) catalogueWorkloads() (all []*workload) {
	if len(b.catalogues) == 0 {
		return nil
	}
	list := func(i int) client.Request {
		r := client.SearchShows().WithQuery("limit", 20)
		if of := b.program.shows[i]; i%2 == 0 {
			r = r.WithQuery("category", of.Category)
		}
		return r
	}
	tickets := func(i int) client.Request { return client.ReadShowTickets(b.program.shows[i].id) }
	for _, page := range []struct {
		name string
		of   func(i int) client.Request
	}{{"catalogue, a page of shows", list}, {"catalogue, a show's tickets", tickets}} {
		all = append(all,
			&workload{name: page.name, shows: true, expected: []int{200}, job: b.readPages(page.of)},
			&workload{name: page.name + ", gzip", shows: true, expected: []int{200}, job: b.readPages(func(i int) client.Request { return page.of(i).With("Accept-Encoding", "gzip") })},
			&workload{name: page.name + ", 304", shows: true, expected: []int{304}, job: b.readUnchanged(page.of)},
		)
	}
	return all
}

func (b *bench) readPages(of func(i int) client.Request) func(*route) (job, error) {
	return func(via *route) (job, error) {
		pages := make([]client.Request, min(pagesRead, len(b.program.shows)))
		for i := range pages {
			pages[i] = of(i)
		}
		return readInTurn(via, pages), nil
	}
}

// readUnchanged reads the pages once for their ETags.
func (b *bench) readUnchanged(of func(i int) client.Request) func(*route) (job, error) {
	return func(via *route) (job, error) {
		pages := make([]client.Request, min(pagesRead, len(b.program.shows)))
		for i := range pages {
			var etag string
			status, err := via.catalogue.call("", of(i), func(res *fasthttp.Response) error { etag = string(res.Header.Peek("ETag")); return nil })
			if err != nil || status != 200 || etag == "" {
				return nil, errors.Join(err, fmt.Errorf("a page for its ETag: status %d, ETag %q", status, etag))
			}
			pages[i] = of(i).With("If-None-Match", etag)
		}
		return readInTurn(via, pages), nil
	}
}

func readInTurn(via *route, pages []client.Request) job {
	var turn atomic.Uint64
	return func(context.Context, int) (int, int, error) {
		status, err := via.catalogue.call("", pages[turn.Add(1)%uint64(len(pages))], nil)
		return 1, status, err
	}
}

// fillCatalogue makes some shows if there are none.
func (b *bench) fillCatalogue(ctx context.Context) error {
	if len(b.program.shows) > 0 {
		return nil
	}
	return b.fillShows(ctx, fewShows, fewListings)
}

// measureCatalogue measures the catalogue, if it runs.
func (b *bench) measureCatalogue(ctx context.Context) error {
	s := b.settings
	measurements := []struct {
		name    string
		measure func(context.Context, *catalogueResult) error
	}{{searchName, b.measureSearch}, {goneName, b.measureGone}, {streamsName, b.measureStreams}, {processName, b.measureProcess}}
	var problems []error
	for _, m := range measurements {
		if len(b.catalogues) == 0 || !s.only.MatchString(m.name) || m.name == streamsName && s.streams == 0 {
			continue
		}
		if err := b.fillCatalogue(ctx); err != nil {
			return err
		}
		if b.catalogue == nil {
			b.catalogue = &catalogueResult{Shows: len(b.program.shows), Listings: len(b.program.listings)}
		}
		if err := m.measure(ctx, b.catalogue); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", m.name, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(problems...)
}

// steadily does work so often in a second, whatever the time of an answer, first for warm, which does not count, then for span. A latency
// counts from the moment at which the work was due.
func steadily(ctx context.Context, rate int, warm, span time.Duration, work func(i int) (status int, err error)) *measurement {
	m := &measurement{took: span, statuses: map[int]int{}, failures: map[string]int{}}
	var mu sync.Mutex
	var working sync.WaitGroup
	begin := time.Now()
	m.begin = begin.Add(warm)
	for i := range int(float64(rate) * (warm + span).Seconds()) {
		due := begin.Add(time.Duration(i) * time.Second / time.Duration(rate))
		if pause(ctx, time.Until(due)); ctx.Err() != nil {
			break
		}
		working.Go(func() {
			status, err := work(i)
			took := time.Since(due)
			mu.Lock()
			defer mu.Unlock()
			m.all++
			switch {
			case err != nil:
				m.failures[err.Error()]++
			case !due.Before(m.begin):
				m.done++
				m.statuses[status]++
				m.latencies = append(m.latencies, took)
			}
		})
	}
	working.Wait()
	slices.Sort(m.latencies)
	return m
}

func (m *measurement) steady(rate int) steadyReport {
	return steadyReport{Rate: rate, Samples: len(m.latencies), P50: milliseconds(m.percentile(.5)), P99: milliseconds(m.percentile(.99))}
}

// measureSearch measures searches of all kinds at a steady rate.
func (b *bench) measureSearch(ctx context.Context, r *catalogueResult) error {
	s := b.settings
	span := max(s.span, shortestSpan)
	for _, via := range []*route{b.gateway, b.direct} {
		profiles := func() error { return nil }
		if via == b.gateway {
			profiles = profiler{s.profile, b.stack}.during(ctx, searchName, s.warm, span)
		}
		cpu, begin := b.cpu.times(), time.Now()
		m := steadily(ctx, searchRate, s.warm, span, func(i int) (int, error) {
			return via.catalogue.call("", b.program.query(rand.New(rand.NewPCG(3, uint64(i)))), nil)
		})
		used := b.cpu.times().since(cpu).shares(time.Since(begin))
		r.Search = append(r.Search, steadyRoute{via.name, m.steady(searchRate), used})
		progress("%-32s %-16s p50 %.1f ms, p99 %.1f ms", searchName, via.name, milliseconds(m.percentile(.5)), milliseconds(m.percentile(.99)))
		if err := errors.Join(m.problems(200), profiles()); err != nil {
			return fmt.Errorf("by the %s: %w", via.name, err)
		}
	}
	return nil
}

// measureGone measures how long after the answer to its reservation a listing is still in the catalogue. For a listing that is observed
// there is a show without another one.
func (b *bench) measureGone(ctx context.Context, r *catalogueResult) error {
	s := b.settings
	span := max(s.span, shortestSpan)
	all := int(float64(reservationRate) * (s.warm + span).Seconds())
	shows, err := b.createShows(ctx, all/sampledOne+1)
	if err != nil {
		return err
	}
	observed, err := b.listPlaces(ctx, shows, len(shows))
	if err != nil {
		return err
	}
	others := b.program.take(all)
	if missing := all - len(others); missing > 0 {
		more, err := b.createShows(ctx, missing/placesInRow+1)
		if err != nil {
			return err
		}
		listed, err := b.listPlaces(ctx, more, missing)
		if err != nil {
			return err
		}
		others = append(others, listed...)
	}
	if err := b.waitShown(ctx, observed); err != nil {
		return err
	}
	profiles := profiler{s.profile, b.stack}.during(ctx, goneName, s.warm, span)
	left := &measurement{}
	var mu sync.Mutex
	var observing sync.WaitGroup
	measured := time.Now().Add(s.warm)
	m := steadily(ctx, reservationRate, s.warm, span, func(i int) (int, error) {
		listing, isObserved := others[i], i%sampledOne == 0
		if isObserved {
			listing = observed[i/sampledOne]
		}
		_, status, err := b.data.reserve(b.gateway, b.data.buyer(), listing.id)
		answered := time.Now()
		if err != nil || status != 201 || !isObserved {
			return status, err
		}
		observing.Go(func() {
			took := slices.Max(b.untilLeft(ctx, listing.show, answered))
			mu.Lock()
			defer mu.Unlock()
			if answered.After(measured) {
				left.latencies = append(left.latencies, took)
			}
		})
		return status, nil
	})
	observing.Wait()
	slices.Sort(left.latencies)
	report := left.steady(reservationRate)
	r.Gone = &report
	progress("%-32s p50 %.1f ms, p99 %.1f ms; the reservations p99 %.1f ms", goneName, report.P50, report.P99, milliseconds(m.percentile(.99)))
	return errors.Join(m.problems(201), profiles(), b.waitHandled(ctx))
}

// leftPeriod is the pause between two readings of a show.
const leftPeriod = time.Millisecond

// untilLeft waits until each replica shows that nothing is left of a show, and returns how long that took.
func (b *bench) untilLeft(ctx context.Context, show string, since time.Time) []time.Duration {
	took := make([]time.Duration, len(b.catalogues))
	var reading sync.WaitGroup
	for i, replica := range b.catalogues {
		reading.Go(func() {
			gone := false
			for !gone && ctx.Err() == nil && time.Since(since) < completeTime {
				_, _ = replica.call("", client.ReadCatalogueShow(show), func(res *fasthttp.Response) error { // a failed reading is repeated
					gone = bytes.Contains(res.Body(), []byte(`"left":0`))
					return nil
				})
				took[i] = time.Since(since)
				pause(ctx, leftPeriod)
			}
		})
	}
	reading.Wait()
	return took
}

// arrival is an update that came to a stream.
type arrival struct {
	change string
	at     time.Time
}

// measureStreams opens streams through the gateway, changes listings of the shows that they follow, and measures the time from the answer to
// a change to its update at each stream.
func (b *bench) measureStreams(ctx context.Context, r *catalogueResult) error {
	s := b.settings
	span := max(s.span, shortestSpan)
	shows, err := b.createShows(ctx, followedShows)
	if err != nil {
		return err
	}
	listings, err := b.listPlaces(ctx, shows, 5*len(shows))
	if err != nil {
		return err
	}
	if err := b.waitShown(ctx, listings); err != nil {
		return err
	}
	api := client.New("", client.Options{Transport: &http.Transport{MaxIdleConnsPerHost: -1, DisableCompression: true}})
	streaming, stop := context.WithCancel(ctx)
	defer stop()
	came := make([][]arrival, s.streams)
	var ended atomic.Int64
	var reading sync.WaitGroup
	defer reading.Wait()
	defer stop()
	gateways := b.stack.GatewayURLs()
	opening := time.Now()
	var next atomic.Int64
	opened := load(ctx, 16, 0, time.Hour, cpuReader{}, func(context.Context, int) (int, int, error) {
		i := int(next.Add(1)) - 1
		if i >= s.streams {
			return 0, 0, errExhausted
		}
		stream, err := api.At(gateways[i%len(gateways)]).Stream(streaming, client.FollowShows(shows[i%len(shows)].id))
		if err != nil {
			return 0, 0, fmt.Errorf("open a stream: %w", err)
		}
		reading.Go(func() {
			defer func() { _ = stream.Close() }()
			for {
				e, err := stream.Next()
				if err != nil {
					if streaming.Err() == nil {
						ended.Add(1)
					}
					return
				}
				if update, err := e.Listing(); e.Type == "listing" && err == nil {
					came[i] = append(came[i], arrival{changeOf(update.TicketID, update.Price), time.Now()})
				}
			}
		})
		return 1, 200, nil
	})
	report := &streamReport{Streams: s.streams, OpenedMs: milliseconds(time.Since(opening))}
	if err := opened.problems(200); err != nil {
		return err
	}
	progress("%-32s %d are open", streamsName, s.streams)

	var mu sync.Mutex
	answered := map[string]time.Time{}
	followers := map[string]int{}
	for i := range s.streams {
		followers[shows[i%len(shows)].id]++
	}
	profiles := profiler{s.profile, b.stack}.during(ctx, streamsName, s.warm, span)
	cpu, begin := b.cpu.times(), time.Now()
	m := steadily(ctx, changeRate, s.warm, span, func(i int) (int, error) {
		l := listings[i%len(listings)]
		price := l.price - int64(1+i/len(listings)) // each change of a listing has another price, below its face value
		status, err := b.gateway.tickets.call(b.data.seller(l.seller), client.EditTicket(l.id, client.Offer{Price: price}), nil)
		if err == nil && status == 200 {
			mu.Lock()
			answered[changeOf(l.id, price)] = time.Now()
			report.Expected += followers[l.show]
			mu.Unlock()
		}
		return status, err
	})
	report.Processor = b.cpu.times().since(cpu).shares(time.Since(begin))
	problem := errors.Join(m.problems(200), profiles(), b.waitHandled(ctx))
	pause(ctx, time.Second) // what has not come by then does not count
	stop()
	reading.Wait()
	updates := &measurement{}
	for _, arrivals := range came {
		for _, a := range arrivals {
			at, known := answered[a.change]
			if !known {
				continue
			}
			report.Arrived++
			if !at.Before(m.begin) {
				updates.latencies = append(updates.latencies, max(0, a.at.Sub(at))) // it may come before the answer
			}
		}
	}
	slices.Sort(updates.latencies)
	report.steadyReport, report.Ended = updates.steady(changeRate), int(ended.Load())
	r.Streams = report
	progress("%-32s p50 %.1f ms, p99 %.1f ms; %d of %d arrived", streamsName, report.P50, report.P99, report.Arrived, report.Expected)
	return problem
}

func changeOf(ticket string, price int64) string { return fmt.Sprintf("%s %d", ticket, price) }

// measureProcess measures the memory of a process of the catalogue, and ends it to see how soon another one is ready.
func (b *bench) measureProcess(ctx context.Context, r *catalogueResult) (err error) {
	size := &processSize{}
	if size.MemoryMB, err = b.memoryOf(catalogueApp, memoryNow); err != nil {
		return err
	}
	if size.MostMB, err = b.memory(catalogueApp); err != nil {
		return err
	}
	process := b.stack.Process(b.stack.Replicas(catalogueApp)[0])
	if err := process.Stop(); err != nil {
		return err
	}
	begin := time.Now()
	if err := process.Start(); err != nil {
		return err
	}
	if err := b.untilReady(ctx); err != nil {
		return err
	}
	size.ReadyMs = milliseconds(time.Since(begin))
	if size.RestartedMB, err = b.memoryOf(catalogueApp, memoryNow); err != nil {
		return err
	}
	r.Process = size
	progress("%-32s %.0f MB, ready in %.1f s", processName, size.MemoryMB, size.ReadyMs/1000)
	return nil
}

// untilReady waits until the first replica of the catalogue is ready.
func (b *bench) untilReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, b.settings.settle)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, b.stack.URL(catalogueApp)+"/readyz", nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		if pause(ctx, 10*time.Millisecond); ctx.Err() != nil {
			return errors.Join(errors.New("the catalogue is not ready again"), err)
		}
	}
}
