package main

import (
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-playground/validator/v10"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/rest"
)

// This file is the whole life of a show. Its owner announces it, and alone may change it, until it starts:
//
//	         Announce
//	            │
//	            ▼
//	       scheduled ──┐ Update, SetImage, RemoveImage
//	        │   │  ▲   │
//	        │   │  └───┘
//	 Cancel │   │ startsAt
//	        ▼   ▼
//	cancelled   started: the owner cannot change it any more
//
// If the owner's account is deleted before the start, nobody could check in the show's buyers: CancelWithAccount cancels it.
//
// Each change is published, with the whole show. What follows from it is decided elsewhere:
//
//   - tickets lists tickets for the show, while it is scheduled and has not started; sales end when it starts. If its start moves,
//     tickets moves the end of sales. If it is cancelled, tickets withdraws its listings, and orders and payments give the
//     buyers' money back.
//   - this service's read model (folders index and feed) has the show with what is left of its tickets.

// showSchema is the format of the shows that this release writes.
const showSchema = 1

// Show is the stored show. The document of a cancelled show is kept.
type Show struct {
	Schema int     `json:"schema"`
	ID     id.Show `json:"id"`
	Details
	Image     *Image  `json:"image,omitempty"`
	UserID    id.User `json:"userId"` // the owner
	Cancelled bool    `json:"cancelled,omitempty"`
	// InOwnerIndex: the show has an entry in the index of its owner's shows. A show of the previous release has none at first.
	InOwnerIndex bool      `json:"inOwnerIndex,omitempty"`
	Version      int       `json:"version"`
	CreatedAt    time.Time `json:"createdAt"`
	UpdatedAt    time.Time `json:"updatedAt"`
}

// Details are the part of a show that its owner decides, except the image.
type Details struct {
	Name        string    `json:"name"`
	Venue       string    `json:"venue"`
	City        string    `json:"city"`
	Country     string    `json:"country"` // ISO 3166-1 alpha-2
	StartsAt    time.Time `json:"startsAt"`
	TimeZone    string    `json:"timeZone"` // of the venue, a name of the IANA database
	Category    string    `json:"category"`
	Description string    `json:"description,omitempty"`
	// MaxMarkup is by how many percent a ticket's price may exceed its face value; nil is by any.
	MaxMarkup *int `json:"maxMarkup,omitempty"`
}

// ExpectedVersion is the version on which an owner's change is based; 0 means any.
type ExpectedVersion int

var (
	errNoShow    = problem.New(problem.NotFound, "not_found", "There is no such show.")
	errNotYours  = problem.New(problem.Forbidden, "not_owner", "This show belongs to somebody else.")
	errCancelled = problem.New(problem.Conflict, "show_cancelled", "This show is cancelled; it cannot be changed any more.")
	errStarted   = problem.New(problem.Conflict, "show_started", "This show has started; it cannot be changed any more.")
	errStale     = problem.New(problem.Conflict, "stale_version", "This show has changed since you read it. Read it again, then repeat your change on what it is now.").WithField("version")
	errPast      = problem.New(problem.Invalid, "min", "Starts at must be in the future.").WithField("startsAt")
	errFarAhead  = problem.New(problem.Invalid, "max", "Starts at must be at most %d years ahead.", maxYearsAhead).WithField("startsAt")
)

const (
	// maxYearsAhead bounds when a show starts.
	maxYearsAhead = 3
	// longestDescription is in characters.
	longestDescription = 2000
	// longestTimeZone is longer than the name of any zone.
	longestTimeZone = 64
)

// categories are the kinds of shows. A further one needs no new schema of the events: readers bear any word.
var categories = []string{"music", "theatre", "comedy", "dance", "sport", "family", "festival", "other"}

// Announce makes a show. The error is that of checkStart.
func Announce(show id.Show, owner id.User, details Details, now time.Time) (Show, error) {
	if err := details.checkStart(now); err != nil {
		return Show{}, err
	}
	return Show{Schema: showSchema, ID: show, Details: details, UserID: owner, InOwnerIndex: true, Version: 1, CreatedAt: now, UpdatedAt: now}, nil
}

// Update replaces the details, if checkOwner allows it. It changes nothing if they are the same.
func (s *Show) Update(owner id.User, expected ExpectedVersion, details Details, now time.Time) (changed bool, err error) {
	if err := s.checkOwner(owner, expected, now); err != nil {
		return false, err
	}
	if err := details.checkStart(now); err != nil {
		return false, err
	}
	if s.Details.equal(details) {
		return false, nil
	}
	s.Details = details
	s.change(now)
	return true, nil
}

// Cancel ends the show, if checkOwner allows it. It changes nothing if the show is cancelled already.
func (s *Show) Cancel(owner id.User, expected ExpectedVersion, now time.Time) (changed bool, err error) {
	if s.Cancelled && s.UserID == owner {
		return false, nil
	}
	if err := s.checkOwner(owner, expected, now); err != nil {
		return false, err
	}
	s.Cancelled = true
	s.change(now)
	return true, nil
}

// CancelWithAccount ends the show because its owner's account was deleted. It changes nothing if the show is cancelled already or has
// started.
func (s *Show) CancelWithAccount(now time.Time) (changed bool) {
	if s.Cancelled || s.hasStarted(now) {
		return false
	}
	s.Cancelled = true
	s.change(now)
	return true
}

