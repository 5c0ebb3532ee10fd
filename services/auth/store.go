package main

import (
	"context"
	"errors"
	"net/url"
	"time"

	"github.com/google/uuid"

	"boxoffice/services/internal/state"
)

// The documents of this service:
//
//	user/{id}      User
//	email/{email}  emailOwner; the email in its normal form. It is created together with its user, so that no
//	               email can have two.
func userKey(id string) string { return "user/" + id }

// emailKey escapes what keys may not hold: an email may have a "/" or "||".
func emailKey(email string) string { return "email/" + url.PathEscape(email) }

type emailOwner struct {
	Schema int    `json:"schema"`
	UserID string `json:"userId"`
}

// accounts is where users are kept.
type accounts struct {
	store     *state.Store
	passwords *passwords
	attempts  *attempts
}

// SignUp adds a user. It returns errEmailInUse if somebody has the email.
func (a *accounts) SignUp(ctx context.Context, email, password string) (User, error) {
	// Asked first, to spare the work of hashing; what decides is the commit.
	_, err := state.Get[emailOwner](ctx, a.store, emailKey(email))
	switch {
	case err == nil:
		return User{}, errEmailInUse
	case !errors.Is(err, state.ErrNotFound):
		return User{}, err
	}
	hash, err := a.passwords.Hash(ctx, password)
	if err != nil {
		return User{}, err
	}
	user := SignUp(uuid.Must(uuid.NewV7()).String(), email, hash, now())
	var change state.Change
	change.Create(userKey(user.ID), user)
	change.Create(emailKey(email), emailOwner{Schema: 1, UserID: user.ID})
	change.Emit(ctx, user.Created())
	err = a.store.Commit(ctx, &change)
	if errors.Is(err, state.ErrConflict) {
		return User{}, errEmailInUse.Because(err)
	}
	return user, err
}

// nobody is the id that stands for the user of an email that nobody has.
const nobody = "00000000-0000-0000-0000-000000000000"

// SignIn finds the user of an email and a password. It returns errCredentials if there is none, and does not
// tell which of the two is wrong: not by its answer, and not by its time, for it reads and computes the same
// for an email that nobody has.
func (a *accounts) SignIn(ctx context.Context, email, password string) (User, error) {
	owner, err := state.Get[emailOwner](ctx, a.store, emailKey(email))
	if errors.Is(err, state.ErrNotFound) {
		owner.Value.UserID, err = nobody, nil
	}
	if err != nil {
		return User{}, err
	}
	user, err := state.Get[User](ctx, a.store, userKey(owner.Value.UserID))
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return User{}, err
	}
	right, err := a.passwords.Match(ctx, user.Value.PasswordHash, password, func(match func() bool) (bool, error) {
		return a.attempts.Try(email, time.Now(), match)
	})
	switch {
	case err != nil:
		return User{}, err
	case !right:
		return User{}, errCredentials
	}
	return user.Value, nil
}

// User reads a user; found is false if there is none.
func (a *accounts) User(ctx context.Context, id string) (user User, found bool, err error) {
	doc, err := state.Get[User](ctx, a.store, userKey(id))
	if errors.Is(err, state.ErrNotFound) {
		return User{}, false, nil
	}
	return doc.Value, err == nil, err
}

// now is the time as documents hold it.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
