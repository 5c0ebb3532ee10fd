package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dapr/go-sdk/client"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/state"
	"boxoffice/services/internal/state/statetest"
)

var quiet = slog.New(slog.DiscardHandler)

// newReplica is a store over a sidecar, in a process of its own.
func newReplica(t testing.TB, sidecar *statetest.Sidecar, name string, clock clock.Clock) *store {
	t.Helper()
	documents, err := state.Open(context.Background(), sidecar, state.Options{Service: "tickets", Instance: name, Log: quiet})
	require.NoError(t, err)
	t.Cleanup(func() { _ = documents.Close(context.Background()) })
	return newStore(documents, Terms{"usd", 50}, clock, quiet)
}

// newShow announces a show that starts in a day.
func newShow(t testing.TB, s *store) events.Show {
	t.Helper()
	event := showEvent(id.New[id.Show](), 1, s.clock().Add(24*time.Hour), events.ShowStatusScheduled)
	require.NoError(t, s.ApplyShow(context.Background(), event))
	return event
}

// list lists a ticket for a show, as the API does.
func list(ctx context.Context, s *store, show id.Show, place *Place) (Ticket, error) {
	return state.Decide(ctx, s.documents, s.Create("seller", Listing{Offer: Offer{Title: "Front row", Price: 4500}, ShowID: show, Place: place}))
}

// mustList is list without a refusal.
func mustList(t *testing.T, s *store, show id.Show, place *Place) Ticket {
	t.Helper()
	ticket, err := list(t.Context(), s, show, place)
	require.NoError(t, err)
	return ticket
}

// tester is a testing.T or a rapid.T.
type tester interface {
	require.TestingT
	Helper()
}

// stored is a ticket's document.
func stored(t tester, s *store, ticket id.Ticket) Ticket {
	t.Helper()
	doc, err := state.Get[Ticket](context.Background(), s.documents, ticketKey(ticket))
	require.NoError(t, err)
	return doc.Value
}

// apply applies an order's event that gives a ticket a status.
func apply(t *testing.T, s *store, ticket id.Ticket, sequence int, becomes Status) {
	t.Helper()
	order := orderEvent("order-1", sequence, becomes)
	order.Ticket.ID = ticket
	require.NoError(t, s.ApplyOrder(t.Context(), order))
}

// holderOf is the ticket that has a place by the place's document; "" if there is none.
func holderOf(t tester, sidecar *statetest.Sidecar, key string) id.Ticket {
	t.Helper()
	document := sidecar.Document(key)
	if document.ETag == "" {
		return ""
	}
	var placement Placement
	require.NoError(t, json.Unmarshal(document.Value, &placement))
	return placement.TicketID
}

// A listing without a show reads nothing, and one with a show makes one read.
func TestCreate_Reads(t *testing.T) {
	sidecar := statetest.New()
	var reads atomic.Int64
	sidecar.BeforeRead = func(keys []string) error {
		if slices.ContainsFunc(keys, func(key string) bool { return strings.HasPrefix(key, "show/") || strings.HasPrefix(key, "place/") }) {
			reads.Add(1)
		}
		return nil
	}
	s := newReplica(t, sidecar, "one", clock.System)
	create(t, s, "seller")
	require.Zero(t, reads.Load())
	of := newShow(t, s)
	reads.Store(0)
	mustList(t, s, of.ID, row8())
	require.EqualValues(t, 1, reads.Load())
	mustList(t, s, of.ID, &Place{Section: "Standing"})
	require.EqualValues(t, 2, reads.Load())
}

func TestCreate_AShowThatIsNotKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newReplica(t, statetest.New(), "one", clock.System)
		_, err := list(t.Context(), s, "0197b2f0-0000-7000-8000-000000000001", nil)
		require.ErrorIs(t, err, errNoShow)
		young := statetest.IDOfAge[id.Show](0)
		_, err = list(t.Context(), s, young, row8())
		require.ErrorIs(t, err, errShowNotYetKnown)
		time.AfterFunc(time.Second, func() {
			_ = s.ApplyShow(context.Background(), showEvent(young, 1, time.Now().Add(time.Hour), events.ShowStatusScheduled))
		})
		_, err = list(t.Context(), s, young, row8())
		require.NoError(t, err, "the request waits for the event")
	})
}