// SetImage replaces the image, if checkOwner allows it. It changes nothing if the show has an image with the same content.
func (s *Show) SetImage(owner id.User, expected ExpectedVersion, image Image, now time.Time) (changed bool, err error) {
	if err := s.checkOwner(owner, expected, now); err != nil {
		return false, err
	}
	if s.Image != nil && s.Image.Digest == image.Digest {
		return false, nil
	}
	s.Image = &image
	s.change(now)
	return true, nil
}

// RemoveImage removes the image, if checkOwner allows it. It changes nothing if there is none.
func (s *Show) RemoveImage(owner id.User, expected ExpectedVersion, now time.Time) (changed bool, err error) {
	if err := s.checkOwner(owner, expected, now); err != nil || s.Image == nil {
		return false, err
	}
	s.Image = nil
	s.change(now)
	return true, nil
}

// checkOwner refuses changes by another user (errNotYours), of a cancelled (errCancelled) or started show (errStarted), and changes
// based on another version than the show's (errStale).
func (s *Show) checkOwner(user id.User, expected ExpectedVersion, now time.Time) error {
	switch {
	case s.UserID != user:
		return errNotYours
	case s.Cancelled:
		return errCancelled
	case s.hasStarted(now):
		return errStarted
	case expected != 0 && int(expected) != s.Version:
		return errStale
	}
	return nil
}

func (s *Show) hasStarted(now time.Time) bool { return !now.Before(s.StartsAt) }

func (s *Show) change(now time.Time) {
	s.Version++
	s.UpdatedAt = now
}

// Event is the event of the show's last change. Each version has one.
func (s *Show) Event() events.Payload {
	switch show := s.public(); {
	case s.Cancelled:
		return events.ShowCancelled{Show: show}
	case s.Version == 1:
		return events.ShowCreated{Show: show}
	default:
		return events.ShowUpdated{Show: show}
	}
}

// public is the show as it is published.
func (s *Show) public() events.Show {
	show := events.Show{
		ID:          s.ID,
		Name:        s.Name,
		Venue:       s.Venue,
		City:        s.City,
		Country:     s.Country,
		StartsAt:    clock.Stamp(s.StartsAt),
		TimeZone:    s.TimeZone,
		Category:    s.Category,
		Description: s.Description,
		MaxMarkup:   s.MaxMarkup,
		Status:      events.ShowStatusScheduled,
		UserID:      s.UserID,
		Version:     s.Version,
		CreatedAt:   clock.Stamp(s.CreatedAt),
		UpdatedAt:   clock.Stamp(s.UpdatedAt),
	}
	if s.Image != nil {
		show.Image = &events.ShowImage{URL: s.imagePath(), Width: s.Image.Width, Height: s.Image.Height}
	}
	if s.Cancelled {
		show.Status = events.ShowStatusCancelled
	}
	return show
}

// imagePath is where the gateway serves the image.
func (s *Show) imagePath() string {
	return "/api/shows/" + string(s.ID) + "/images/" + string(s.Image.ID)
}

func (d Details) equal(other Details) bool {
	sameMarkup := d.MaxMarkup == other.MaxMarkup ||
		d.MaxMarkup != nil && other.MaxMarkup != nil && *d.MaxMarkup == *other.MaxMarkup
	sameStart := d.StartsAt.Equal(other.StartsAt)
	d.MaxMarkup, d.StartsAt = other.MaxMarkup, other.StartsAt
	return sameMarkup && sameStart && d == other
}

// checkStart refuses a start that is not in the future (errPast), or too far in it (errFarAhead).
func (d Details) checkStart(now time.Time) error {
	switch {
	case !d.StartsAt.After(now):
		return errPast
	case d.StartsAt.After(now.AddDate(maxYearsAhead, 0, 0)):
		return errFarAhead
	}
	return nil
}

// Check refuses details that no show can have, whatever the time is; nil if there is nothing to refuse. The lengths of the short texts
// are checked when a request is decoded (api.go).
func (d Details) Check() *problem.Error {
	var refused *problem.Error
	refuse := func(field, code, format string, args ...any) {
		p := problem.New(problem.Invalid, code, format, args...).WithField(field)
		if refused != nil {
			p = refused.And(p)
		}
		refused = p
	}
	if !isCountry(d.Country) {
		refuse("country", "invalid", "Country must be a code of ISO 3166-1 alpha-2, for example DE.")
	}
	if !isTimeZone(d.TimeZone) {
		refuse("timeZone", "invalid", "Time zone must be a name of the IANA time zone database, for example Europe/Berlin.")
	}
	if !slices.Contains(categories, d.Category) {
		refuse("category", "invalid", "Category must be one of %s.", strings.Join(categories, ", "))
	}
	switch {
	case utf8.RuneCountInString(d.Description) > longestDescription:
		refuse("description", "max", "Description must be at most %d characters long.", longestDescription)
	case !rest.Printable(strings.ReplaceAll(d.Description, "\n", "")):
		refuse("description", "printable", "Description must not have control characters other than line ends, or characters that change the direction of text.")
	}
	return refused
}

var rules = validator.New(validator.WithRequiredStructEnabled())

func isCountry(code string) bool { return rules.Var(code, "required,iso3166_1_alpha2") == nil }

// zoneName are the names of places, and a few others such as UTC. It excludes what is only in some copies of the database, such as
// posix/Europe/Berlin, and names that Go reads as something else.
var zoneName = regexp.MustCompile(`^[A-Z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$`)

// isTimeZone reports whether the process knows a zone. The program has a copy of the database (main.go), so the host needs none.
func isTimeZone(name string) bool {
	if len(name) > longestTimeZone || !zoneName.MatchString(name) || name == "Local" {
		return false
	}
	_, err := time.LoadLocation(name)
	return err == nil
}
