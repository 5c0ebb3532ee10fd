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

	"boxoffice/services/internal/problem"
)

// Session is a sign-in that lasts: its refresh token gives new tokens until it expires. A refresh token is good once; each
// use replaces it. One that is used again was stolen, from its owner or by whoever used it first, and nobody can know
// which: the session ends for both.
type Session struct {
	Schema int    `json:"schema"`
	ID     string `json:"id"`
	UserID string `json:"userId"`
	// Epoch is the user's when the session began. When the user's is higher, the session is over.
	Epoch int `json:"epoch,omitempty"`
	// SecretHash is the SHA-256, in hex, of the secret in the refresh token that is good.
	SecretHash string    `json:"secretHash"`
	CreatedAt  time.Time `json:"createdAt"`
	ExpiresAt  time.Time `json:"expiresAt"`
}

var errSession = problem.New(problem.Unauthorized, "Your session has ended. Sign in again.").WithCode("session_ended")

// secretBytes is how many random bytes a refresh token's secret has.
const secretBytes = 32

// newSession begins a session of a user, and returns its first refresh token.
func newSession(u User, now time.Time, lifetime time.Duration) (Session, refreshToken) {
	s := Session{Schema: 1, ID: uuid.NewString(), UserID: u.ID, Epoch: u.Epoch, CreatedAt: now, ExpiresAt: now.Add(lifetime)}
	return s.rotate()
}

// rotate replaces the refresh token.
func (s Session) rotate() (Session, refreshToken) {
	token := refreshToken{session: s.ID, secret: make([]byte, secretBytes)}
	_, _ = rand.Read(token.secret) // never fails
	s.SecretHash = token.hash()
	return s, token
}

// Opens says whether the refresh token is the session's current one.
func (s Session) Opens(token refreshToken) bool {
	return subtle.ConstantTimeCompare([]byte(s.SecretHash), []byte(token.hash())) == 1
}

// refreshToken is what a client keeps to get new tokens. As text it is the session's id and the secret.
type refreshToken struct {
	session string
	secret  []byte
}

func (t refreshToken) String() string {
	return t.session + "." + base64.RawURLEncoding.EncodeToString(t.secret)
}

// hash is quick, unlike a password's: the secret is random and cannot be guessed.
func (t refreshToken) hash() string {
	sum := sha256.Sum256(t.secret)
	return hex.EncodeToString(sum[:])
}

// parseRefreshToken reads a refresh token's text. It returns errSession for what is none.
func parseRefreshToken(text string) (refreshToken, error) {
	id, secret, _ := strings.Cut(text, ".")
	session, err := uuid.Parse(id)
	if err != nil || session.String() != id {
		return refreshToken{}, errSession
	}
	bytes, err := base64.RawURLEncoding.Strict().DecodeString(secret)
	if err != nil || len(bytes) != secretBytes {
		return refreshToken{}, errSession
	}
	return refreshToken{id, bytes}, nil
}
