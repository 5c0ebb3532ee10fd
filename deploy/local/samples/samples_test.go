package samples

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image/jpeg"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/proof/client"
)

func TestProgramme_IsTwentyShowsAndFourHundredTickets(t *testing.T) {
	require.Len(t, programme, 20)
	names, slugs, categories, countries, standing := map[string]bool{}, map[string]bool{}, map[string]int{}, map[string]bool{}, 0
	for _, s := range programme {
		names[s.name], slugs[s.slug], countries[s.country] = true, true, true
		categories[s.category]++
		require.NotEmpty(t, s.german, s.slug)
		require.NotEmpty(t, s.english, s.slug)
		require.LessOrEqual(t, len([]rune(s.description())), 2000, s.slug)
		require.GreaterOrEqual(t, len(s.sections), 2, s.slug)
		tickets, keys := s.tickets(), map[string]bool{}
		require.Len(t, tickets, 20, s.slug)
		for _, one := range tickets {
			keys[one.key] = true
			if one.place.Number == "" {
				standing++
			}
			require.GreaterOrEqual(t, one.price, int64(50))
			if s.maxMarkup != uncapped && one.faceValue > 0 {
				require.LessOrEqual(t, one.price*100, one.faceValue*int64(100+s.maxMarkup), "the price is below the cap")
			}
		}
		require.Len(t, keys, 20, "keys of %s", s.slug)
	}
	require.Len(t, names, 20)
	require.Len(t, slugs, 20)
	require.Len(t, categories, 8, "each category of the API")
	require.GreaterOrEqual(t, len(countries), 10)
	require.Greater(t, standing, 50)
}

func TestProgramme_StartsInTheNextWeeksAndMonthsAtTheTimeOfThePlace(t *testing.T) {
	for day := range 9 {
		now := time.Date(2027, time.March, 20+day, 23, 30, 0, 0, time.UTC) // the clocks change on the 28th in Europe
		for _, s := range programme {
			start, err := s.startsAt(now)
			require.NoError(t, err)
			require.True(t, start.After(now.Add(24*time.Hour)), "%s at %s", s.slug, start)
			require.True(t, start.Before(now.AddDate(0, 5, 0)), "%s at %s", s.slug, start)
			require.Equal(t, []int{int(s.day), s.hour, s.minute}, []int{int(start.Weekday()), start.Hour(), start.Minute()}, s.slug)
		}
	}
}

func TestPicture_IsTheSameEachTimeAndSmall(t *testing.T) {
	seen := map[string]string{}
	for _, s := range programme {
		first, err := s.picture()
		require.NoError(t, err)
		require.Less(t, len(first), 300_000, s.slug)
		require.Empty(t, seen[string(first)], "%s has the picture of another show", s.slug)
		seen[string(first)] = s.slug
		decoded, err := jpeg.DecodeConfig(bytes.NewReader(first))
		require.NoError(t, err)
		require.Equal(t, []int{width, height}, []int{decoded.Width, decoded.Height})
	}
	again, err := programme[0].picture()
	require.NoError(t, err)
	require.Equal(t, programme[0].slug, seen[string(again)])
}

func TestFill_MakesTheProgrammeOnceHoweverOftenItIsInterrupted(t *testing.T) {
	system := newSystem(t)
	for cut := 3; ; cut += 7 { // ends after 3, 10, 17, … requests, with the answer to the last one lost
		ctx, cancel := context.WithCancel(t.Context())
		system.interrupt(cut, cancel)
		result, err := system.fill(ctx)
		cancel()
		if err == nil {
			require.Equal(t, [3]int{20, 400, 0}, [3]int{result.Shows, result.Tickets, result.ClosedShows})
			break
		}
		require.ErrorIs(t, err, context.Canceled)
		require.Less(t, cut, 1000)
	}
	system.requireProgramme()
	result, err := system.fill(t.Context())
	require.NoError(t, err)
	require.Equal(t, Result{Shows: 20, Tickets: 400}, result, "nothing is new")
	system.requireProgramme()
}

func TestFill_WaitsWhileTheSystemIsBusy(t *testing.T) {
	system := newSystem(t)
	system.busy = func(n int) int {
		switch {
		case n%9 == 4:
			return http.StatusTooManyRequests
		case n%9 == 7:
			return http.StatusServiceUnavailable
		}
		return 0
	}
	result, err := system.fill(t.Context())
	require.NoError(t, err)
	require.Equal(t, Result{Shows: 20, Tickets: 400, NewShows: 20, NewTickets: 400, NewPictures: 20}, result)
	system.requireProgramme()
}

func TestFill_MakesNothingIfThereAreShows(t *testing.T) {
	system := newSystem(t)
	system.shows = append(system.shows, client.Show{ID: "of-another", Name: "Hamlet"})
	_, err := system.fill(t.Context())
	require.ErrorIs(t, err, ErrNotEmpty)
	require.Len(t, system.shows, 1)
	require.Empty(t, system.tickets)
}

func TestFill_ARefusalEndsIt(t *testing.T) {
	system := newSystem(t)
	system.busy = func(n int) int {
		if n > 10 {
			return http.StatusForbidden
		}
		return 0
	}
	_, err := system.fill(t.Context())
	var problem *client.Problem
	require.ErrorAs(t, err, &problem)
	require.Equal(t, http.StatusForbidden, problem.Status)
}

