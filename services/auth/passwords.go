package main

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/crypto/bcrypt"

	"boxoffice/services/internal/problem"
)

// passwords hashes and compares with bcrypt. That takes a core for tens of milliseconds, so only some run at once, and leave
// a core to other requests; the others wait in line. Who would wait for longer than maxWait is refused at once: answers that
// come when their clients have given up help nobody, and the line would only grow.
type passwords struct {
	cost  int
	cores chan struct{}
	// decoy is compared with when there is no user, so that it takes as long as if there were, except for users whose password was
	// hashed at another cost, before the setting was changed.
	decoy []byte

	maxWait time.Duration // 0: however long
	waiting atomic.Int64  // in line, without those whose turn has come
	took    atomic.Int64  // how long a hash took of late, in nanoseconds, averaged
	refused prometheus.Counter
}

// newPasswords makes hashes of a bcrypt cost. It measures how long one takes.
func newPasswords(cost int, maxWait time.Duration, metrics prometheus.Registerer) (*passwords, error) {
	p := &passwords{
		cost: cost, cores: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)-1)), maxWait: maxWait,
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "boxoffice_passwords_refused_total", Help: "Requests that were answered 503 because too many waited for a password to be hashed.",
		}),
	}
	waiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "boxoffice_passwords_waiting", Help: "Requests that wait for a password to be hashed.",
	}, func() float64 { return float64(p.waiting.Load()) })
	if metrics != nil {
		metrics.MustRegister(p.refused, waiting)
	}
	began := time.Now()
	var err error
	if p.decoy, err = bcrypt.GenerateFromPassword([]byte("nobody has this password"), cost); err != nil {
		return nil, err
	}
	p.took.Store(int64(time.Since(began)))
	return p, nil
}

// Hash returns the bcrypt hash of a password of at most 72 bytes.
func (p *passwords) Hash(ctx context.Context, password string) (string, error) {
	if err := p.enter(ctx); err != nil {
		return "", err
	}
	defer p.leave(time.Now())
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
	defer func() { <-p.cores }()
	return try(func() bool {
		defer p.measure(time.Now())
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

// Admit returns what Hash and Match would return if the line is too long, before anything was done.
func (p *passwords) Admit() error { return p.admit(p.waiting.Load()) }

// admit refuses who would wait for too long behind so many.
func (p *passwords) admit(before int64) error {
	wait := time.Duration(before * p.took.Load() / int64(cap(p.cores)))
	if p.maxWait == 0 || wait <= p.maxWait {
		return nil
	}
	p.refused.Inc()
	return problem.New(problem.Unavailable, "Too many people sign in at the moment. Try again shortly.").
		WithCode("overloaded").WithRetryAfter(max(time.Second, wait))
}

func (p *passwords) enter(ctx context.Context) error {
	before := p.waiting.Add(1) - 1
	defer p.waiting.Add(-1)
	if err := p.admit(before); err != nil {
		return err
	}
	select {
	case p.cores <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait to check a password: %w", ctx.Err())
	}
}

func (p *passwords) leave(began time.Time) {
	p.measure(began)
	<-p.cores
}

// measure moves the average by an eighth of the difference. As many run at once as there are cores, so nearly all of what
// one takes longer is that others want the machine.
func (p *passwords) measure(began time.Time) {
	for {
		before := p.took.Load()
		if p.took.CompareAndSwap(before, before+(int64(time.Since(began))-before)/8) {
			return
		}
	}
}
