// Package samples gives an empty box office a programme: 20 shows with pictures, and 400 tickets. It uses the public REST API alone,
// with an account of its own.
package samples

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"boxoffice/deploy/proof/client"
)

// The account that owns the sample programme of a system on this machine.
const (
	Email    = "organiser@example.com"
	Password = "organiser-password"
)

// ErrNotEmpty means that there are shows, and none of them is of the account: nothing was made.
var ErrNotEmpty = errors.New("there are shows already")

// Options are where and as whom to make the programme.
type Options struct {
	URL      string // of the gateway
	Email    string
	Password string
	Now      time.Time // the shows are in the weeks after it
	// Rate is how many requests a second are sent at most: below RATE_LIMIT, so that others at this address can work meanwhile.
	// 0 is DefaultRate.
	Rate      int
	Transport http.RoundTripper // nil is the default
}

// DefaultRate is half of the default of RATE_LIMIT.
const DefaultRate = 50

// Result is what Fill has made, and what was there.
type Result struct {
	Shows, Tickets       int // all of the programme that are there now
	NewShows, NewTickets int
	NewPictures          int
	ClosedShows          int // have started or are cancelled, and get no tickets any more
}

// Fill makes what is missing of the programme. It reads first what the account has, so it can be interrupted at any time and called
// again: nothing is made twice.
func Fill(ctx context.Context, options Options) (Result, error) {
	if options.Rate == 0 {
		options.Rate = DefaultRate
	}
	api := client.New(options.URL, client.Options{Transport: options.Transport})
	defer api.Close()
	pace := time.NewTicker(time.Second / time.Duration(options.Rate))
	defer pace.Stop()
	f := &filler{api: api, pace: pace.C, now: options.Now}
	if err := f.signIn(ctx, options.Email, options.Password); err != nil {
		return Result{}, err
	}
	shows, err := f.ownShows(ctx)
	if err != nil {
		return Result{}, fmt.Errorf("list the account's shows: %w", err)
	}
	if len(shows) == 0 {
		all, err := client.Decode[[]client.Show](f.send(ctx, client.ReadShows().WithQuery("limit", 1)))
		if err != nil {
			return Result{}, fmt.Errorf("list the shows: %w", err)
		}
		if len(all) > 0 {
			return Result{}, ErrNotEmpty
		}
	}
	tickets, err := f.ownTickets(ctx)
	if err != nil {
		return Result{}, fmt.Errorf("list the account's tickets: %w", err)
	}
	return f.fill(ctx, shows, tickets)
}

// HasShows reports whether there are shows, of any owner.
func HasShows(ctx context.Context, url string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	api := client.New(url, client.Options{})
	defer api.Close()
	response, err := api.Do(ctx, client.ReadShows().WithQuery("limit", 1))
	shows, err := client.Decode[[]client.Show](response, err)
	return len(shows) > 0, err
}

