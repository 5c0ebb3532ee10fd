package main

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"time"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/state"
)

// The documents of this service:
//
//	user/{id}         User
//	email/{email}     emailOwner; the email in its normal form. It is created together with its user, so that an email has at most
//	                  one user, and deleted with the account.
//	session/{id}      Session. The store removes it when it expires.
//	revoked/{number}  revokedPart, see revocations.go
func userKey(user id.User) string { return "user/" + string(user) }

// emailKey escapes what keys may not have: an email may have a "/" or "||".
func emailKey(email string) string { return "email/" + url.PathEscape(email) }

func sessionKey(session string) string { return "session/" + session }

// emailOwnerSchema is the format of the documents of emails that this release writes.
const emailOwnerSchema = 1

type emailOwner struct {
	Schema int     `json:"schema"`
	UserID id.User `json:"userId"`
}

// store reads and commits users and sessions.
type store struct {
	documents       *state.Store
	revocations     *revocations
	sessionLifetime time.Duration // 0: there are no sessions
	clock           clock.Clock
	log             *slog.Logger
}

func newStore(documents *state.Store, revocations *revocations, sessionLifetime time.Duration, clock clock.Clock, log *slog.Logger) *store {
	return &store{documents, revocations, sessionLifetime, clock, log}
}

// signedIn is a user with the session that a sign-in began, or that was refreshed. Without sessions the last two are zero.
type signedIn struct {
	User
	Session Session
	Refresh refreshToken
}

// beginSession adds a new session of the user to a change.
func (s *store) beginSession(change *state.Change, u User, now time.Time) signedIn {
	if s.sessionLifetime == 0 {
		return signedIn{User: u}
	}
	session, token := newSession(u, now, s.sessionLifetime)
	change.CreateFor(sessionKey(session.ID), session, s.sessionLifetime)
	return signedIn{u, session, token}
}

