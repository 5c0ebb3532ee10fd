package main

import (
	"cmp"
	"slices"
	"time"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
)

// This file has the rules of tickets that are for a show. The catalogue service owns shows. Only a show's owner lists its
// tickets, until it starts. The show's cap bounds their prices when they are set. A show that is moved or cancelled changes
// its tickets (Ticket.Follow).

// showSchema is the format of the shows that this release writes.
const showSchema = 1

// Show is the projection of a show. Its document is never deleted.
type Show struct {
	Schema    int       `json:"schema"`
	ID        id.Show   `json:"id"`
	Name      string    `json:"name"`
	UserID    id.User   `json:"userId"` // the owner
	StartsAt  time.Time `json:"startsAt"`
	MaxMarkup *int      `json:"maxMarkup,omitempty"` // by how many percent a price may exceed the face value; nil: any
	Cancelled bool      `json:"cancelled,omitempty"`
	Version   int       `json:"version"`
}

var (
	errNoShow = problem.New(problem.NotFound, "show_not_found", "There is no such show.").WithField("showId")
	// errShowNotYetKnown is for a show that may exist: its event may be on its way.
	errShowNotYetKnown = problem.New(problem.Unavailable, "not_yet_known", "This show is so new that tickets may not know it yet. Nothing was changed: send the same request again.").WithField("showId")
	errNotYourShow     = problem.New(problem.Forbidden, "not_show_owner", "This show belongs to somebody else; only its owner lists its tickets.").WithField("showId")
	errShowStarted     = problem.New(problem.Conflict, "show_started", "This show has started; its tickets cannot be listed any more.").WithField("showId")
	errSalesEnded      = problem.New(problem.Conflict, "show_started", "This show has started; its tickets cannot be changed any more.")
	errShowCancelled   = problem.New(problem.Conflict, "show_cancelled", "This show is cancelled; its tickets cannot be listed.").WithField("showId")
	errTitleRequired   = problem.New(problem.Invalid, "required", "Title is required for a ticket without a show.").WithField("title")
	errNoFaceValue     = problem.New(problem.Invalid, "invalid", "This ticket has no show, so it has no face value.").WithField("faceValue")
	// errAboveCap has a member more in the response: maxPrice, the highest price that the cap allows.
	errAboveCap = problem.New(problem.Conflict, "price_above_cap", "The price is above the show's cap, which counts from the ticket's face value. maxPrice is the highest price.").WithField("price")
)

// errUnknownShow is the refusal of a show that is not in the store: errShowNotYetKnown if the show is young, else errNoShow.
func errUnknownShow(show id.Show, now time.Time) error {
	if id.IsYoung(show, now) {
		return errShowNotYetKnown
	}
	return errNoShow
}

// Apply applies an event of the show, if it is newer.
func (s *Show) Apply(event events.Show) (changed bool) {
	if event.Version <= s.Version {
		return false
	}
	*s = Show{
		Schema:    showSchema,
		ID:        event.ID,
		Name:      event.Name,
		UserID:    event.UserID,
		StartsAt:  event.StartsAt.Time,
		MaxMarkup: event.MaxMarkup,
		Cancelled: event.Status == events.ShowStatusCancelled,
		Version:   event.Version,
	}
	return true
}

// ConcernsTickets reports whether tickets that were listed when the show was as before must follow it.
func (s *Show) ConcernsTickets(before Show) bool {
	return before.Version > 0 && (s.Cancelled != before.Cancelled || !s.StartsAt.Equal(before.StartsAt))
}

// CheckPrice refuses (errAboveCap) a price that is above the show's cap.
func (s *Show) CheckPrice(price, faceValue int64) error {
	if s.MaxMarkup == nil {
		return nil
	}
	highest := faceValue * (100 + int64(*s.MaxMarkup)) / 100
	if price > highest {
		return errAboveCap.WithMember("maxPrice", highest)
	}
	return nil
}

// checkListing refuses listings by another user than the owner (errNotYourShow), and of a show that is cancelled
// (errShowCancelled) or has started (errShowStarted).
func (s *Show) checkListing(seller id.User, now time.Time) error {
	switch {
	case s.UserID != seller:
		return errNotYourShow
	case s.Cancelled:
		return errShowCancelled
	case !now.Before(s.StartsAt):
		return errShowStarted
	}
	return nil
}

// CreateForShow makes a ticket of a show, if checkListing and CheckPrice allow it. The title is the show's name, and the face
// value the price, unless the offer has others. The place may be nil.
func CreateForShow(ticket id.Ticket, show Show, seller id.User, currency string, offer Offer, place *Place, now time.Time) (Ticket, error) {
	if err := show.checkListing(seller, now); err != nil {
		return Ticket{}, err
	}
	offer.Title = cmp.Or(offer.Title, show.Name)
	offer.FaceValue = cmp.Or(offer.FaceValue, offer.Price)
	if err := show.CheckPrice(offer.Price, offer.FaceValue); err != nil {
		return Ticket{}, err
	}
	t := Create(ticket, seller, currency, offer, now)
	t.Schema = showTicketSchema
	t.ShowID = show.ID
	t.Place = place
	t.FaceValue = offer.FaceValue
	t.SalesEndAt = show.StartsAt
	return t, nil
}

// Follow changes the ticket if its show was moved or cancelled, whatever the ticket's status. Each change has an event. Of a
// deleted ticket the deletion stays the last event, unless the show was cancelled: a late sale could restore it, so that it is revoked too.
func (t *Ticket) Follow(show Show, now time.Time) (changed bool) {
	switch {
	case t.Revoked:
		return false
	case show.Cancelled:
		t.change(now)
		t.revoke()
		return true
	case t.SalesEndAt.Equal(show.StartsAt):
		return false
	}
	t.SalesEndAt = show.StartsAt
	t.change(now)
	if !t.Deleted && !t.Withdrawn {
		t.ListedVersion = t.Version
	}
	return true
}

// LosePlace revokes a ticket that a late sale has restored, because another ticket has its place by now.
func (t *Ticket) LosePlace() { t.revoke() }

// revoke makes the ticket void: it stays deleted, and the order that has it is cancelled.
func (t *Ticket) revoke() {
	t.Deleted, t.Revoked, t.Ending = true, true, false
	t.ListedVersion = t.Version
}

// followingSchema is the format of the document that this release writes.
const followingSchema = 1

// following is the document of the shows whose tickets are being changed, because the show was moved or cancelled.
type following struct {
	Schema int            `json:"schema"`
	Shows  []followedShow `json:"shows"`
}

// followedShow is a show, and when this service received its last change.
type followedShow struct {
	ShowID id.Show   `json:"showId"`
	At     time.Time `json:"at"`
}

// Add adds a show, or its last change.
func (f *following) Add(show id.Show, now time.Time) {
	f.Schema = followingSchema
	f.Shows = slices.DeleteFunc(f.Shows, func(s followedShow) bool { return s.ShowID == show })
	f.Shows = append(f.Shows, followedShow{show, now})
}

// Finish removes the shows of a pass that began when every listing decided on the show as it was before had ended.
func (f *following) Finish(passed []followedShow, began time.Time) (changed bool) {
	before := len(f.Shows)
	f.Shows = slices.DeleteFunc(f.Shows, func(s followedShow) bool {
		return began.Sub(s.At) > listingTime && slices.ContainsFunc(passed, func(p followedShow) bool { return p.ShowID == s.ShowID && p.At.Equal(s.At) })
	})
	return len(f.Shows) < before
}
