package main

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"time"

	"github.com/google/uuid"

	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/state"
)

// The documents of this service:
//
//	user/{id}         User
//	email/{email}     emailOwner; the email in its normal form. It is created together with its user, so that no
//	                  email can have two, and ends with the account.
//	session/{id}      Session, until it expires; the store removes it then
//	revoked/{number}  revokedPart, see revocations.go
func userKey(id string) string { return "user/" + id }

// emailKey escapes what keys may not hold: an email may have a "/" or "||".
func emailKey(email string) string { return "email/" + url.PathEscape(email) }

func sessionKey(id string) string { return "session/" + id }

type emailOwner struct {
	Schema int    `json:"schema"`
	UserID string `json:"userId"`
}

// accounts is where users are kept.
type accounts struct {
	store     *state.Store
	passwords *passwords
	attempts  *attempts
	revoked   *revocations
	orders    orders
	// sessionLifetime is how long a session lasts; 0: there are none, and a sign-in ends with its token.
	sessionLifetime time.Duration
	log             *slog.Logger
}

// signedInUser is a user with the session that a sign-in began, or that was refreshed. Without sessions the last two are zero.
type signedInUser struct {
	User
	Session Session
	Refresh refreshToken
}

// begin adds a new session of the user to a change.
func (a *accounts) begin(change *state.Change, u User, at time.Time) signedInUser {
	if a.sessionLifetime == 0 {
		return signedInUser{User: u}
	}
	session, token := newSession(u, at, a.sessionLifetime)
	change.CreateFor(sessionKey(session.ID), session, a.sessionLifetime)
	return signedInUser{u, session, token}
}

// SignUp adds a user. It returns errEmailInUse if somebody has the email.
func (a *accounts) SignUp(ctx context.Context, email, password string) (signedInUser, error) {
	if err := a.passwords.Admit(); err != nil {
		return signedInUser{}, err
	}
	// Asked first, to spare the work of hashing; what decides is the commit.
	_, err := state.Get[emailOwner](ctx, a.store, emailKey(email))
	switch {
	case err == nil:
		return signedInUser{}, errEmailInUse
	case !errors.Is(err, state.ErrNotFound):
		return signedInUser{}, err
	}
	hash, err := a.passwords.Hash(ctx, password)
	if err != nil {
		return signedInUser{}, err
	}
	at := now()
	user := SignUp(uuid.Must(uuid.NewV7()).String(), email, hash, at)
	var change state.Change
	change.Create(userKey(user.ID), user)
	change.Create(emailKey(email), emailOwner{Schema: 1, UserID: user.ID})
	change.Emit(ctx, user.Created())
	in := a.begin(&change, user, at)
	err = a.store.Commit(ctx, &change)
	if errors.Is(err, state.ErrConflict) {
		return signedInUser{}, errEmailInUse.Because(err)
	}
	return in, err
}

// nobody is the id that stands for the user of an email that nobody has.
const nobody = "00000000-0000-0000-0000-000000000000"

// SignIn finds the user of an email and a password, and begins a session. It returns errCredentials if there is none, and
// does not tell which of the two is wrong: not by its answer, and not by its time, for it reads and computes the same
// for an email that nobody has.
func (a *accounts) SignIn(ctx context.Context, email, password string) (signedInUser, error) {
	if err := a.passwords.Admit(); err != nil {
		return signedInUser{}, err
	}
	owner, err := state.Get[emailOwner](ctx, a.store, emailKey(email))
	if errors.Is(err, state.ErrNotFound) {
		owner.Value.UserID, err = nobody, nil
	}
	if err != nil {
		return signedInUser{}, err
	}
	user, err := state.Get[User](ctx, a.store, userKey(owner.Value.UserID))
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return signedInUser{}, err
	}
	right, err := a.match(ctx, email, user.Value.PasswordHash, password)
	switch {
	case err != nil:
		return signedInUser{}, err
	case !right:
		return signedInUser{}, errCredentials
	}
	var change state.Change
	in := a.begin(&change, user.Value, now())
	return in, a.store.Commit(ctx, &change)
}

