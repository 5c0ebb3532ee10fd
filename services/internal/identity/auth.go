package identity

import (
	"context"
	"net/http"
	"sync"
	"time"

	"boxoffice/services/internal/peer"
	"boxoffice/services/internal/signing"
)

// The paths that other services read from auth.
const (
	KeysPath        = "/.well-known/jwks.json"
	RevocationsPath = "/.well-known/revocations"
)

// AuthConfig has the settings of a service that verifies tokens. It is embedded in the service's configuration.
type AuthConfig struct {
	// AuthURLs are the base URLs of auth's replicas, of the form http://host:port or https://host:port, separated by
	// commas.
	AuthURLs []string `env:"AUTH_URL" validate:"min=1,dive,http_url"`
	// AuthPeriod is the time between two fetches of keys and revocations, give or take a fifth.
	AuthPeriod time.Duration `env:"AUTH_PERIOD" envDefault:"20s" validate:"min=1s,max=45s"`
	// CAFile has the certificates, in PEM, of a private authority for https addresses of other services. Empty: the system's
	// authorities.
	CAFile string `env:"UPSTREAM_CA_FILE"`
}

// Trust has the keys and revocations with which tokens are verified.
type Trust struct {
	Keys        signing.KeySet
	Revocations Revocations
}

// Revocations list the tokens that are refused before their lifetime ends. The zero value lists none.
type Revocations struct {
	// Users has the first valid epoch of each user whose tokens of earlier epochs are refused.
	Users map[string]int `json:"users"`
	// Sessions are the sessions whose tokens are refused.
	Sessions []string `json:"sessions"`
}

// Auth is a client of the auth service.
type Auth struct {
	peer *peer.Peer

	mu          sync.Mutex
	etag        string // of revocations; "" before the first response
	revocations Revocations
}

// NewAuth makes a client of auth. It fails if CAFile cannot be read.
func NewAuth(cfg AuthConfig) (*Auth, error) {
	client, err := peer.New("auth", cfg.AuthURLs, cfg.CAFile)
	if err != nil {
		return nil, err
	}
	return &Auth{peer: client}, nil
}

// Fetch reads keys and revocations from auth.
func (a *Auth) Fetch(ctx context.Context) (Trust, error) {
	var trust Trust
	response, err := a.peer.Get(ctx, KeysPath, nil)
	if err != nil {
		return Trust{}, err
	}
	if err := response.Decode(&trust.Keys); err != nil {
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
	// Auth of the earlier release does not have this path and revokes no tokens.
	response, err := a.peer.Get(ctx, RevocationsPath, header, http.StatusNotModified, http.StatusNotFound)
	if err != nil {
		return Revocations{}, err
	}
	switch response.Status {
	case http.StatusNotModified:
		return known, nil
	case http.StatusNotFound:
		return Revocations{}, nil
	}
	var revocations Revocations
	if err := response.Decode(&revocations); err != nil {
		return Revocations{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.etag, a.revocations = response.ETag, revocations
	return revocations, nil
}
