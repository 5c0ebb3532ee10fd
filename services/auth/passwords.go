package main

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sync/semaphore"

	"boxoffice/services/internal/problem"
)

// passwords hashes and compares passwords with bcrypt. One hash takes a core for tens of milliseconds. So all hashes together use all
// cores but one, and further requests wait in a queue. A request that would wait longer than maxWait is refused at once: its client
// would have given up before the response, and the queue would grow.
type passwords struct {
	cost     int
	failures *signInFailures
	compare  func(hash, password []byte) error // bcrypt.CompareHashAndPassword, except in tests
	// decoy is compared if there is no user, so that it takes as long as with a user. (It does not for users whose password was
	// hashed at another cost, before the setting was changed.)
	decoy []byte

	cores   int64
	running *semaphore.Weighted
	maxWait time.Duration // 0: no limit
	waiting atomic.Int64  // requests in the queue
	took    atomic.Int64  // how long a hash takes, in nanoseconds; a moving average
	refused prometheus.Counter
}

// newPasswords hashes at a bcrypt cost, and allows some wrong passwords for an email (see signInFailures). It measures how long a hash
// takes.
func newPasswords(cost int, maxWait time.Duration, allowedFailures int, metrics prometheus.Registerer) (*passwords, error) {
	cores := int64(max(1, runtime.GOMAXPROCS(0)-1))
	p := &passwords{
		cost: cost, failures: newSignInFailures(allowedFailures), compare: bcrypt.CompareHashAndPassword,
		cores: cores, running: semaphore.NewWeighted(cores), maxWait: maxWait,
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "boxoffice_passwords_refused_total", Help: "Requests that got 503 because too many waited for a password to be hashed.",
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
	if p.decoy, err = bcrypt.GenerateFromPassword([]byte("no user has this password"), cost); err != nil {
		return nil, err
	}
	p.took.Store(int64(time.Since(began)))
	return p, nil
}

// Hash returns the bcrypt hash of a password of at most 72 bytes.
func (p *passwords) Hash(ctx context.Context, password string) (string, error) {
	if err := p.wait(ctx); err != nil {
		return "", err
	}
	defer p.running.Release(1)
	defer p.measure(time.Now())
	hash, err := bcrypt.GenerateFromPassword([]byte(password), p.cost)
	if err != nil {
		return "", fmt.Errorf("hash a password: %w", err)
	}
	return string(hash), nil
}

// Match reports whether the password is the one that was hashed. No password matches the hash "", of an email without a user. It
// returns a problem instead if there were too many wrong passwords for the email, or the queue is too long.
func (p *passwords) Match(ctx context.Context, email, hash, password string) (bool, error) {
	if err := p.wait(ctx); err != nil {
		return false, err
	}
	defer p.running.Release(1)
	now := time.Now()
	if err := p.failures.Check(email, now); err != nil {
		return false, err
	}
	right := p.matches(hash, password)
	p.failures.Count(email, right, now)
	return right, nil
}

func (p *passwords) matches(hash, password string) bool {
	defer p.measure(time.Now())
	against := []byte(hash)
	possible := hash != "" && len(password) <= longestPassword
	if !possible {
		against = p.decoy
	}
	// bcrypt reads 72 bytes only, so a longer password would match by its beginning.
	err := p.compare(against, []byte(password)[:min(len(password), longestPassword)])
	return err == nil && possible
}

// Admit returns the error that Hash and Match would return now because the queue is too long. Call it before other work.
func (p *passwords) Admit() error { return p.checkQueue(p.waiting.Load()) }

// checkQueue refuses a request that would wait too long behind others.
func (p *passwords) checkQueue(others int64) error {
	wait := time.Duration(others * p.took.Load() / p.cores)
	if p.maxWait == 0 || wait <= p.maxWait {
		return nil
	}
	p.refused.Inc()
	return problem.New(problem.Unavailable, "overloaded", "Too many people sign in at the moment. Nothing was changed: send the same request again.").WithRetryAfter(max(time.Second, wait))
}

// wait waits in the queue for a core. The caller releases it.
func (p *passwords) wait(ctx context.Context) error {
	others := p.waiting.Add(1) - 1
	defer p.waiting.Add(-1)
	if err := p.checkQueue(others); err != nil {
		return err
	}
	if err := p.running.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("wait to hash a password: %w", err)
	}
	return nil
}

// measure moves the average by an eighth of the difference. No more hashes run than there are cores, so a hash takes longer only
// because other work uses the machine.
func (p *passwords) measure(began time.Time) {
	for {
		before := p.took.Load()
		if p.took.CompareAndSwap(before, before+(int64(time.Since(began))-before)/8) {
			return
		}
	}
}
