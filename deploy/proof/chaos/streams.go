package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"boxoffice/deploy/proof/client"
)

// follower follows some shows by a stream, as a storefront does it: it reads the pages once, and then applies what the stream brings. If
// the stream breaks, it goes on where it was, at any gateway. In the end it must have what the pages have.
type follower struct {
	*load
	chance  *rand.Rand
	gateway int

	mu      sync.Mutex
	shows   []string
	has     map[string]map[string]int64 // by show: the available tickets with their prices
	left    map[string]int              // by show: as the last update has it; -1 after pages
	updates int
	resets  int
	opened  int

	lastID string
	// after are the positions of the pages that it has read; nil: it has to read them.
	after []string
}

const (
	followers = 4
	// followedShows is how many shows a follower follows: with few of them, hardly an update is missed in a break. A stream may have 20.
	followedShows = 12
	// shortestStream and longestStream are how long a follower keeps a stream while there is load.
	shortestStream, longestStream = 2 * time.Second, 15 * time.Second
	// longestBreak is how long a follower has no stream then, so that it misses updates and has to get them afterwards.
	longestBreak = 4 * time.Second
	// streamsLimit is how long after everything is at rest a follower may have something else than the pages.
	streamsLimit = 15 * time.Second
)

func newFollower(l *load, seed uint64, number int) *follower {
	return &follower{load: l, chance: rand.New(rand.NewPCG(seed, uint64(number)+1<<33)), gateway: number, has: map[string]map[string]int64{}, left: map[string]int{}}
}

// run follows shows until ctx ends. While there is load, it breaks its streams by itself, too.
func (f *follower) run(ctx, working context.Context) {
	for ctx.Err() == nil {
		if !f.choose() {
			sleep(ctx, 200*time.Millisecond)
			continue
		}
		streaming, stop := context.WithCancel(ctx)
		pause := time.Duration(f.chance.IntN(maxPause)) * time.Millisecond
		if working.Err() == nil {
			streaming, stop = context.WithTimeout(ctx, between(f.chance, shortestStream, longestStream))
			pause = between(f.chance, 0, longestBreak)
		}
		f.follow(streaming)
		stop()
		sleep(ctx, pause)
	}
}

// choose chooses the shows, once there are some. None of them starts within the run, because time alone makes no update.
func (f *follower) choose() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.shows) > 0 {
		return true
	}
	f.load.mu.Lock()
	defer f.load.mu.Unlock()
	for _, s := range f.load.shows {
		if s.far && s.cancelled.IsZero() {
			f.shows = append(f.shows, s.id)
		}
	}
	if len(f.shows) < followedShows {
		f.shows = nil
		return false
	}
	f.chance.Shuffle(len(f.shows), func(i, j int) { f.shows[i], f.shows[j] = f.shows[j], f.shows[i] })
	f.shows = f.shows[:followedShows]
	return true
}

// follow opens a stream and applies its events until it ends.
func (f *follower) follow(ctx context.Context) {
	if f.after == nil && !f.readPages(ctx) {
		f.gateway++
		return
	}
	request := client.FollowShowsAfter(f.after, f.shows...)
	if f.lastID != "" {
		request = request.With("Last-Event-ID", f.lastID)
	}
	stream, err := f.streams.At(f.gateways[f.gateway%len(f.gateways)]).Stream(ctx, request)
	f.gateway++
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		problem := &client.Problem{}
		_ = errors.As(err, &problem)
		body, _ := json.Marshal(problem) // for its code
		f.stats.count("follow shows", client.Response{Status: problem.Status, Body: body})
		return
	}
	f.stats.count("follow shows", client.Response{Status: http.StatusOK})
	defer func() { _ = stream.Close() }()
	f.mu.Lock()
	f.opened++
	f.mu.Unlock()
	for {
		e, err := stream.Next()
		if err != nil {
			return
		}
		f.mu.Lock()
		f.lastID = e.ID
		f.mu.Unlock()
		if !f.apply(e) {
			return
		}
	}
}

