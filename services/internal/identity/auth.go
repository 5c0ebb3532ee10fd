package identity

import (
	"context"
	"net/http"
	"sync"
	"time"

	"boxoffice/services/internal/peer"
)

// The paths at which auth answers the other services.
const (
	KeysPath        = "/.well-known/jwks.json"
	RevocationsPath = "/.well-known/revocations"
)

// AuthConfig says where auth is. A service that verifies tokens embeds it in its configuration.
type AuthConfig struct {
	// AuthURLs are the base URLs of auth's replicas, of the form http://host:port or https://host:port, separated by
	// commas.
	AuthURLs []string `env:"AUTH_URL" validate:"min=1,dive,http_url"`
	// AuthPeriod is how often keys and revocations are fetched, within a fifth.
	AuthPeriod time.Duration `env:"AUTH_PERIOD" envDefault:"20s" validate:"min=1s,max=45s"`
	// CAFile holds the certificates, in PEM, of a private authority that signs for https addresses of other services.
	// Empty: the system's authorities.
	CAFile string `env:"UPSTREAM_CA_FILE"`
}

// Trust is what tokens are verified with.
type Trust struct {
	Keys        KeySet
	Revocations Revocations
}

// Revocations name the tokens that are refused although their time is not over. The zero value names none.
type Revocations struct {
	// Users are those of whom tokens of earlier epochs are refused, each with the first epoch that is good.
	Users map[string]int `json:"users"`
	// Sessions are those whose tokens are refused.
	Sessions []string `json:"sessions"`
}

// Auth is the auth service as other services ask it.
type Auth struct {
	peer *peer.Peer

	mu          sync.Mutex
	etag        string // of revocations; "" before the first answer
	revocations Revocations
}

// NewAuth makes a client of auth. It fails if the authority's file cannot be read.
func NewAuth(cfg AuthConfig) (*Auth, error) {
	to, err := peer.New("auth", cfg.AuthURLs, cfg.CAFile)
	if err != nil {
		return nil, err
	}
	return &Auth{peer: to}, nil
}

// Fetch asks auth for its keys and revocations.
func (a *Auth) Fetch(ctx context.Context) (Trust, error) {
	var trust Trust
	answer, err := a.peer.Get(ctx, KeysPath, nil)
	if err != nil {
		return Trust{}, err
	}
	if err := answer.Decode(&trust.Keys); err != nil {
		return Trust{}, err
	}
	trust.Revocations, err = a.fetchRevocations(ctx)
	return trust, err
}

func (a *Auth) fetchRevocations(ctx context.Context) (Revocations, error) {
	a.mu.Lock()
	known, etag := a.revocations, a.etag
	a.mu.Unlock()
	header := http.Header{}
	if etag != "" {
		header.Set("If-None-Match", etag)
	}
	// Auth of the release before has no such path; none of its tokens is ever revoked.
	answer, err := a.peer.Get(ctx, RevocationsPath, header, http.StatusNotModified, http.StatusNotFound)
	if err != nil {
		return Revocations{}, err
	}
	switch answer.Status {
	case http.StatusNotModified:
		return known, nil
	case http.StatusNotFound:
		return Revocations{}, nil
	}
	var revocations Revocations
	if err := answer.Decode(&revocations); err != nil {
		return Revocations{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.etag, a.revocations = answer.ETag, revocations
	return revocations, nil
}
