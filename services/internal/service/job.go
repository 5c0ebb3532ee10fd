package service

import (
	"context"
	"net/http"
	"time"

	"github.com/dapr/go-sdk/client"
)

const (
	// scheduleTime bounds one try to register a job, and schedulePause is the time between two.
	scheduleTime  = 5 * time.Second
	schedulePause = time.Second
)

// Job has Dapr's scheduler call run once every period, in one of the service's processes, whichever that is. run must
// return soon: what takes long it hands on. The scheduler may call late, twice or not at all, so run must not depend
// on how often it is called; an error is logged, and the next firing is the next try.
//
// The job is the service's, not the process's: every process registers it, under the same name, and each time that
// replaces what was there. A scheduler that is not there yet holds nothing up; it is tried until it takes the job.
func (s *Service) Job(name string, period time.Duration, run func(ctx context.Context) error) {
	s.Callback.Post("/job/"+name, func(w http.ResponseWriter, r *http.Request) {
		s.Log.Debug("job fired", "job", name)
		if err := run(r.Context()); err != nil {
			s.Log.Warn("a job failed", "job", name, "error", err)
			http.Error(w, "the job failed", http.StatusInternalServerError)
		}
	})
	job := client.NewJob(name, client.WithJobSchedule("@every "+period.String()), client.WithJobDropFailurePolicy())
	job.Overwrite = true
	s.Go("register job "+name, func(ctx context.Context) error {
		for tries := 1; ; tries++ {
			err := s.schedule(ctx, job)
			if err == nil {
				s.Log.Debug("job registered", "job", name, "period", period.String(), "tries", tries)
				return nil
			}
			if tries == 1 {
				s.Log.Warn("the scheduler does not take a job yet; it is tried until it does", "job", name, "error", err)
			}
			select {
			case <-time.After(schedulePause):
			case <-ctx.Done():
				return nil
			}
		}
	})
}

func (s *Service) schedule(ctx context.Context, job *client.Job) error {
	ctx, cancel := context.WithTimeout(ctx, scheduleTime)
	defer cancel()
	return s.Dapr.ScheduleJob(ctx, job)
}
