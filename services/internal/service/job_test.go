package service

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/dapr/go-sdk/client"
	"github.com/stretchr/testify/require"
)

// lateScheduler is a sidecar whose scheduler does not take jobs at first.
type lateScheduler struct {
	client.Client
	refusals int
	taken    chan *client.Job
}

func (l *lateScheduler) ScheduleJob(_ context.Context, job *client.Job) error {
	if l.refusals > 0 {
		l.refusals--
		return errors.New("no scheduler is connected")
	}
	l.taken <- job
	return nil
}

func TestJob_IsRegisteredAsSoonAsTheSchedulerTakesIt(t *testing.T) {
	s := newService("tested", &Config{APIToken: "a token of the sidecar"}, slog.New(slog.DiscardHandler))
	s.running = t.Context()
	scheduler := &lateScheduler{refusals: 1, taken: make(chan *client.Job, 1)}
	s.Dapr = scheduler
	fired := 0
	s.Job("sweep", 90*time.Second, func(context.Context) error {
		if fired++; fired == 2 {
			return errors.New("it went wrong")
		}
		return nil
	})

	job := <-scheduler.taken
	require.Equal(t, "sweep", job.Name)
	require.Equal(t, "@every 1m30s", *job.Schedule)
	require.True(t, job.Overwrite, "of many processes, and after a change of the period, it is one job")
	s.background.Wait()

	fire := func(token string) int {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("POST", "/job/sweep", nil)
		r.Header.Set("dapr-api-token", token)
		s.Callback.ServeHTTP(w, r)
		return w.Code
	}
	require.Equal(t, http.StatusUnauthorized, fire("a guess"))
	require.Zero(t, fired)
	require.Equal(t, http.StatusOK, fire("a token of the sidecar"))
	require.Equal(t, http.StatusInternalServerError, fire("a token of the sidecar"))
}
