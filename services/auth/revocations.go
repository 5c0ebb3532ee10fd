package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/state"
)

// Revocations are kept in some documents, each with those of some users and sessions, so that few changes meet at one:
//
//	revoked/{number}  revokedPart
const revokedParts = 64

func revokedKey(number int) string { return fmt.Sprintf("revoked/%d", number) }

// revokedPart is the part of the revocations whose users' and sessions' ids have the same hash.
type revokedPart struct {
	Schema int `json:"schema"`
	// Users are those who were signed out everywhere.
	Users map[string]revokedUser `json:"users,omitempty"`
	// Sessions are those that ended because a refresh token was used twice, with the time until which their tokens could
	// be good.
	Sessions map[string]time.Time `json:"sessions,omitempty"`
}

// revokedUser refuses the tokens of epochs before Epoch, of which none is good for longer than Until.
type revokedUser struct {
	Epoch int       `json:"epoch"`
	Until time.Time `json:"until"`
}

// revoking is a part of the revocations as it was read, to be changed.
type revoking struct {
	key, etag string
	part      revokedPart
	until     time.Time
}

// user adds a user's new epoch to the change.
func (r *revoking) user(change *state.Change, u User) {
	if r.part.Users == nil {
		r.part.Users = map[string]revokedUser{}
	}
	r.part.Users[u.ID] = revokedUser{u.Epoch, r.until}
	change.Put(r.key, r.etag, r.part)
}

// session adds a session to the change.
func (r *revoking) session(change *state.Change, id string) {
	if r.part.Sessions == nil {
		r.part.Sessions = map[string]time.Time{}
	}
	r.part.Sessions[id] = r.until
	change.Put(r.key, r.etag, r.part)
}

// forget removes what no token can be good for any more.
func (p *revokedPart) forget(now time.Time) {
	for id, user := range p.Users {
		if now.After(user.Until) {
			delete(p.Users, id)
		}
	}
	for id, until := range p.Sessions {
		if now.After(until) {
			delete(p.Sessions, id)
		}
	}
}

const (
	// longestTokenLifetime is the most that TOKEN_LIFETIME can be set to. Tokens of users and sessions that are older than this
	// process may have been issued with it, before the setting was lowered.
	longestTokenLifetime = 24 * time.Hour
	// rolloutTime is how long after the start of this process others may still work with another setting.
	rolloutTime = time.Hour
	// revocationSlack is how much longer than its tokens a revocation is kept: clocks differ, and a token may be issued a moment
	// after the revocation by a request that began before it.
	revocationSlack = time.Minute
)

// revocations are what is revoked, as the store has it.
type revocations struct {
	store *state.Store
	// lifetime is that of tokens, and started is when this process began to issue them.
	lifetime time.Duration
	started  time.Time

	mu     sync.Mutex
	known  *revocationList
	readAt time.Time
	flight singleflight.Group
}

// revocationList is all that is revoked, as it is answered.
type revocationList struct {
	body     []byte
	etag     string
	sessions map[string]struct{}
}

// Ended says whether the tokens of a session are refused.
func (l *revocationList) Ended(session string) bool {
	_, ended := l.sessions[session]
	return ended
}

// revocationsAge is how old the list may be that auth answers with. It bounds the reads that questions cause.
const revocationsAge = time.Second

// keep is how long a revocation is kept of a user or session that began at a time: as long as a token of it may be good. Those
// that are new have no tokens of another lifetime than today's. So whoever signs up and out, again and again, leaves little.
func (r *revocations) keep(began time.Time) time.Duration {
	if began.After(r.started.Add(rolloutTime)) {
		return r.lifetime + revocationSlack
	}
	return longestTokenLifetime + revocationSlack
}

// read returns the part in which a user or a session is that began at a time, ready to be changed.
func (r *revocations) read(ctx context.Context, id string, began, now time.Time) (*revoking, error) {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(id)) // never fails
	into := &revoking{key: revokedKey(int(hash.Sum32() % revokedParts)), until: now.Add(r.keep(began))}
	part, err := state.Get[revokedPart](ctx, r.store, into.key)
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return nil, err
	}
	into.etag, into.part = part.ETag, part.Value
	into.part.Schema = 1
	into.part.forget(now)
	return into, nil
}

// List returns all that is revoked, as it was at most revocationsAge ago.
func (r *revocations) List(ctx context.Context) (*revocationList, error) {
	r.mu.Lock()
	known, fresh := r.known, time.Since(r.readAt) < revocationsAge
	r.mu.Unlock()
	if fresh {
		return known, nil
	}
	read := r.flight.DoChan("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), listTime)
		defer cancel()
		return r.load(ctx)
	})
	select {
	case result := <-read:
		if result.Err != nil {
			return nil, result.Err
		}
		return result.Val.(*revocationList), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// listTime bounds one read of the list.
const listTime = 5 * time.Second

// Changed makes this process read the list anew when it is asked next.
func (r *revocations) Changed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.readAt = time.Time{}
}

func (r *revocations) load(ctx context.Context) (*revocationList, error) {
	began := time.Now()
	keys := make([]string, revokedParts)
	for n := range keys {
		keys[n] = revokedKey(n)
	}
	docs, err := state.GetMany[revokedPart](ctx, r.store, keys)
	if err != nil {
		return nil, err
	}
	list := &revocationList{sessions: map[string]struct{}{}}
	all := identity.Revocations{Users: map[string]int{}, Sessions: []string{}}
	for _, doc := range docs {
		doc.Value.forget(began)
		for id, user := range doc.Value.Users {
			all.Users[id] = user.Epoch
		}
		for id := range doc.Value.Sessions {
			list.sessions[id] = struct{}{}
			all.Sessions = append(all.Sessions, id)
		}
	}
	slices.Sort(all.Sessions) // so that the same list is the same text, in every process
	if list.body, err = json.Marshal(all); err != nil {
		return nil, fmt.Errorf("encode the revocations: %w", err)
	}
	sum := sha256.Sum256(list.body)
	list.etag = `"` + hex.EncodeToString(sum[:16]) + `"`

	r.mu.Lock()
	defer r.mu.Unlock()
	r.known, r.readAt = list, began
	return list, nil
}
