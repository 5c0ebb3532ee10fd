package main

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
	"time"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/idempotency"
	"boxoffice/services/internal/problem"
)

const (
	// firstUserSchema is the format of users who were not changed since they signed up. The earlier release reads it, too.
	firstUserSchema = 1
	// userSchema is the newest format of users.
	userSchema = 2
)

// User is somebody who has signed up. The email never changes. A user who was changed is stored in userSchema: the earlier
// release, which has no epochs, refuses to change it.
type User struct {
	Schema       int     `json:"schema"`
	ID           id.User `json:"id"`
	Email        string  `json:"email,omitempty"` // in its normal form, see ParseEmail
	PasswordHash string  `json:"passwordHash,omitempty"`
	// SignUpKey is a digest of the Idempotency-Key of the sign-up, if there was one (see WasMadeWith). A process of the earlier
	// release drops it when it changes the user. So it does not need a schema: the same sign-up is then refused as any other.
	SignUpKey string `json:"signUpKey,omitempty"`
	// Epoch counts how often all tokens and sessions of the user were ended. Those of an earlier epoch are refused.
	Epoch     int       `json:"epoch,omitempty"`
	Version   int       `json:"version"`
	CreatedAt time.Time `json:"createdAt"`
	// DeletedAt is when the account was deleted. Only the id, the version and the times remain then.
	DeletedAt time.Time `json:"deletedAt,omitzero"`
}

// Newest and Upgrade make User a state.Upgrader.
func (u *User) Newest() int { return userSchema }

// Upgrade has nothing to do: members that firstUserSchema lacks are zero there.
func (u *User) Upgrade(int) error { return nil }

const passwordLength = "Password must be from 8 to 72 bytes long; letters beyond a to z may take several bytes."

var (
	errEmailInUse  = problem.New(problem.Conflict, "email_in_use", "This email is in use. Sign in with it, or choose another.").WithField("email")
	errCredentials = problem.New(problem.Unauthorized, "invalid_credentials", "Email or password is wrong.")
	errPassword    = problem.New(problem.Forbidden, "wrong_password", "The password is wrong.")
	errUnsettled   = problem.New(problem.Conflict, "orders_unsettled", "You have orders that are not settled: a reservation that is not paid yet, or a payment under way. Pay or cancel them, or wait until they are settled.")
	errChanged     = problem.New(problem.Conflict, "account_changed", "Your account was changed at the same moment, and not by this request. Sign in again.")
	errEmail       = problem.New(problem.Invalid, "email", "Email must be an email address, like ada@example.com.").WithField("email")
	errTooShort    = problem.New(problem.Invalid, "min", passwordLength).WithField("password")
	errTooLong     = problem.New(problem.Invalid, "max", passwordLength).WithField("password")
)

// SignUp makes a user. The email and the password were checked before. key is "" or from signUpKey.
func SignUp(user id.User, email, passwordHash, key string, now time.Time) User {
	return User{Schema: firstUserSchema, ID: user, Email: email, PasswordHash: passwordHash, SignUpKey: key, Version: 1, CreatedAt: now}
}

// signUpKey returns what a user keeps of the Idempotency-Key of the sign-up: a digest, or "" without a key.
func signUpKey(key string) string {
	if key == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// WasMadeWith reports whether a sign-up with this signUpKey made the user, not longer ago than a key is known. Then a sign-up with
// it repeats the first one.
func (u *User) WasMadeWith(key string, now time.Time) bool {
	return key != "" && u.SignUpKey == key && !u.IsDeleted() && now.Before(u.CreatedAt.Add(idempotency.KeptFor))
}

// IsDeleted reports whether the account was deleted.
func (u *User) IsDeleted() bool { return !u.DeletedAt.IsZero() }

// Accepts reports whether tokens and sessions of an epoch are valid.
func (u *User) Accepts(epoch int) bool { return !u.IsDeleted() && epoch >= u.Epoch }

// SignOutEverywhere ends all tokens and sessions of the user.
func (u *User) SignOutEverywhere() {
	u.Schema = userSchema
	u.Epoch++
	u.Version++
}

// ChangePassword also ends all tokens and sessions: somebody may have signed in with the old password. It returns errChanged if
// the password is not the one that the user has confirmed.
func (u *User) ChangePassword(confirmedHash, newHash string) error {
	if u.PasswordHash != confirmedHash {
		return errChanged
	}
	u.SignOutEverywhere()
	u.PasswordHash = newHash
	return nil
}

// Delete ends all tokens and sessions and removes the personal data.
func (u *User) Delete(now time.Time) {
	u.SignOutEverywhere()
	u.Email, u.PasswordHash, u.SignUpKey, u.DeletedAt = "", "", "", now
}

// Event is what other services get: user.created or user.deleted, without personal data. Other changes have no event.
func (u *User) Event() events.Payload {
	user := events.User{ID: u.ID, Version: u.Version, CreatedAt: clock.Stamp(u.CreatedAt)}
	if u.IsDeleted() {
		return events.UserDeleted{User: user}
	}
	return events.UserCreated{User: user}
}

// emailForm is that of the HTML standard (section "Email state"), which browsers use, and requires two parts of the domain.
var emailForm = regexp.MustCompile("^[a-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)+$")

// longestEmail is the longest that fits into an SMTP path (RFC 5321, section 4.5.3.1.3).
const longestEmail = 254

// ParseEmail returns the normal form of an email: in lower case, without spaces around it. Emails with the same normal form belong
// to one user. It is the only form that is stored and that responses have.
func ParseEmail(raw string) (string, error) {
	email := strings.ToLower(strings.TrimSpace(raw))
	if len(email) > longestEmail || !emailForm.MatchString(email) {
		return "", errEmail
	}
	return email, nil
}

const (
	shortestPassword = 8
	// longestPassword is all that bcrypt reads.
	longestPassword = 72
)

// CheckPassword returns an error if a password, in UTF-8, may not be chosen. Every character counts, also spaces.
func CheckPassword(password string) error {
	switch {
	case len(password) < shortestPassword:
		return errTooShort
	case len(password) > longestPassword:
		return errTooLong
	}
	return nil
}