// match says whether a password is the one that was hashed, unless too many were wrong for that email of late.
func (a *accounts) match(ctx context.Context, email, hash, password string) (bool, error) {
	return a.passwords.Match(ctx, hash, password, func(match func() bool) (bool, error) {
		return a.attempts.Try(email, time.Now(), match)
	})
}

// Account reads the user whom a token was issued to. It returns identity.ErrRevoked if the token is revoked or the account was
// deleted: of all services, this one knows at once.
func (a *accounts) Account(ctx context.Context, asking identity.User) (state.Doc[User], error) {
	user, err := state.Get[User](ctx, a.store, userKey(asking.ID))
	if errors.Is(err, state.ErrNotFound) {
		return user, identity.ErrRevoked
	}
	if err != nil {
		return user, err
	}
	if !user.Value.Admits(asking.Epoch) {
		return user, identity.ErrRevoked
	}
	if asking.Session == "" {
		return user, nil
	}
	list, err := a.revoked.List(ctx)
	if err != nil {
		return user, err
	}
	if list.Ended(asking.Session) {
		return user, identity.ErrRevoked
	}
	return user, nil
}

// Refresh gives a refresh token's session a new one, which replaces it. It returns errSession if the session is over. A token
// that is not the session's current one was used before: that ends the session, and revokes its tokens.
func (a *accounts) Refresh(ctx context.Context, token refreshToken) (signedInUser, error) {
	var in signedInUser
	err := state.Retry(ctx, func(ctx context.Context) error {
		at := now()
		session, err := state.Get[Session](ctx, a.store, sessionKey(token.session))
		switch {
		case errors.Is(err, state.ErrNotFound):
			return errSession
		case err != nil:
			return err
		case !at.Before(session.Value.ExpiresAt):
			return errSession
		}
		user, err := state.Get[User](ctx, a.store, userKey(session.Value.UserID))
		switch {
		case errors.Is(err, state.ErrNotFound):
			return errSession
		case err != nil:
			return err
		case !user.Value.Admits(session.Value.Epoch):
			return errSession
		case !session.Value.Opens(token):
			return a.endReused(ctx, session, at)
		}
		next, refresh := session.Value.rotate()
		in = signedInUser{user.Value, next, refresh}
		var change state.Change
		change.UpdateFor(session.Key, session.ETag, next, next.ExpiresAt.Sub(at))
		return a.store.Commit(ctx, &change)
	})
	return in, err
}

// endReused ends a session of which a refresh token was used twice. It returns errSession when that is done.
func (a *accounts) endReused(ctx context.Context, session state.Doc[Session], at time.Time) error {
	revoking, err := a.revoked.read(ctx, session.Value.ID, session.Value.CreatedAt, at)
	if err != nil {
		return err
	}
	var change state.Change
	change.Delete(session.Key, session.ETag)
	revoking.session(&change, session.Value.ID)
	if err := a.store.Commit(ctx, &change); err != nil {
		return err
	}
	a.revoked.Changed()
	a.log.Warn("a refresh token was used twice; its session is ended", "userId", session.Value.UserID, "session", session.Value.ID)
	return errSession
}

// SignOut ends the session of a token. Its tokens stay good until their time is over.
func (a *accounts) SignOut(ctx context.Context, who identity.User) error {
	if who.Session == "" {
		return nil
	}
	return a.end(ctx, who.Session, func(s Session) bool { return s.UserID == who.ID })
}

// SignOutRefresh ends the session of a refresh token if it is the current one. Its tokens stay good until their time is over.
// A token that was replaced ends nothing here: the browser that has the current one may be signed in on purpose.
func (a *accounts) SignOutRefresh(ctx context.Context, token refreshToken) error {
	return a.end(ctx, token.session, func(s Session) bool { return s.Opens(token) })
}

// end deletes a session that is there, if may says that whoever asks may end it.
func (a *accounts) end(ctx context.Context, id string, may func(Session) bool) error {
	return state.Retry(ctx, func(ctx context.Context) error {
		session, err := state.Get[Session](ctx, a.store, sessionKey(id))
		switch {
		case errors.Is(err, state.ErrNotFound):
			return nil
		case err != nil:
			return err
		case !may(session.Value):
			return nil
		}
		var change state.Change
		change.Delete(session.Key, session.ETag)
		return a.store.Commit(ctx, &change)
	})
}