// Of many listings of one place, at the same time and at two replicas, one succeeds.
func TestCreate_APlaceIsListedOnce(t *testing.T) {
	sidecar := statetest.New()
	replicas := []*store{newReplica(t, sidecar, "one", clock.System), newReplica(t, sidecar, "two", clock.System)}
	of := newShow(t, replicas[0])
	for range 5 {
		var listed, refused atomic.Int64
		var winner atomic.Value
		var all sync.WaitGroup
		for i := range 32 {
			all.Go(func() {
				ticket, err := list(context.Background(), replicas[i%2], of.ID, row8())
				switch {
				case err == nil:
					listed.Add(1)
					winner.Store(ticket.ID)
				case errors.Is(err, errPlaceListed):
					refused.Add(1)
				default:
					t.Errorf("unexpected: %v", err)
				}
			})
		}
		all.Wait()
		require.EqualValues(t, 1, listed.Load())
		require.EqualValues(t, 31, refused.Load())
		ticket := winner.Load().(id.Ticket)
		require.Equal(t, ticket, holderOf(t, sidecar, row8().key(of.ID)))
		require.NoError(t, replicas[1].Delete(t.Context(), ticket, "seller", 0))
		require.Empty(t, holderOf(t, sidecar, row8().key(of.ID)), "it is free again")
	}
}

func TestCreate_ManyTicketsWithoutANumber(t *testing.T) {
	s := newReplica(t, statetest.New(), "one", clock.System)
	of := newShow(t, s)
	for range 3 {
		mustList(t, s, of.ID, &Place{Section: "Standing", Row: "8"})
		mustList(t, s, of.ID, nil)
	}
	other := newShow(t, s)
	mustList(t, s, of.ID, row8())
	mustList(t, s, other.ID, row8())
}

// Every way to be deleted frees the place.
func TestPlacement_IsFreeAfterAnyDeletion(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, s *store, of events.Show, ticket id.Ticket){
		"by its seller": func(t *testing.T, s *store, _ events.Show, ticket id.Ticket) {
			require.NoError(t, s.Delete(t.Context(), ticket, "seller", 0))
		},
		"with its seller's account": func(t *testing.T, s *store, _ events.Show, _ id.Ticket) {
			require.NoError(t, s.BeginWithdrawal(t.Context(), "seller"))
			_, err := s.Withdraw(t.Context())
			require.NoError(t, err)
		},
		"with its seller's account, when its order ends": func(t *testing.T, s *store, of events.Show, ticket id.Ticket) {
			apply(t, s, ticket, 1, Reserved)
			require.NoError(t, s.BeginWithdrawal(t.Context(), "seller"))
			_, err := s.Withdraw(t.Context())
			require.NoError(t, err)
			_, err = list(t.Context(), s, of.ID, row8())
			require.ErrorIs(t, err, errPlaceListed)
			apply(t, s, ticket, 2, Available)
		},
		"with its show": func(t *testing.T, s *store, of events.Show, _ id.Ticket) {
			require.NoError(t, s.ApplyShow(t.Context(), showEvent(of.ID, 2, of.StartsAt.Time, events.ShowStatusCancelled)))
			_, err := s.FollowShows(t.Context())
			require.NoError(t, err)
		},
		"restored by a sale that is refunded": func(t *testing.T, s *store, of events.Show, ticket id.Ticket) {
			require.NoError(t, s.Delete(t.Context(), ticket, "seller", 0))
			apply(t, s, ticket, 2, Sold)
			_, err := list(t.Context(), s, of.ID, row8())
			require.ErrorIs(t, err, errPlaceListed)
			apply(t, s, ticket, 3, Withheld)
		},
	} {
		t.Run(name, func(t *testing.T) {
			sidecar := statetest.New()
			s := newReplica(t, sidecar, "one", clock.System)
			of := newShow(t, s)
			ticket := mustList(t, s, of.ID, row8())
			require.Equal(t, ticket.ID, holderOf(t, sidecar, row8().key(of.ID)))
			end(t, s, of, ticket.ID)
			require.True(t, stored(t, s, ticket.ID).Deleted)
			require.Empty(t, holderOf(t, sidecar, row8().key(of.ID)))
		})
	}
}

