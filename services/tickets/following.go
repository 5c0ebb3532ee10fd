package main

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/reconcile"
	"boxoffice/services/internal/service"
	"boxoffice/services/internal/state"
)

// When a show is moved or cancelled, its tickets follow in the background (Ticket.Follow). A pass reads all tickets of the
// show. A listing that was decided on the show as it was before may be committed after the pass has read the index, so passes are repeated
// until every such request has ended. If a process ends, another goes on from the document. The daily reconciliation makes
// one more pass, for a process that stood still for longer than any request takes.

// followingKey is the key of the document.
const followingKey = "following"

// changedShows is the kind under which moved and cancelled shows are noted for reconciliation.
const changedShows = "shows"

const (
	// listingTime is how long a listing may take, from the read of its show to the commit: a request ends after 15 s, and its
	// commit soon after.
	listingTime = 2 * time.Minute
	// followAtOnce bounds the tickets that are changed at the same time. They share transactions, and other requests must
	// not wait for long.
	followAtOnce = 32
)

// followPace bounds how much of the time a process reads tickets of changed shows.
var followPace = service.Pace{Period: 20 * time.Second, Pause: time.Second, Share: 4}

// ApplyShow applies an event of a show to its projection. If the show was moved or cancelled, its tickets follow.
func (s *store) ApplyShow(ctx context.Context, event events.Show) error {
	follow, err := state.Decide(ctx, s.documents, func(ctx context.Context) (*state.Change, bool, error) {
		show, followed, err := state.GetBoth[Show, following](ctx, s.documents, showKey(event.ID), followingKey)
		if err != nil {
			return nil, false, err
		}
		before := show.Value
		if !show.Value.Apply(event) {
			return nil, false, nil
		}
		change := &state.Change{}
		change.Put(show.Key, show.ETag, show.Value)
		follow := show.Value.ConcernsTickets(before)
		if follow {
			now := s.clock()
			followed.Value.Add(event.ID, now)
			change.Put(followed.Key, followed.ETag, followed.Value)
			change.Note(changedShows, string(event.ID), now, now)
		}
		return change, follow, nil
	})
	if err == nil && follow {
		select {
		case s.followNow <- struct{}{}:
		default: // a pass is due already
		}
	}
	return err
}

// RunFollowing lets tickets follow their shows until ctx ends.
func (s *store) RunFollowing(ctx context.Context) error {
	service.Repeat(ctx, followPace, s.followNow, func() {
		changed, err := s.FollowShows(ctx)
		if err != nil && ctx.Err() == nil {
			s.log.Warn("could not change the tickets of moved or cancelled shows; trying again", "error", err)
		}
		if changed > 0 {
			s.log.Info("changed the tickets of moved or cancelled shows", "tickets", changed)
		}
	})
	return nil
}

// FollowShows makes one pass over the tickets of each show that has changed, and returns how many tickets it has changed.
// Any number of processes may do so at the same time.
func (s *store) FollowShows(ctx context.Context) (changed int, err error) {
	followed, err := state.Get[following](ctx, s.documents, followingKey)
	if errors.Is(err, state.ErrNotFound) || err == nil && len(followed.Value.Shows) == 0 {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	began := s.clock()
	var passed []followedShow
	var failed []error
	for _, show := range followed.Value.Shows {
		n, err := s.followShow(ctx, show.ShowID)
		changed += n
		if err != nil {
			failed = append(failed, err)
			continue
		}
		passed = append(passed, show)
	}
	_, err = state.Modify(ctx, s.documents, followingKey, func(f *following, _ *state.Change) (bool, error) { return f.Finish(passed, began), nil })
	return changed, errors.Join(append(failed, err)...)
}

// followShow changes the tickets of one show that have not followed it yet, and returns how many those were.
func (s *store) followShow(ctx context.Context, id id.Show) (changed int, err error) {
	show, err := state.Get[Show](ctx, s.documents, showKey(id))
	if err != nil {
		return 0, err
	}
	for cursor, more := "", true; more; more = cursor != "" {
		var behind []Ticket
		behind, cursor, err = state.List(ctx, s.documents, ticketsOf(id), ticketsAtOnce, cursor, keyOfIndexed,
			func(t Ticket) bool { return t.Follow(show.Value, s.clock()) }) // of a copy
		if err != nil {
			return changed, err
		}
		var changing errgroup.Group
		changing.SetLimit(followAtOnce)
		for _, ticket := range behind {
			changing.Go(func() error {
				_, err := s.decide(ctx, ticket.ID, func(t *Ticket) (bool, error) { return t.Follow(show.Value, s.clock()), nil })
				return err
			})
		}
		if err := changing.Wait(); err != nil {
			return changed, err
		}
		changed += len(behind)
	}
	return changed, nil
}

// followRecent is the step of the reconciliation.
func (s *store) followRecent(ctx context.Context, p *reconcile.Pass) error {
	return s.documents.Recent(ctx, changedShows, p.Since(), s.clock(), func(shows []string) error {
		for _, show := range shows {
			if err := p.Renew(ctx); err != nil {
				return err
			}
			changed, err := s.followShow(ctx, id.Show(show))
			if err != nil {
				return err
			}
			p.Found("behind", changed)
		}
		return nil
	})
}
