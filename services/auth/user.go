package main

import (
	"regexp"
	"strings"
	"time"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/problem"
)

// User is somebody who has signed up. The email never changes. A user who was changed since is in schema 2: a process of the
// release before, which knows nothing of epochs, leaves it alone.
type User struct {
	Schema       int    `json:"schema"`
	ID           string `json:"id"`
	Email        string `json:"email,omitempty"` // normal, see ParseEmail
	PasswordHash string `json:"passwordHash,omitempty"`
	// Epoch counts how often all of the user's tokens and sessions were ended. Those of an earlier epoch are refused.
	Epoch     int       `json:"epoch,omitempty"`
	Version   int       `json:"version"`
	CreatedAt time.Time `json:"createdAt"`
	// DeletedAt is when the account was deleted. What is left of it then is its id and its times.
	DeletedAt time.Time `json:"deletedAt,omitzero"`
}

// Newest and Upgrade make User a state.Upgrader.
func (u *User) Newest() int { return 2 }

// Upgrade has nothing to do: members that schema 1 lacks are zero there.
func (u *User) Upgrade(int) error { return nil }

var (
	errEmailInUse  = problem.New(problem.Conflict, "This email is in use. Sign in with it, or choose another.").WithField("email").WithCode("email_in_use")
	errCredentials = problem.New(problem.Unauthorized, "Email or password is wrong.").WithCode("invalid_credentials")
	errPassword    = problem.New(problem.Forbidden, "The password is wrong.").WithCode("wrong_password")
	errUnsettled   = problem.New(problem.Conflict, "You have orders that are not settled: a reservation that is not paid yet, or a payment under way. Pay or cancel them, or try again later.").WithCode("orders_unsettled")
	errChanged     = problem.New(problem.Conflict, "Your account was changed at the same moment. Sign in again.").WithCode("account_changed")
	errEmail       = problem.New(problem.Invalid, "Email must be an email address, like ada@example.com.").WithField("email").WithCode("email")
	errTooShort    = problem.New(problem.Invalid, "Password must be at least 8 characters long.").WithField("password").WithCode("min")
	errTooLong     = problem.New(problem.Invalid, "Password must be at most 72 bytes long; letters beyond a to z may take several.").WithField("password").WithCode("max")
)

// SignUp makes a user of valid parts.
func SignUp(id, email, passwordHash string, now time.Time) User {
	return User{Schema: 1, ID: id, Email: email, PasswordHash: passwordHash, Version: 1, CreatedAt: now}
}

// Deleted says whether the account was deleted.
func (u User) Deleted() bool { return !u.DeletedAt.IsZero() }

// Admits says whether tokens and sessions of that epoch are still good.
func (u User) Admits(epoch int) bool { return !u.Deleted() && epoch >= u.Epoch }

// SignOutEverywhere ends all tokens and sessions of the user.
func (u User) SignOutEverywhere() User {
	u.Schema = 2
	u.Epoch++
	u.Version++
	return u
}

// ChangePassword ends all tokens and sessions as well: whoever knew the old password is out.
func (u User) ChangePassword(hash string) User {
	u = u.SignOutEverywhere()
	u.PasswordHash = hash
	return u
}

// Delete removes everything personal.
func (u User) Delete(now time.Time) User {
	u = u.SignOutEverywhere()
	u.Email, u.PasswordHash, u.DeletedAt = "", "", now
	return u
}

// event is what others learn of the user: nothing personal.
func (u User) event() events.User {
	return events.User{ID: u.ID, Version: u.Version, CreatedAt: u.CreatedAt}
}

// Created is the event of a new user.
func (u User) Created() events.UserCreated { return events.UserCreated{User: u.event()} }

// Gone is the event of a user whose account was deleted.
func (u User) Gone() events.UserDeleted { return events.UserDeleted{User: u.event()} }

// emailForm is that of the HTML standard (section "Email state"), which is what browsers let through, with the
// domain in at least two parts.
var emailForm = regexp.MustCompile("^[a-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)+$")

// longestEmail is what fits into an SMTP path (RFC 5321, section 4.5.3.1.3).
const longestEmail = 254

// ParseEmail returns the normal form of an email: without spaces around it, in lower case. Two that have the
// same normal form belong to one user.
func ParseEmail(raw string) (string, error) {
	email := strings.ToLower(strings.TrimSpace(raw))
	if len(email) > longestEmail || !emailForm.MatchString(email) {
		return "", errEmail
	}
	return email, nil
}

const (
	shortestPassword = 8
	// longestPassword is all that bcrypt takes in.
	longestPassword = 72
)

// CheckPassword says whether a password, in UTF-8, may be chosen. Every character of it counts, spaces too.
func CheckPassword(password string) error {
	switch {
	case len(password) < shortestPassword:
		return errTooShort
	case len(password) > longestPassword:
		return errTooLong
	}
	return nil
}
