package index

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/clock"
)

// The size that the index is measured at.
const (
	manyShows    = 50_000
	manyListings = 300_000
)

// generator makes shows and listings that resemble real ones: few words are frequent, most are rare.
type generator struct {
	random *rand.Rand
	zipf   *rand.Zipf
	words  []string
	cities []string
}

func newGenerator() *generator {
	g := &generator{random: rand.New(rand.NewPCG(1, 2))}
	for len(g.words) < 20_000 {
		g.words = append(g.words, g.word(2+g.random.IntN(3)))
	}
	g.zipf = rand.NewZipf(g.random, 1.1, 60, uint64(len(g.words)-1))
	for range 400 {
		g.cities = append(g.cities, g.word(3))
	}
	return g
}

func (g *generator) word(syllables int) string {
	var w strings.Builder
	for range syllables {
		w.WriteByte("bcdfghjklmnprstvwz"[g.random.IntN(18)])
		w.WriteString([]string{"a", "e", "i", "o", "u", "é", "ü"}[min(g.random.IntN(60)/10+g.random.IntN(60)/59, 6)])
	}
	return w.String()
}

func (g *generator) text(words int) string {
	chosen := make([]string, words)
	for i := range chosen {
		chosen[i] = g.words[g.zipf.Uint64()]
	}
	return strings.Join(chosen, " ")
}

func (g *generator) show(n int) Show {
	return Show{
		ID: showID(n), Name: g.text(2 + g.random.IntN(4)), Venue: g.text(2), City: g.cities[g.random.IntN(len(g.cities))], Country: []string{"CH", "DE", "AT", "FR"}[n%4],
		StartsAt: clock.System().Add(time.Hour + time.Duration(g.random.IntN(365*24*60))*time.Minute), TimeZone: "Europe/Zurich",
		Category:    []string{"music", "theatre", "comedy", "dance", "sport", "family", "festival", "other"}[g.random.IntN(8)],
		Description: g.text(30), UserID: "0190a6b8-7c2f-7d3e-9a4b-5c6d7e8f9a0b", Version: 1, CreatedAt: noon, UpdatedAt: noon,
	}
}

func (g *generator) listing(n int, of Show) Listing {
	l := aListing(n, of, int64(1000+g.random.IntN(20_000)))
	l.Place = &Place{Section: string(rune('A' + g.random.IntN(4))), Row: fmt.Sprint(g.random.IntN(40)), Number: fmt.Sprint(n)}
	return l
}

// queries as people type them: words of names and cities, prefixes, typos, filters, and none at all.
func (g *generator) queries(shows []Show, n int) []Query {
	queries := make([]Query, n)
	for i := range queries {
		q := Query{Limit: 20}
		of := shows[g.random.IntN(len(shows))]
		words := strings.Fields(of.Name)
		word := words[g.random.IntN(len(words))]
		switch g.random.IntN(10) {
		case 0, 1:
			q.Text = word
		case 2, 3:
			q.Text = of.City + " " + word[:min(len(word), 3)]
		case 4:
			q.Text = strings.Join(words, " ")
		case 5:
			q.Text = word[:1] + "x" + word[1:] // a typo
		case 6:
			q.City = of.City
		case 7:
			q.Category, q.From = of.Category, OnDate(of.StartsAt)
		case 8:
			q.Available, q.Sort = true, ByPrice
		case 9:
			q.Text, q.City, q.Available = word, of.City, true
		}
		if q.Text != "" && q.Sort == "" {
			q.Sort = ByRelevance
		}
		queries[i] = q
	}
	return queries
}

func rss() (megabytes int) {
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if kilobytes, found := strings.CutPrefix(line, "VmRSS:"); found {
			_, _ = fmt.Sscan(kilobytes, &megabytes)
		}
	}
	return megabytes / 1024
}

