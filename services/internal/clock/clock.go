// Package clock gives the time to rules and stores, so that tests can choose it.
package clock

import "time"

// Clock returns the time now.
type Clock func() time.Time

// System is the clock of this machine. Its times are in UTC and whole milliseconds, as documents hold them: a time that was
// written and read again is equal to the one before.
func System() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// At is a clock that stands at one time.
func At(t time.Time) Clock { return func() time.Time { return t } }
