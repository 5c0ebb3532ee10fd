package main

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"time"

	"github.com/google/uuid"

	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
)

// sessionSchema is the format of the sessions that this release writes.
const sessionSchema = 1

// Session is a sign-in on one device. Its refresh token gives new tokens until the session ends. Each use replaces the refresh token. A
// refresh token that is used twice was stolen, by its first or its second user; which one is unknown, so the session ends for both.
type Session struct {
	Schema int     `json:"schema"`
	ID     string  `json:"id"`
	UserID id.User `json:"userId"`
	// Epoch is the user's epoch when the session began. The session has ended when the user's is higher.
	Epoch int `json:"epoch,omitempty"`
	// SecretHash is the SHA-256, in hex, of the current refresh token's secret.
	SecretHash string    `json:"secretHash"`
	CreatedAt  time.Time `json:"createdAt"`
	ExpiresAt  time.Time `json:"expiresAt"`
}

var errSession = problem.New(problem.Unauthorized, "session_ended", "Your session has ended. Sign in again.")

// secretBytes is the number of random bytes in a refresh token's secret.
const secretBytes = 32

// newSession begins a session of a user and returns its first refresh token.
func newSession(u User, now time.Time, lifetime time.Duration) (Session, refreshToken) {
	s := Session{Schema: sessionSchema, ID: uuid.NewString(), UserID: u.ID, Epoch: u.Epoch, CreatedAt: now, ExpiresAt: now.Add(lifetime)}
	token := s.Rotate()
	return s, token
}

// IsActive reports whether the session of a user has not ended.
func (s *Session) IsActive(u User, now time.Time) bool {
	return now.Before(s.ExpiresAt) && u.Accepts(s.Epoch)
}

// BelongsTo reports whether the session is the user's.
func (s *Session) BelongsTo(user id.User) bool { return s.UserID == user }

// Rotate replaces the refresh token, and returns the new one.
func (s *Session) Rotate() refreshToken {
	token := refreshToken{session: s.ID, secret: make([]byte, secretBytes)}
	_, _ = rand.Read(token.secret) // never fails
	s.SecretHash = token.hash()
	return token
}

// IsCurrent reports whether a refresh token is the session's current one. Any other was used before.
func (s *Session) IsCurrent(token refreshToken) bool {
	return subtle.ConstantTimeCompare([]byte(s.SecretHash), []byte(token.hash())) == 1
}

// refreshToken is what a client stores to get new tokens. Its text is the session's id and the secret.
type refreshToken struct {
	session string
	secret  []byte
}

func (t refreshToken) String() string {
	return t.session + "." + base64.RawURLEncoding.EncodeToString(t.secret)
}

// hash is a fast one, unlike a password's: the secret is random and cannot be guessed.
func (t refreshToken) hash() string {
	sum := sha256.Sum256(t.secret)
	return hex.EncodeToString(sum[:])
}

// parseRefreshToken reads a refresh token's text. It returns errSession for any other text.
func parseRefreshToken(text string) (refreshToken, error) {
	session, secret, _ := strings.Cut(text, ".")
	if parsed, err := uuid.Parse(session); err != nil || parsed.String() != session {
		return refreshToken{}, errSession
	}
	bytes, err := base64.RawURLEncoding.Strict().DecodeString(secret)
	if err != nil || len(bytes) != secretBytes {
		return refreshToken{}, errSession
	}
	return refreshToken{session, bytes}, nil
}