// SignOutEverywhere ends all sessions and revokes all tokens of a user.
func (a *accounts) SignOutEverywhere(ctx context.Context, asking identity.User) error {
	return state.Retry(ctx, func(ctx context.Context) error {
		user, err := a.Account(ctx, asking)
		if err != nil {
			return err
		}
		var change state.Change
		if err := a.replace(ctx, &change, user, user.Value.SignOutEverywhere(), now()); err != nil {
			return err
		}
		return a.store.Commit(ctx, &change)
	})
}

// ChangePassword ends all sessions and revokes all tokens of a user, and begins a new session. It returns errPassword if old
// is not the password; that counts as a failed sign-in.
func (a *accounts) ChangePassword(ctx context.Context, asking identity.User, old, chosen string) (signedInUser, error) {
	known, err := a.confirmed(ctx, asking, old)
	if err != nil {
		return signedInUser{}, err
	}
	hash, err := a.passwords.Hash(ctx, chosen)
	if err != nil {
		return signedInUser{}, err
	}
	var in signedInUser
	err = state.Retry(ctx, func(ctx context.Context) error {
		at := now()
		user, err := a.Account(ctx, asking)
		switch {
		case err != nil:
			return err
		case user.Value.PasswordHash != known.PasswordHash:
			return errChanged
		}
		next := user.Value.ChangePassword(hash)
		var change state.Change
		if err := a.replace(ctx, &change, user, next, at); err != nil {
			return err
		}
		in = a.begin(&change, next, at)
		return a.store.Commit(ctx, &change)
	})
	return in, err
}

// Delete ends an account: its personal data, its sessions and its tokens, all in one transaction, with the event that others
// follow. The email may sign up again. It returns errPassword if that is not the password, and errUnsettled while the user has
// orders that want something done; token is what orders is asked with.
func (a *accounts) Delete(ctx context.Context, asking identity.User, token, password string) error {
	if _, err := a.confirmed(ctx, asking, password); err != nil {
		return err
	}
	// What is reserved between this and the commit, orders cancels when it handles the event.
	unsettled, err := a.orders.Unsettled(ctx, token)
	switch {
	case err != nil:
		return err
	case unsettled > 0:
		return errUnsettled
	}
	return state.Retry(ctx, func(ctx context.Context) error {
		at := now()
		user, err := a.Account(ctx, asking)
		if err != nil {
			return err
		}
		email, err := state.Get[emailOwner](ctx, a.store, emailKey(user.Value.Email))
		if err != nil && !errors.Is(err, state.ErrNotFound) {
			return err
		}
		next := user.Value.Delete(at)
		var change state.Change
		if err := a.replace(ctx, &change, user, next, at); err != nil {
			return err
		}
		if email.ETag != "" && email.Value.UserID == next.ID {
			change.Delete(email.Key, email.ETag)
		}
		change.Emit(ctx, next.Gone())
		return a.store.Commit(ctx, &change)
	})
}

// confirmed returns the user of a token who has also said the password. It returns errPassword if it is wrong.
func (a *accounts) confirmed(ctx context.Context, asking identity.User, password string) (User, error) {
	if err := a.passwords.Admit(); err != nil {
		return User{}, err
	}
	user, err := a.Account(ctx, asking)
	if err != nil {
		return User{}, err
	}
	right, err := a.match(ctx, user.Value.Email, user.Value.PasswordHash, password)
	switch {
	case err != nil:
		return User{}, err
	case !right:
		return User{}, errPassword
	}
	return user.Value, nil
}

// replace adds to a change a user whose epoch was raised, and the revocation of the tokens of earlier epochs.
func (a *accounts) replace(ctx context.Context, change *state.Change, user state.Doc[User], next User, at time.Time) error {
	revoking, err := a.revoked.read(ctx, next.ID, next.CreatedAt, at)
	if err != nil {
		return err
	}
	change.Update(user.Key, user.ETag, next)
	revoking.user(change, next)
	return nil
}

// now is the time as documents hold it.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