// CheckEmailIsFree returns errEmailInUse if the email has a user.
func (s *store) CheckEmailIsFree(ctx context.Context, email string) error {
	_, err := state.Get[emailOwner](ctx, s.documents, emailKey(email))
	switch {
	case errors.Is(err, state.ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	return errEmailInUse
}

// SignUp adds a user and begins a session. It returns errEmailInUse if the email has a user. key is "" or from signUpKey.
func (s *store) SignUp(ctx context.Context, email, passwordHash, key string) (signedIn, error) {
	now := s.clock()
	user := SignUp(id.New[id.User](), email, passwordHash, key, now)
	var change state.Change
	change.Create(userKey(user.ID), user)
	change.Create(emailKey(email), emailOwner{Schema: emailOwnerSchema, UserID: user.ID})
	change.Emit(ctx, user.Event())
	in := s.beginSession(&change, user, now)
	err := s.documents.Commit(ctx, &change)
	if errors.Is(err, state.ErrConflict) {
		return signedIn{}, errEmailInUse.Because(err)
	}
	return in, err
}

// unknownUser is read for an email without a user. It has no document.
const unknownUser id.User = "00000000-0000-0000-0000-000000000000"

// UserOfEmail returns the user of an email, or the zero User if there is none. In both cases it reads two documents, so that the
// time does not reveal which emails have users.
func (s *store) UserOfEmail(ctx context.Context, email string) (User, error) {
	owner, err := state.Get[emailOwner](ctx, s.documents, emailKey(email))
	if errors.Is(err, state.ErrNotFound) {
		owner.Value.UserID, err = unknownUser, nil
	}
	if err != nil {
		return User{}, err
	}
	user, err := state.Get[User](ctx, s.documents, userKey(owner.Value.UserID))
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return User{}, err
	}
	return user.Value, nil
}

// SignIn begins a session of a user whose password was checked.
func (s *store) SignIn(ctx context.Context, user User) (signedIn, error) {
	var change state.Change
	in := s.beginSession(&change, user, s.clock())
	return in, s.documents.Commit(ctx, &change)
}

// User returns the caller's user. It returns identity.ErrRevoked if the caller's token is revoked or the account was deleted. Unlike
// other services, auth checks that without a delay.
func (s *store) User(ctx context.Context, caller identity.Caller) (User, error) {
	user, err := s.readUser(ctx, caller)
	return user.Value, err
}

// readUser reads the caller's document, with the errors of User.
func (s *store) readUser(ctx context.Context, caller identity.Caller) (state.Doc[User], error) {
	user, err := state.Get[User](ctx, s.documents, userKey(caller.ID))
	switch {
	case errors.Is(err, state.ErrNotFound):
		return user, identity.ErrRevoked
	case err != nil:
		return user, err
	case !user.Value.Accepts(caller.Epoch):
		return user, identity.ErrRevoked
	case caller.Session == "":
		return user, nil
	}
	revoked, err := s.revocations.List(ctx)
	if err != nil {
		return user, err
	}
	if revoked.HasSession(caller.Session) {
		return user, identity.ErrRevoked
	}
	return user, nil
}

// refreshed is the outcome of a refresh: signed in, or the session that was ended because its refresh token was used twice.
type refreshed struct {
	in     signedIn
	reused *Session
}

// Refresh replaces a refresh token and returns the session with the new one. It returns errSession if the session has ended. A token
// that was used before ends the session and revokes its tokens.
func (s *store) Refresh(ctx context.Context, token refreshToken) (signedIn, error) {
	outcome, err := state.Decide(ctx, s.documents, func(ctx context.Context) (*state.Change, refreshed, error) {
		now := s.clock()
		session, err := state.Get[Session](ctx, s.documents, sessionKey(token.session))
		if errors.Is(err, state.ErrNotFound) {
			return nil, refreshed{}, errSession
		}
		if err != nil {
			return nil, refreshed{}, err
		}
		user, err := state.Get[User](ctx, s.documents, userKey(session.Value.UserID))
		if err != nil && !errors.Is(err, state.ErrNotFound) {
			return nil, refreshed{}, err
		}
		switch {
		case err != nil || !session.Value.IsActive(user.Value, now):
			return nil, refreshed{}, errSession
		case !session.Value.IsCurrent(token):
			change, err := s.revokeSession(ctx, session, now)
			return change, refreshed{reused: &session.Value}, err
		}
		refresh := session.Value.Rotate()
		change := new(state.Change)
		change.UpdateFor(session.Key, session.ETag, session.Value, session.Value.ExpiresAt.Sub(now))
		return change, refreshed{in: signedIn{user.Value, session.Value, refresh}}, nil
	})
	if err != nil {
		return signedIn{}, err
	}
	if outcome.reused != nil {
		s.revocations.Invalidate()
		s.log.Warn("a refresh token was used twice; its session was ended", "userId", outcome.reused.UserID, "session", outcome.reused.ID)
		return signedIn{}, errSession
	}
	return outcome.in, nil
}

// revokeSession returns the change that ends a session and revokes its tokens.
func (s *store) revokeSession(ctx context.Context, session state.Doc[Session], now time.Time) (*state.Change, error) {
	part, err := s.revocations.Part(ctx, session.Value.ID, session.Value.CreatedAt, now)
	if err != nil {
		return nil, err
	}
	change := new(state.Change)
	change.Delete(session.Key, session.ETag)
	part.addSession(change, session.Value.ID)
	return change, nil
}

// SignOut ends the session of the caller's token. Its tokens stay valid until they expire.
func (s *store) SignOut(ctx context.Context, caller identity.Caller) error {
	if caller.Session == "" {
		return nil
	}
	return s.endSession(ctx, caller.Session, func(session Session) bool { return session.BelongsTo(caller.ID) })
}

// SignOutRefresh ends the session of a refresh token if it is the current one. Its tokens stay valid until they expire. A replaced
// refresh token has no effect: the browser that has the current one is still signed in.
func (s *store) SignOutRefresh(ctx context.Context, token refreshToken) error {
	return s.endSession(ctx, token.session, func(session Session) bool { return session.IsCurrent(token) })
}

// endSession deletes a session if there is one and the caller may end it.
func (s *store) endSession(ctx context.Context, session string, mayEnd func(Session) bool) error {
	return state.Retry(ctx, func(ctx context.Context) error {
		doc, err := state.Get[Session](ctx, s.documents, sessionKey(session))
		if errors.Is(err, state.ErrNotFound) {
			return nil
		}
		if err != nil || !mayEnd(doc.Value) {
			return err
		}
		var change state.Change
		change.Delete(doc.Key, doc.ETag)
		return s.documents.Commit(ctx, &change)
	})
}

// SignOutEverywhere ends all sessions and revokes all tokens of the caller.
func (s *store) SignOutEverywhere(ctx context.Context, caller identity.Caller) error {
	_, err := state.Decide(ctx, s.documents, func(ctx context.Context) (*state.Change, struct{}, error) {
		user, err := s.readUser(ctx, caller)
		if err != nil {
			return nil, struct{}{}, err
		}
		user.Value.SignOutEverywhere()
		change, err := s.changeOf(ctx, user, s.clock())
		return change, struct{}{}, err
	})
	return err
}

// ChangePassword ends all sessions and revokes all tokens of the caller, and begins a new session. It returns errChanged if the
// password is no longer the confirmed one.
func (s *store) ChangePassword(ctx context.Context, caller identity.Caller, confirmedHash, newHash string) (signedIn, error) {
	return state.Decide(ctx, s.documents, func(ctx context.Context) (*state.Change, signedIn, error) {
		now := s.clock()
		user, err := s.readUser(ctx, caller)
		if err != nil {
			return nil, signedIn{}, err
		}
		if err := user.Value.ChangePassword(confirmedHash, newHash); err != nil {
			return nil, signedIn{}, err
		}
		change, err := s.changeOf(ctx, user, now)
		if err != nil {
			return nil, signedIn{}, err
		}
		return change, s.beginSession(change, user.Value, now), nil
	})
}

// Delete deletes the caller's account: the personal data, the sessions and the tokens, in one transaction with the event.
// Afterwards the email may sign up again.
func (s *store) Delete(ctx context.Context, caller identity.Caller) error {
	_, err := state.Decide(ctx, s.documents, func(ctx context.Context) (*state.Change, struct{}, error) {
		now := s.clock()
		user, err := s.readUser(ctx, caller)
		if err != nil {
			return nil, struct{}{}, err
		}
		email, err := state.Get[emailOwner](ctx, s.documents, emailKey(user.Value.Email))
		if err != nil && !errors.Is(err, state.ErrNotFound) {
			return nil, struct{}{}, err
		}
		user.Value.Delete(now)
		change, err := s.changeOf(ctx, user, now)
		if err != nil {
			return nil, struct{}{}, err
		}
		if email.ETag != "" && email.Value.UserID == user.Value.ID {
			change.Delete(email.Key, email.ETag)
		}
		change.Emit(ctx, user.Value.Event())
		return change, struct{}{}, nil
	})
	return err
}

// changeOf returns the change that stores a user with a higher epoch and revokes the tokens of earlier epochs.
func (s *store) changeOf(ctx context.Context, user state.Doc[User], now time.Time) (*state.Change, error) {
	part, err := s.revocations.Part(ctx, string(user.Value.ID), user.Value.CreatedAt, now)
	if err != nil {
		return nil, err
	}
	change := new(state.Change)
	change.Update(user.Key, user.ETag, user.Value)
	part.addUser(change, user.Value)
	return change, nil
}
