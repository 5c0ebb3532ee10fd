package service

import (
	"context"
	"time"
)

// Pace is how often Repeat calls a function. All times begin when the last call has ended.
type Pace struct {
	// Period is after how long the next call follows if nothing wakes it before.
	Period time.Duration
	// Pause is how long there is no call in any case.
	Pause time.Duration
	// Share makes the pause longer than a slow call: at least Share times as long as the call took.
	Share int
}

// Repeat calls a function, which reads or writes much, until ctx ends. An element in wake lets the next call begin
// before its period is over; elements that come during a call or its pause lead to one call after the pause. wake
// should have a buffer of one.
func Repeat(ctx context.Context, pace Pace, wake <-chan struct{}, call func()) {
	for {
		began := time.Now()
		call()
		paused := time.After(max(pace.Pause, time.Duration(pace.Share)*time.Since(began)))
		period := time.After(pace.Period)
		select {
		case <-paused:
		case <-ctx.Done():
			return
		}
		select {
		case <-wake:
		case <-period:
		case <-ctx.Done():
			return
		}
	}
}