// A seller deletes a ticket that is sold already, and lists its place again, before this service has the sale.
func TestPlacement_ALateSaleOfAPlaceThatIsListedAgainIsRevoked(t *testing.T) {
	sidecar := statetest.New()
	s := newReplica(t, sidecar, "one", clock.System)
	of := newShow(t, s)
	sold := mustList(t, s, of.ID, row8())
	require.NoError(t, s.Delete(t.Context(), sold.ID, "seller", 0))
	again := mustList(t, s, of.ID, row8())
	apply(t, s, sold.ID, 2, Sold)

	require.Equal(t, again.ID, holderOf(t, sidecar, row8().key(of.ID)))
	revoked := stored(t, s, sold.ID)
	require.True(t, revoked.Deleted)
	event, _ := revoked.Event().(events.TicketDeleted)
	require.True(t, event.Revoked)
	require.Equal(t, id.Order("order-1"), event.OrderID)
	require.Eventually(t, func() bool {
		return slices.ContainsFunc(sidecar.Published(), func(e events.Event) bool {
			id, version := event.Aggregate()
			return e.Subject == id && e.Type == "ticket.deleted" && version == 3 && strings.Contains(string(e.Data), `"revoked":true`)
		})
	}, 5*time.Second, time.Millisecond)

	require.NoError(t, s.Delete(t.Context(), again.ID, "seller", 0))
	apply(t, s, sold.ID, 3, Available)
	require.True(t, stored(t, s, sold.ID).Deleted, "for ever")
	require.Empty(t, holderOf(t, sidecar, row8().key(of.ID)))
}

// A listing was decided before the show is cancelled, and is committed after a pass over the show's tickets.
func TestFollowShows_AListingThatRacesWithTheCancellation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newReplica(t, statetest.New(), "one", clock.System)
		of := newShow(t, s)
		early := mustList(t, s, of.ID, nil)
		change, late, err := s.Create("seller", Listing{Offer: Offer{Price: 4500}, ShowID: of.ID, Place: row8()})(t.Context())
		require.NoError(t, err)
		for range 2 { // a redelivery
			require.NoError(t, s.ApplyShow(t.Context(), showEvent(of.ID, 2, of.StartsAt.Time, events.ShowStatusCancelled)))
		}
		follow := func() int {
			changed, err := s.FollowShows(t.Context())
			require.NoError(t, err)
			return changed
		}
		require.Equal(t, 1, follow())
		require.True(t, stored(t, s, early.ID).Revoked)
		require.NoError(t, s.documents.Commit(t.Context(), change))
		require.False(t, stored(t, s, late.ID).Deleted)
		require.Equal(t, 1, follow())
		require.True(t, stored(t, s, late.ID).Revoked)
		_, err = list(t.Context(), s, of.ID, nil)
		require.ErrorIs(t, err, errShowCancelled)

		time.Sleep(listingTime + time.Second)
		require.Zero(t, follow())
		doc, err := state.Get[following](t.Context(), s.documents, followingKey)
		require.NoError(t, err)
		require.Empty(t, doc.Value.Shows)
	})
}

