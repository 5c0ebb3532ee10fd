package main

import (
	"regexp"
	"strings"
	"time"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/problem"
)

// User is somebody who has signed up. Its email never changes.
type User struct {
	Schema       int       `json:"schema"`
	ID           string    `json:"id"`
	Email        string    `json:"email"` // normal, see ParseEmail
	PasswordHash string    `json:"passwordHash"`
	Version      int       `json:"version"`
	CreatedAt    time.Time `json:"createdAt"`
}

var (
	errEmailInUse  = problem.New(problem.Conflict, "This email is in use. Sign in with it, or choose another.").WithField("email").WithCode("email_in_use")
	errCredentials = problem.New(problem.Unauthorized, "Email or password is wrong.").WithCode("invalid_credentials")
	errEmail       = problem.New(problem.Invalid, "Email must be an email address, like ada@example.com.").WithField("email").WithCode("email")
	errTooShort    = problem.New(problem.Invalid, "Password must be at least 8 characters long.").WithField("password").WithCode("min")
	errTooLong     = problem.New(problem.Invalid, "Password must be at most 72 bytes long; letters beyond a to z may take several.").WithField("password").WithCode("max")
)

// SignUp makes a user of valid parts.
func SignUp(id, email, passwordHash string, now time.Time) User {
	return User{Schema: 1, ID: id, Email: email, PasswordHash: passwordHash, Version: 1, CreatedAt: now}
}

// Created is the event that tells of the user. It holds nothing of the password.
func (u User) Created() events.UserCreated {
	return events.UserCreated{User: events.User{ID: u.ID, Email: u.Email, Version: u.Version, CreatedAt: u.CreatedAt}}
}

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