// BenchmarkIndex builds an index of 50,000 shows and 300,000 listings, and then measures searches in an open loop, 500 a second for each
// iteration's second, while 500 changes a second are applied. It reports figures, and asserts none.
func BenchmarkIndex(b *testing.B) {
	g := newGenerator()
	var changes []Change
	var shows []Show
	for n := range manyShows {
		show := g.show(n)
		shows = append(shows, show)
		changes = append(changes, Change{Show: &show})
	}
	for n := range manyListings {
		listing := g.listing(n, shows[g.random.IntN(len(shows))])
		changes = append(changes, Change{Listing: &listing})
	}
	runtime.GC()
	debug.FreeOSMemory()
	before := rss()
	x, err := New(clock.System)
	require.NoError(b, err)
	began := time.Now()
	for part := range slices.Chunk(changes, 1000) {
		x.Apply(1, part)
	}
	applied := time.Since(began)
	require.NoError(b, x.Flush(context.Background()))
	built := time.Since(began)
	queries := g.queries(shows, 5000)
	var latencies []time.Duration
	var mu sync.Mutex
	applyLatencies := []time.Duration{}
	var flushed time.Duration
	b.ResetTimer()
	for range b.N {
		var running sync.WaitGroup
		var stop atomic.Bool
		running.Go(func() {
			for n := 0; !stop.Load(); n++ {
				at := time.Now()
				change := Change{Reservation: &Reservation{TicketID: ticketID(g.random.IntN(manyListings)), Sequence: n + 1, Status: []Status{Reserved, Available}[n%2]}}
				if n%50 == 0 {
					show := shows[n%len(shows)]
					show.Version = n + 2
					change = Change{Show: &show}
				}
				x.Apply(uint64(n), []Change{change})
				applyLatencies = append(applyLatencies, time.Since(at))
				time.Sleep(2*time.Millisecond - time.Since(at))
			}
		})
		running.Go(func() {
			for !stop.Load() {
				at := time.Now()
				_ = x.Flush(context.Background())
				flushed = max(flushed, time.Since(at))
				time.Sleep(50 * time.Millisecond)
			}
		})
		var searches sync.WaitGroup
		const rate = 500
		start := time.Now()
		for n := range rate * 4 {
			due := start.Add(time.Duration(n) * time.Second / rate)
			time.Sleep(time.Until(due))
			searches.Go(func() {
				_, err := x.Search(queries[(n*7919)%len(queries)])
				took := time.Since(due)
				if err != nil {
					b.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				latencies = append(latencies, took)
			})
		}
		searches.Wait()
		stop.Store(true)
		running.Wait()
	}
	b.StopTimer()
	slices.Sort(latencies)
	slices.Sort(applyLatencies)
	changes, shows = nil, nil
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(ms(applied), "apply-ms")
	b.ReportMetric(ms(built), "build-ms")
	b.ReportMetric(ms(latencies[len(latencies)/2]), "p50-ms")
	b.ReportMetric(ms(latencies[len(latencies)*99/100]), "p99-ms")
	b.ReportMetric(ms(latencies[len(latencies)-1]), "max-ms")
	b.ReportMetric(ms(flushed), "flush-max-ms")
	b.ReportMetric(ms(applyLatencies[len(applyLatencies)*99/100]), "change-p99-ms")
	runtime.GC()
	debug.FreeOSMemory()
	b.ReportMetric(float64(rss()-before), "rss-MB")
	require.NoError(b, x.Close())
}

func BenchmarkSearch(b *testing.B) {
	g := newGenerator()
	var shows []Show
	x, err := New(clock.System)
	require.NoError(b, err)
	for n := range manyShows {
		show := g.show(n)
		shows = append(shows, show)
		x.Apply(1, []Change{{Show: &show}})
	}
	require.NoError(b, x.Flush(context.Background()))
	frequent := g.words[0]
	for name, q := range map[string]Query{
		"All":           {},
		"City":          {City: shows[0].City},
		"ByPrice":       {Sort: ByPrice},
		"FrequentWord":  {Text: frequent, Sort: ByRelevance},
		"OneLetter":     {Text: frequent[:1], Sort: ByRelevance},
		"Name":          {Text: shows[0].Name, Sort: ByRelevance},
		"Typo":          {Text: "x" + strings.Fields(shows[0].Name)[0], Sort: ByRelevance},
		"LongTypo":      {Text: "bacadafagaxx", Sort: ByRelevance},
		"EightBadWords": {Text: "baxadafa caxefega dexuhajo foxigabu gaxubani lixaxolo muxaxafe naxuxota", Sort: ByRelevance},
	} {
		q.Limit = 20
		b.Run(name, func(b *testing.B) {
			for range b.N {
				x.results.clear()
				x.text.clearCache()
				if _, err := x.Search(q); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"Cached", func(b *testing.B) {
			for range b.N {
				if _, err := x.Search(q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	require.NoError(b, x.Close())
}