func TestFollowShows_AMovedShowChangesItsTicketsAlone(t *testing.T) {
	sidecar := statetest.New()
	s := newReplica(t, sidecar, "one", clock.System)
	of, other := newShow(t, s), newShow(t, s)
	var tickets []Ticket
	for range 450 { // more than a page
		tickets = append(tickets, mustList(t, s, of.ID, nil))
	}
	apply(t, s, tickets[7].ID, 2, Sold)
	elsewhere, without := mustList(t, s, other.ID, nil), create(t, s, "seller")
	moved := of.StartsAt.Add(-time.Hour)
	require.NoError(t, s.ApplyShow(t.Context(), showEvent(of.ID, 2, moved, events.ShowStatusScheduled)))
	changed, err := s.FollowShows(t.Context())
	require.NoError(t, err)
	require.Equal(t, 450, changed)
	for _, ticket := range tickets {
		now := stored(t, s, ticket.ID)
		require.Equal(t, moved, now.SalesEndAt)
		require.IsType(t, events.TicketUpdated{}, now.Event())
	}
	require.Equal(t, Sold, stored(t, s, tickets[7].ID).Status)
	require.Equal(t, elsewhere, stored(t, s, elsewhere.ID))
	require.Equal(t, without, stored(t, s, without.ID))
	changed, err = s.FollowShows(t.Context())
	require.NoError(t, err)
	require.Zero(t, changed)
}

// The pass of one process fails; another process goes on, also with the other shows.
func TestFollowShows_AFailedPassIsRepeated(t *testing.T) {
	sidecar := statetest.New()
	var broken atomic.Value
	broken.Store("")
	sidecar.BeforeCommit = func(operations []*client.StateOperation) error {
		for _, op := range operations {
			if key := broken.Load().(string); key != "" && op.Item.Key == key {
				return errors.New("away")
			}
		}
		return nil
	}
	s, other := newReplica(t, sidecar, "one", clock.System), newReplica(t, sidecar, "two", clock.System)
	of, second := newShow(t, s), newShow(t, s)
	ticket, more := mustList(t, s, of.ID, nil), mustList(t, s, second.ID, nil)
	for _, show := range []events.Show{of, second} {
		require.NoError(t, s.ApplyShow(t.Context(), showEvent(show.ID, 2, show.StartsAt.Time, events.ShowStatusCancelled)))
	}
	broken.Store(ticketKey(ticket.ID))
	failing, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := s.FollowShows(failing)
	require.Error(t, err)
	broken.Store("")
	require.Eventually(t, func() bool {
		_, err := other.FollowShows(t.Context())
		return err == nil && stored(t, other, ticket.ID).Revoked && stored(t, other, more.ID).Revoked
	}, 5*time.Second, time.Millisecond)
}

func TestUpdate_IsBoundedByTheCapOfTheShowAsItIsNow(t *testing.T) {
	s := newReplica(t, statetest.New(), "one", clock.System)
	of := newShow(t, s)
	ticket := mustList(t, s, of.ID, nil)
	capped := showEvent(of.ID, 2, of.StartsAt.Time, events.ShowStatusScheduled)
	capped.MaxMarkup = percent(10)
	require.NoError(t, s.ApplyShow(t.Context(), capped))
	_, err := s.Update(t.Context(), ticket.ID, "seller", 0, Offer{Price: 4951})
	require.ErrorIs(t, err, errAboveCap)
	updated, err := s.Update(t.Context(), ticket.ID, "seller", 0, Offer{Price: 4950})
	require.NoError(t, err)
	require.EqualValues(t, 4950, updated.Price)
}

// During an update a process of the previous release reads documents of this one. It reads tickets without a show as before. One with a show it
// refuses, because a change by it would lose the show, the place and the revocation.
func TestDocuments_ThePreviousReleaseRefusesATicketWithAShow(t *testing.T) {
	type previous struct { // has no Upgrader, so it reads format 1 alone
		Schema int       `json:"schema"`
		ID     id.Ticket `json:"id"`
	}
	s := newReplica(t, statetest.New(), "one", clock.System)
	without, with := create(t, s, "seller"), mustList(t, s, newShow(t, s).ID, row8())
	change := func(ticket id.Ticket) error {
		_, err := state.Modify(t.Context(), s.documents, ticketKey(ticket), func(*previous, *state.Change) (bool, error) { return true, nil })
		return err
	}
	require.NoError(t, change(without.ID))
	require.Equal(t, problem.Unavailable, problem.KindOf(change(with.ID)))
	require.Equal(t, with, stored(t, s, with.ID), "nothing is lost")
}
