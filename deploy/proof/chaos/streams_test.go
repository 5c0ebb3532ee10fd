package chaos

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/proof/check"
	"boxoffice/deploy/proof/client"
)

// storefront is a catalogue whose streams have given events; each stream ends after its own.
type storefront struct {
	mu      sync.Mutex
	pages   map[string][]client.Ticket
	streams [][]string // the events of the next streams
	lastIDs []string   // what the streams were asked for
}

func (s *storefront) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if show, is := strings.CutPrefix(r.URL.Path, "/api/catalogue/shows/"); is {
		w.Header().Set("Catalogue-Position", "e-1-0")
		_ = json.NewEncoder(w).Encode(s.pages[strings.TrimSuffix(show, "/tickets")])
		return
	}
	s.lastIDs = append(s.lastIDs, cmp.Or(r.Header.Get("Last-Event-ID"), strings.Join(r.URL.Query()["after"], " ")))
	if len(s.streams) == 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	_, _ = fmt.Fprint(w, strings.Join(s.streams[0], ""))
	s.streams = s.streams[1:]
}

func (s *storefront) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastIDs
}

func streamEvent(id, kind, data string) string {
	return fmt.Sprintf("id: %s\nevent: %s\ndata: %s\n\n", id, kind, data)
}

func listingEvent(id, change, ticket string, price, left int) string {
	return streamEvent(id, "listing", fmt.Sprintf(`{"change":%q,"showId":"a","ticketId":%q,"price":%d,"left":%d}`, change, ticket, price, left))
}

func TestFollower_HasInTheEndWhatThePagesHave(t *testing.T) {
	ready := streamEvent("e-1-0", "ready", "{}")
	pages := strings.TrimSpace(strings.Repeat("e-1-0 ", followedShows)) // their positions
	available := func(id string, price int64) client.Ticket { return client.Ticket{ID: id, Price: price} }
	for _, c := range []struct {
		name    string
		streams [][]string
		final   []client.Ticket
		lastIDs []string
		wrong   string
	}{
		{"updates, and a break",
			[][]string{{ready, listingEvent("e-2-0", "reserved", "one", 5, 1)}, {streamEvent("e-2-0", "ready", "{}"), listingEvent("e-3-0", "new", "three", 7, 2), listingEvent("e-4-0", "changed", "two", 9, 2)}},
			[]client.Ticket{available("two", 9), available("three", 7)}, []string{pages, "e-2-0"}, ""},
		{"a reset", [][]string{{ready}, {streamEvent("f-1-0", "reset", "{}")}}, []client.Ticket{available("one", 5), available("two", 6)}, []string{pages, "e-1-0"}, ""},
		{"an update that does not come", [][]string{{ready}, {ready}}, []client.Ticket{available("one", 5)}, []string{pages, "e-1-0"}, "ticket two is too much"},
		{"another number left", [][]string{{ready, listingEvent("e-2-0", "changed", "two", 6, 3)}, {ready}}, []client.Ticket{available("one", 5), available("two", 6)}, []string{pages, "e-2-0"}, "has 3 tickets left, and its pages have 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			catalogue := &storefront{pages: map[string][]client.Ticket{"a": {available("one", 5), available("two", 6)}}, streams: c.streams}
			server := httptest.NewServer(catalogue)
			t.Cleanup(server.Close)
			api := client.New("", client.Options{})
			l := &load{api: api, streams: api, gateways: []string{server.URL}, history: check.NewHistory(), stats: newStats()}
			for range followedShows {
				l.shows = append(l.shows, &show{id: "a", far: true})
			}
			f := newFollower(l, 1, 0)
			ctx, stop := context.WithCancel(t.Context())
			var running sync.WaitGroup
			atRest, end := context.WithCancel(t.Context()) // so that the pauses are short
			end()
			running.Go(func() { f.run(ctx, atRest) })
			require.Eventually(t, func() bool { return len(catalogue.asked()) >= len(c.streams)+1 }, 10*time.Second, 10*time.Millisecond)
			stop()
			running.Wait()
			require.Equal(t, c.lastIDs, catalogue.asked()[:len(c.streams)])

			catalogue.mu.Lock()
			catalogue.pages["a"] = c.final
			catalogue.mu.Unlock()
			err := f.compare(t.Context(), "a")
			if c.wrong == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.wrong)
			}
		})
	}
}