func TestLocal_IsThisMachine(t *testing.T) {
	for address, want := range map[string]bool{
		"http://localhost:8080": true, "http://127.0.0.1:1": true, "http://[::1]:8080": true, "https://tickets.example": false, "http://10.0.0.7": false, "http://boxoffice.localhost": false, "::": false,
	} {
		require.Equal(t, want, Local(address), address)
	}
}

// system is the part of the API that Fill uses, in memory.
type system struct {
	t       *testing.T
	url     string
	mu      sync.Mutex
	served  int
	cut     int
	cancel  func()
	busy    func(request int) (status int)
	signed  bool
	shows   []client.Show
	own     map[string]bool
	tickets []client.Ticket
	answers map[string]any // by Idempotency-Key
}

func newSystem(t *testing.T) *system {
	s := &system{t: t, own: map[string]bool{}, answers: map[string]any{}, busy: func(int) int { return 0 }}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func (s *system) fill(ctx context.Context) (Result, error) {
	return Fill(ctx, Options{URL: s.url, Email: Email, Password: Password, Now: time.Now(), Rate: 1_000_000})
}

// interrupt calls cancel after so many requests, before the last one is answered.
func (s *system) interrupt(after int, cancel func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.served, s.cut, s.cancel = 0, after, cancel
}

func (s *system) requireProgramme() {
	s.mu.Lock()
	defer s.mu.Unlock()
	require.Len(s.t, s.shows, 20)
	require.Len(s.t, s.tickets, 400)
	for _, one := range programme {
		n := slices.IndexFunc(s.shows, func(made client.Show) bool { return made.Name == one.name })
		require.GreaterOrEqual(s.t, n, 0, one.name)
		made := s.shows[n]
		require.NotNil(s.t, made.Image, one.name)
		require.Equal(s.t, one.category, made.Category)
		want, got := map[client.Place]int{}, map[client.Place]int{}
		for _, ticket := range one.tickets() {
			want[ticket.place]++
		}
		for _, ticket := range s.tickets {
			if ticket.ShowID == made.ID {
				got[*ticket.Seat]++
			}
		}
		require.Equal(s.t, want, got, one.name)
	}
}

func (s *system) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.served++
	status := s.busy(s.served)
	var answer any
	if status == 0 {
		status, answer = s.answer(r)
	} else {
		answer = client.Problem{Status: status}
	}
	if s.cancel != nil && s.served >= s.cut {
		s.cancel()
		panic(http.ErrAbortHandler) // it was done, and the answer is lost
	}
	w.WriteHeader(status)
	require.NoError(s.t, json.NewEncoder(w).Encode(answer))
}

func (s *system) answer(r *http.Request) (int, any) {
	refuse := func(status int, code string) (int, any) {
		return status, map[string]any{"status": status, "errors": []client.ProblemDetail{{Code: code}}}
	}
	read := func(into any) { require.NoError(s.t, json.NewDecoder(r.Body).Decode(into)) }
	switch path := r.URL.Path; {
	case path == "/api/users/signup" && s.signed:
		return refuse(http.StatusConflict, "email_in_use")
	case path == "/api/users/signup", path == "/api/users/signin":
		s.signed = true
		return http.StatusOK, client.SignedIn{Token: "organiser"}
	case r.Method == http.MethodGet && path == "/api/shows":
		shows := s.shows
		if r.URL.Query().Get("owner") == "me" {
			shows = slices.DeleteFunc(slices.Clone(shows), func(one client.Show) bool { return !s.own[one.ID] })
		}
		return http.StatusOK, append([]client.Show{}, shows...)
	case r.Method == http.MethodGet && path == "/api/tickets":
		return http.StatusOK, append([]client.Ticket{}, s.tickets...)
	case r.Method == http.MethodPut:
		image, err := io.ReadAll(r.Body)
		if err != nil {
			return refuse(http.StatusBadRequest, "image")
		}
		for i, one := range s.shows {
			if path == "/api/shows/"+one.ID+"/image" {
				require.NotEmpty(s.t, image)
				s.shows[i].Image = &client.ShowImage{URL: "/image"}
				return http.StatusOK, s.shows[i]
			}
		}
		return refuse(http.StatusNotFound, "not_found")
	}
	require.Equal(s.t, "Bearer organiser", r.Header.Get("Authorization"))
	key := r.Header.Get("Idempotency-Key")
	require.NotEmpty(s.t, key)
	require.LessOrEqual(s.t, len(key), 64)
	if before, found := s.answers[key]; found {
		return http.StatusCreated, before
	}
	switch {
	case r.URL.Path == "/api/shows":
		var body client.NewShow
		read(&body)
		made := client.Show{ID: "show-" + strconv.Itoa(len(s.shows)), Name: body.Name, Category: body.Category, StartsAt: body.StartsAt, Status: "scheduled"}
		s.shows, s.own[made.ID], s.answers[key] = append(s.shows, made), true, made
		return http.StatusCreated, made
	case r.URL.Path == "/api/tickets":
		var body client.Offer
		read(&body)
		for _, one := range s.tickets {
			if body.Seat.Number != "" && one.ShowID == body.ShowID && *one.Seat == *body.Seat {
				return refuse(http.StatusConflict, "seat_listed")
			}
		}
		made := client.Ticket{ID: "ticket-" + strconv.Itoa(len(s.tickets)), ShowID: body.ShowID, Price: body.Price, Seat: body.Seat}
		s.tickets, s.answers[key] = append(s.tickets, made), made
		return http.StatusCreated, made
	}
	panic(errors.New(fmt.Sprint("unexpected request: ", r.Method, " ", strings.TrimSpace(r.URL.Path))))
}
