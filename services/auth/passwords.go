package main

import (
	"context"
	"fmt"
	"runtime"

	"golang.org/x/crypto/bcrypt"
)

// passwords hashes and compares with bcrypt. That takes a core for tens of milliseconds, so only as many run at
// once as there are cores; the others wait in line, and the scheduler has something left for other requests.
type passwords struct {
	cost  int
	cores chan struct{}
	// decoy is compared with when there is no user, so that it takes as long as if there were.
	decoy []byte
}

func newPasswords(cost int) (*passwords, error) {
	decoy, err := bcrypt.GenerateFromPassword([]byte("nobody has this password"), cost)
	if err != nil {
		return nil, err
	}
	return &passwords{cost: cost, cores: make(chan struct{}, runtime.GOMAXPROCS(0)), decoy: decoy}, nil
}

// Hash returns the bcrypt hash of a password of at most 72 bytes.
func (p *passwords) Hash(ctx context.Context, password string) (string, error) {
	if err := p.enter(ctx); err != nil {
		return "", err
	}
	defer p.leave()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), p.cost)
	if err != nil {
		return "", fmt.Errorf("hash a password: %w", err)
	}
	return string(hash), nil
}

// Match says whether password is the one that was hashed; no password is that of the hash "". When its turn has
// come it lets try decide whether to compare.
func (p *passwords) Match(ctx context.Context, hash, password string, try func(match func() bool) (bool, error)) (bool, error) {
	if err := p.enter(ctx); err != nil {
		return false, err
	}
	defer p.leave()
	return try(func() bool {
		against := []byte(hash)
		possible := hash != "" && len(password) <= longestPassword
		if !possible {
			against = p.decoy
		}
		// bcrypt reads no more than 72 bytes, so a longer password would match by its beginning.
		err := bcrypt.CompareHashAndPassword(against, []byte(password)[:min(len(password), longestPassword)])
		return err == nil && possible
	})
}

func (p *passwords) enter(ctx context.Context) error {
	select {
	case p.cores <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait to check a password: %w", ctx.Err())
	}
}

func (p *passwords) leave() { <-p.cores }