// apply applies an event. It reports false if the follower has to begin again with the pages.
func (f *follower) apply(e client.StreamEvent) bool {
	switch e.Type {
	case "reset":
		f.mu.Lock()
		f.resets++
		f.lastID, f.after = "", nil
		f.mu.Unlock()
		return false
	case "listing":
		update, err := e.Listing()
		if err != nil {
			f.stats.unexpectedly("%v", err)
			return true
		}
		f.applyListing(update)
	case "show":
		update, err := e.Show()
		if err != nil {
			f.stats.unexpectedly("%v", err)
			return true
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.has[update.ShowID] == nil { // the catalogue did not have it when the pages were read
			f.lastID, f.after = "", nil
			return false
		}
	}
	return true
}

func (f *follower) applyListing(update client.ListingUpdate) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.updates++
	f.left[update.ShowID] = update.Left
	tickets := f.has[update.ShowID]
	if tickets == nil { // the show was not on
		return
	}
	switch update.Change {
	case "new", "changed", "free":
		tickets[update.TicketID] = update.Price
	default:
		delete(tickets, update.TicketID)
	}
}

// readPages reads the pages of all followed shows, which different replicas may answer.
func (f *follower) readPages(ctx context.Context) bool {
	var after []string
	for i, show := range f.shows {
		tickets, positions, ok := f.pagesOf(ctx, f.gateway+i, show)
		if !ok {
			return false
		}
		after = append(after, positions...)
		f.mu.Lock()
		f.has[show], f.left[show] = tickets, -1
		f.mu.Unlock()
	}
	f.after = after
	return len(after) > 0
}

// pagesOf reads the available tickets of a show with their prices, and the positions of the pages. A show that is not on has none (nil).
func (f *follower) pagesOf(ctx context.Context, gateway int, show string) (tickets map[string]int64, positions []string, ok bool) {
	tickets = map[string]int64{}
	for next := client.ReadShowTickets(show).WithQuery("limit", 100); next.Path != ""; {
		response := f.send(ctx, gateway, "", next)
		if response.Status == http.StatusNotFound {
			return nil, nil, true
		}
		page, ok := decode[[]client.Ticket](response)
		if !ok {
			return nil, nil, false
		}
		positions = append(positions, response.Header.Get("Catalogue-Position"))
		for _, t := range page {
			tickets[t.ID] = t.Price
		}
		next.Path = response.Next()
	}
	return tickets, positions, true
}

// checkStreams finds followers who have something else than the pages, when everything is at rest.
func (l *load) checkStreams(ctx context.Context, all []*follower) {
	ctx, cancel := context.WithTimeout(ctx, streamsLimit)
	defer cancel()
	for _, f := range all {
		for _, show := range f.followed() {
			if _, err := backoff.Retry(ctx, func() (struct{}, error) { return struct{}{}, f.compare(ctx, show) },
				backoff.WithBackOff(backoff.NewConstantBackOff(200*time.Millisecond)), backoff.WithMaxElapsedTime(0)); err != nil {
				l.stats.unexpectedly("%v", f.compare(context.WithoutCancel(ctx), show))
			}
		}
	}
}

func (f *follower) followed() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.shows)
}

// compare compares what a follower has of a show with its pages.
func (f *follower) compare(ctx context.Context, show string) error {
	pages, _, ok := f.pagesOf(ctx, 0, show)
	if !ok {
		return fmt.Errorf("the pages of show %s cannot be read", show)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	has, left := f.has[show], f.left[show]
	switch {
	case pages == nil: // it was cancelled
		return nil
	case has == nil:
		return fmt.Errorf("a stream of show %s never began", show)
	case !maps.Equal(has, pages):
		return fmt.Errorf("the updates of show %s, up to %s, do not lead to its pages: %s", show, f.lastID, difference(has, pages))
	case left >= 0 && left != len(pages):
		return fmt.Errorf("the last update of show %s has %d tickets left, and its pages have %d", show, left, len(pages))
	}
	return nil
}

func difference(has, pages map[string]int64) string {
	var parts []string
	for _, id := range slices.Sorted(maps.Keys(has)) {
		if price, is := pages[id]; !is {
			parts = append(parts, fmt.Sprintf("ticket %s is too much", id))
		} else if price != has[id] {
			parts = append(parts, fmt.Sprintf("ticket %s has the price %d, not %d", id, has[id], price))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(pages)) {
		if _, is := has[id]; !is {
			parts = append(parts, fmt.Sprintf("ticket %s is missing", id))
		}
	}
	return strings.Join(parts, ", ")
}

// counts are how often followers opened a stream, and how many updates and resets came.
func counts(all []*follower) (opened, updates, resets int) {
	for _, f := range all {
		f.mu.Lock()
		opened, updates, resets = opened+f.opened, updates+f.updates, resets+f.resets
		f.mu.Unlock()
	}
	return opened, updates, resets
}
