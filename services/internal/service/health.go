package service

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"

	"boxoffice/services/internal/problem"
)

// checkTime bounds all readiness checks of one request.
const checkTime = 2 * time.Second

// healthRoutes serves /healthz (the process runs) and /readyz (its dependencies are reachable).
func (s *Service) healthRoutes() {
	s.Public.Get("/healthz", func(c *fiber.Ctx) error { return c.JSON(fiber.Map{"status": "ok"}) })
	s.Public.Get("/readyz", func(c *fiber.Ctx) error {
		report, ready := s.readiness(c.UserContext())
		if !ready {
			return problem.New(problem.Unavailable, "not_ready", "This service is %s.", report.Status).WithMember("checks", report.Checks)
		}
		return c.JSON(report)
	})
}

// readinessReport has the result of each check: "ok" or the problem.
type readinessReport struct {
	Status string            `json:"status"`
	Checks map[string]string `json:"checks"`
}

func (s *Service) readiness(ctx context.Context) (readinessReport, bool) {
	report := readinessReport{Status: "ready", Checks: map[string]string{}}
	select {
	case <-s.ready:
	default:
		report.Status = "starting"
		return report, false
	}
	if s.running.Err() != nil {
		report.Status = "shutting down"
		return report, false
	}
	if s.ReadyAge == 0 {
		return s.check(ctx)
	}
	// Requests during the checks wait for them and share their result.
	s.checking.Lock()
	defer s.checking.Unlock()
	if s.checked.at.IsZero() || time.Since(s.checked.at) >= s.ReadyAge {
		s.checked.report, s.checked.ready = s.check(context.WithoutCancel(ctx))
		s.checked.at = time.Now()
	}
	return s.checked.report, s.checked.ready
}

// lastCheck has the result of the last checks.
type lastCheck struct {
	at     time.Time
	report readinessReport
	ready  bool
}

// check runs all checks.
func (s *Service) check(ctx context.Context) (readinessReport, bool) {
	report := readinessReport{Status: "ready", Checks: map[string]string{}}
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	results := make([]error, len(s.checks))
	var checking sync.WaitGroup
	for i, check := range s.checks {
		checking.Go(func() { results[i] = check.run(ctx) })
	}
	checking.Wait()
	for i, check := range s.checks {
		report.Checks[check.name] = "ok"
		if results[i] != nil {
			report.Status = "not ready"
			report.Checks[check.name] = "not reachable"
			if p, ok := errors.AsType[*problem.Error](results[i]); ok {
				report.Checks[check.name] = p.Details[0].Message
			}
		}
	}
	s.outages.note(s.Log, s.checks, results, report.Checks)
	return report, errors.Join(results...) == nil
}

// usualStart is how long dependencies may take to start before a failing check is a warning.
const usualStart = 30 * time.Second

// outageLog logs when a check begins to fail, when the reason changes, and when it succeeds again, so that a long outage has few
// lines. Before the service is ready for the first time a failure is not a warning, because its dependencies may still be starting;
// if they take long, it becomes one.
type outageLog struct {
	mu      sync.Mutex
	started time.Time // of the first check
	ready   bool      // the service has been ready once
	failing map[string]failure
}

// failure is the last one of a check that was logged.
type failure struct {
	reason string
	level  slog.Level
}

func (l *outageLog) note(log *slog.Logger, checks []check, results []error, reasons map[string]string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.started.IsZero() {
		l.started = time.Now()
	}
	level := slog.LevelInfo
	if l.ready || time.Since(l.started) > usualStart {
		level = slog.LevelWarn
	}
	failing := map[string]failure{}
	for i, check := range checks {
		before, failed := l.failing[check.name]
		switch {
		case results[i] != nil:
			now := failure{reasons[check.name], max(level, before.level)}
			if now != before {
				log.Log(context.Background(), level, "not ready", "check", check.name, "error", results[i])
			}
			failing[check.name] = now
		case failed:
			log.Info("ready again", "check", check.name)
		}
	}
	l.failing = failing
	l.ready = l.ready || errors.Join(results...) == nil
}
