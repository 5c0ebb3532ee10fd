package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"boxoffice/services/internal/id"
	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/state"
)

// Revocations are stored in some documents, each with a part of the users and sessions, so that few changes conflict:
//
//	revoked/{number}  revokedPart
const revokedPartCount = 64

func revokedKey(number int) string { return fmt.Sprintf("revoked/%d", number) }

// revokedPartSchema is the format of the parts that this release writes.
const revokedPartSchema = 1

// revokedPart has the revocations of users and sessions whose ids have the same hash.
type revokedPart struct {
	Schema int `json:"schema"`
	// Users have signed out everywhere.
	Users map[id.User]revokedUser `json:"users,omitempty"`
	// Sessions were ended because a refresh token was used twice. The time is when the last of their tokens expires.
	Sessions map[string]time.Time `json:"sessions,omitempty"`
}

// revokedUser revokes the tokens of epochs before Epoch. The last of them expires at Until.
type revokedUser struct {
	Epoch int       `json:"epoch"`
	Until time.Time `json:"until"`
}

// removeExpired removes revocations whose tokens have all expired.
func (p *revokedPart) removeExpired(now time.Time) {
	maps.DeleteFunc(p.Users, func(_ id.User, user revokedUser) bool { return now.After(user.Until) })
	maps.DeleteFunc(p.Sessions, func(_ string, until time.Time) bool { return now.After(until) })
}

// partChange is a part that was read, to be changed.
type partChange struct {
	key, etag string
	part      revokedPart
	until     time.Time
}

// addUser adds a user's new epoch to the change.
func (p *partChange) addUser(change *state.Change, u User) {
	if p.part.Users == nil {
		p.part.Users = map[id.User]revokedUser{}
	}
	p.part.Users[u.ID] = revokedUser{u.Epoch, p.until}
	change.Put(p.key, p.etag, p.part)
}

// addSession adds a session to the change.
func (p *partChange) addSession(change *state.Change, session string) {
	if p.part.Sessions == nil {
		p.part.Sessions = map[string]time.Time{}
	}
	p.part.Sessions[session] = p.until
	change.Put(p.key, p.etag, p.part)
}

const (
	// longestTokenLifetime is the maximum of TOKEN_LIFETIME. Tokens of users and sessions that are older than this process may have
	// been issued with it, before the setting was lowered.
	longestTokenLifetime = 24 * time.Hour
	// rolloutTime is how long after the start of this process others may still run with another setting.
	rolloutTime = time.Hour
	// revocationSlack is how much longer than its tokens a revocation is stored: clocks differ, and a request that began before the
	// revocation may issue a token after it.
	revocationSlack = time.Minute

	// revocationsAge is how long auth uses the list that it has read. It limits the reads.
	revocationsAge = time.Second
	// listTime limits one read of the list.
	listTime = 5 * time.Second
)

// revocations reads and stores which tokens are revoked.
type revocations struct {
	documents *state.Store
	lifetime  time.Duration // of tokens
	started   time.Time     // when this process began to issue them

	mu      sync.Mutex
	cached  *revocationList
	readAt  time.Time // when cached was read
	reading singleflight.Group
}

func newRevocations(documents *state.Store, tokenLifetime time.Duration) *revocations {
	return &revocations{documents: documents, lifetime: tokenLifetime, started: time.Now()}
}

// revocationList has all revocations, as auth serves them.
type revocationList struct {
	body     []byte
	etag     string
	sessions map[string]struct{}
}

// HasSession reports whether the tokens of a session are revoked.
func (l *revocationList) HasSession(session string) bool {
	_, revoked := l.sessions[session]
	return revoked
}

// duration is how long a revocation is stored, for a user or session that was created at a time: until the last of its tokens
// expires. A new user or session has only tokens of the current lifetime. So clients that repeatedly sign up and out everywhere add
// little.
func (r *revocations) duration(created time.Time) time.Duration {
	if created.After(r.started.Add(rolloutTime)) {
		return r.lifetime + revocationSlack
	}
	return longestTokenLifetime + revocationSlack
}

// Part reads the part of a user or session, which was created at a time, to be changed.
func (r *revocations) Part(ctx context.Context, userOrSession string, created, now time.Time) (*partChange, error) {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(userOrSession)) // never fails
	p := &partChange{key: revokedKey(int(hash.Sum32() % revokedPartCount)), until: now.Add(r.duration(created))}
	doc, err := state.Get[revokedPart](ctx, r.documents, p.key)
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return nil, err
	}
	p.etag, p.part = doc.ETag, doc.Value
	p.part.Schema = revokedPartSchema
	p.part.removeExpired(now)
	return p, nil
}

// List returns all revocations. They are at most revocationsAge old.
func (r *revocations) List(ctx context.Context) (*revocationList, error) {
	r.mu.Lock()
	list, fresh := r.cached, time.Since(r.readAt) < revocationsAge
	r.mu.Unlock()
	if fresh {
		return list, nil
	}
	read := r.reading.DoChan("", func() (any, error) {
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

// Invalidate makes the next call of List read the documents.
func (r *revocations) Invalidate() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.readAt = time.Time{}
}

func (r *revocations) load(ctx context.Context) (*revocationList, error) {
	began := time.Now()
	keys := make([]string, revokedPartCount)
	for n := range keys {
		keys[n] = revokedKey(n)
	}
	docs, err := state.GetMany[revokedPart](ctx, r.documents, keys)
	if err != nil {
		return nil, err
	}
	list := &revocationList{sessions: map[string]struct{}{}}
	all := identity.Revocations{Users: map[string]int{}, Sessions: []string{}}
	for _, doc := range docs {
		doc.Value.removeExpired(began)
		for user, revoked := range doc.Value.Users {
			all.Users[string(user)] = revoked.Epoch
		}
		for session := range doc.Value.Sessions {
			list.sessions[session] = struct{}{}
			all.Sessions = append(all.Sessions, session)
		}
	}
	slices.Sort(all.Sessions) // so that every process gives the same list the same ETag
	if list.body, err = json.Marshal(all); err != nil {
		return nil, fmt.Errorf("encode the revocations: %w", err)
	}
	sum := sha256.Sum256(list.body)
	list.etag = `"` + hex.EncodeToString(sum[:16]) + `"`

	r.mu.Lock()
	defer r.mu.Unlock()
	r.cached, r.readAt = list, began
	return list, nil
}