// Local reports whether an address is on this machine. There the password of the account may be one that everybody knows.
func Local(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

type filler struct {
	api  *client.Client // as the account, after signIn
	pace <-chan time.Time
	now  time.Time

	mu     sync.Mutex
	result Result
}

// workers is how many shows are made at the same time.
const workers = 4

// fill makes the shows first, so that the programme is there within a second, then their pictures, then their tickets: by then the
// service that lists tickets knows the shows.
func (f *filler) fill(ctx context.Context, shows map[string]client.Show, tickets map[string]map[client.Place]int) (Result, error) {
	missing := slices.DeleteFunc(slices.Clone(programme), func(s show) bool {
		_, found := shows[s.name]
		return found
	})
	err := each(ctx, missing, func(ctx context.Context, s show) error {
		made, err := f.announce(ctx, s)
		if err != nil {
			return fmt.Errorf("announce %s: %w", s.name, err)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		shows[s.name] = made
		f.result.NewShows++
		return nil
	})
	if err != nil {
		return f.result, err
	}
	open := slices.DeleteFunc(slices.Clone(programme), func(s show) bool {
		made := shows[s.name]
		return made.Status != "scheduled" || !f.now.Before(made.StartsAt)
	})
	f.result.Shows, f.result.ClosedShows = len(programme), len(programme)-len(open)
	err = each(ctx, open, func(ctx context.Context, s show) error {
		if shows[s.name].Image != nil {
			return nil
		}
		if err := f.picture(ctx, s, shows[s.name].ID); err != nil {
			return fmt.Errorf("set the picture of %s: %w", s.name, err)
		}
		return nil
	})
	if err != nil {
		return f.result, err
	}
	err = each(ctx, open, func(ctx context.Context, s show) error {
		made := shows[s.name]
		if err := f.list(ctx, s, made.ID, tickets[made.ID]); err != nil {
			return fmt.Errorf("list the tickets of %s: %w", s.name, err)
		}
		return nil
	})
	return f.result, err
}

// each calls work for all shows, some at the same time, and returns the first error, which ends the others.
func each(ctx context.Context, shows []show, work func(context.Context, show) error) error {
	working, ctx := errgroup.WithContext(ctx)
	working.SetLimit(workers)
	for _, s := range shows {
		working.Go(func() error { return work(ctx, s) })
	}
	return working.Wait()
}

// signIn signs the account up, or in if it exists.
func (f *filler) signIn(ctx context.Context, email, password string) error {
	one, err := client.Decode[client.SignedIn](f.send(ctx, client.SignUp(email, password)))
	if is(err, "email_in_use") {
		one, err = client.Decode[client.SignedIn](f.send(ctx, client.SignIn(email, password)))
	}
	if err != nil {
		return fmt.Errorf("sign in as %s: %w", email, err)
	}
	f.api = f.api.As(one.Token)
	return nil
}

// ownShows are the shows of the account, by name.
func (f *filler) ownShows(ctx context.Context) (map[string]client.Show, error) {
	shows := map[string]client.Show{}
	err := pages(ctx, f, client.ReadOwnShows(), func(one client.Show) { shows[one.Name] = one })
	return shows, err
}

// ownTickets are how many tickets the account has at each place of each show.
func (f *filler) ownTickets(ctx context.Context) (map[string]map[client.Place]int, error) {
	tickets := map[string]map[client.Place]int{}
	err := pages(ctx, f, client.ReadOwnTickets(), func(one client.Ticket) {
		if one.Seat == nil {
			return
		}
		if tickets[one.ShowID] == nil {
			tickets[one.ShowID] = map[client.Place]int{}
		}
		tickets[one.ShowID][*one.Seat]++
	})
	return tickets, err
}

func (f *filler) announce(ctx context.Context, s show) (client.Show, error) {
	start, err := s.startsAt(f.now)
	if err != nil {
		return client.Show{}, err
	}
	body := client.NewShow{
		Name: s.name, Venue: s.venue, City: s.city, Country: s.country, StartsAt: start, TimeZone: s.zone, Category: s.category, Description: s.description(),
	}
	if s.maxMarkup != uncapped {
		body.MaxMarkup = &s.maxMarkup
	}
	// The key has the start, because the same key with another body would be refused.
	return client.Decode[client.Show](f.send(ctx, client.CreateShow(body).WithKey(fmt.Sprintf("sample-%s-%d", s.slug, start.Unix()))))
}

func (f *filler) picture(ctx context.Context, s show, id string) error {
	jpeg, err := s.picture()
	if err != nil {
		return err
	}
	if _, err := f.send(ctx, client.PutImage(id, "image/jpeg", jpeg)); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.result.NewPictures++
	return nil
}

// picture is the poster of a show, as a JPEG.
func (s show) picture() ([]byte, error) {
	seed := fnv.New64a()
	_, _ = seed.Write([]byte(s.slug)) // never fails
	return s.poster.draw(seed.Sum64())
}

// list lists the tickets of a show that are missing, one after the other: so those that are there are the first ones of each place.
func (f *filler) list(ctx context.Context, s show, id string, there map[client.Place]int) error {
	there = maps.Clone(there)
	for _, one := range s.tickets() {
		if there[one.place] > 0 {
			there[one.place]--
			f.count(0)
			continue
		}
		offer := client.Offer{ShowID: id, Price: one.price, FaceValue: one.faceValue, Seat: &one.place}
		_, err := f.send(ctx, client.ListPlace(offer).WithKey("sample-"+hash(id+"/"+one.key)))
		if err != nil && !is(err, "seat_listed") {
			return err
		}
		f.count(1)
	}
	return nil
}

func (f *filler) count(made int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.result.Tickets++
	f.result.NewTickets += made
}

// hash shortens a key to what a key may have.
func hash(text string) string {
	sum := fnv.New128a()
	_, _ = sum.Write([]byte(text)) // never fails
	return fmt.Sprintf("%x", sum.Sum(nil))
}

// is reports whether an error is a refusal with that code.
func is(err error, code string) bool {
	var problem *client.Problem
	return errors.As(err, &problem) && problem.Code() == code
}

// attempts bounds how often a request is sent that fails.
const attempts = 20

// send sends a request within the rate. It repeats it if the system is busy, or if no answer came. All requests of this package may
// be repeated: reads, those with a key, and those that change nothing the second time. A refusal is a *client.Problem.
func (f *filler) send(ctx context.Context, request client.Request) (client.Response, error) {
	for attempt := 1; ; attempt++ {
		select {
		case <-ctx.Done():
			return client.Response{}, ctx.Err()
		case <-f.pace:
		}
		response, err := f.api.Do(ctx, request)
		if err == nil && response.Granted() {
			return response, nil
		}
		pause := time.Second
		if err == nil {
			_, err = client.Decode[struct{}](response, nil)
			var problem *client.Problem
			if !errors.As(err, &problem) || problem.Status != http.StatusTooManyRequests && problem.Status < http.StatusInternalServerError {
				return client.Response{}, err
			}
			pause = min(max(problem.RetryAfter, 100*time.Millisecond), 30*time.Second)
		}
		if attempt == attempts {
			return client.Response{}, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// pages calls take for each entry of a list.
func pages[T any](ctx context.Context, f *filler, first client.Request, take func(T)) error {
	for request := first.WithQuery("limit", 200); request.Path != ""; {
		response, err := f.send(ctx, request)
		page, err := client.Decode[[]T](response, err)
		if err != nil {
			return err
		}
		for _, one := range page {
			take(one)
		}
		request.Path = response.Next()
	}
	return nil
}
