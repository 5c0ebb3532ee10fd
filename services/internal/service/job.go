package service

import (
	"context"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/dapr/go-sdk/client"
)

const (
	// scheduleTime bounds one try to register a job. schedulePause is the time between two tries.
	scheduleTime  = 5 * time.Second
	schedulePause = time.Second
)

// Job lets Dapr's scheduler call run once every period, in any one of the service's processes. run must return soon, and
// starts longer work in the background. The scheduler may call late, twice or not at all, so the result may not depend on
// the number of calls. An error is logged; the next call is the retry.
//
// The job belongs to the service, not to the process: every process registers it under the same name and replaces the earlier
// registration. While the scheduler is unavailable, the registration is retried and nothing else waits for it.
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
		tries := 0
		_, err := backoff.Retry(ctx, func() (none struct{}, err error) {
			err = s.schedule(ctx, job)
			if tries++; tries == 1 && err != nil {
				s.Log.Warn("the scheduler does not take a job yet; its registration is retried", "job", name, "error", err)
			}
			return none, err
		}, backoff.WithBackOff(backoff.NewConstantBackOff(schedulePause)), backoff.WithMaxElapsedTime(0))
		if err == nil {
			s.Log.Debug("job registered", "job", name, "period", period.String(), "tries", tries)
		}
		return nil // an error means that the process ends
	})
}

func (s *Service) schedule(ctx context.Context, job *client.Job) error {
	ctx, cancel := context.WithTimeout(ctx, scheduleTime)
	defer cancel()
	return s.Dapr.ScheduleJob(ctx, job)
}
