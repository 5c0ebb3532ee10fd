package index

import (
	"sync"
	"time"
	_ "time/tzdata" // a container image may have no time zones
)

// zones caches the time zones that shows name.
var zones sync.Map

// localDate is the date on which a time is in a time zone, in days since 1970. A zone that is not known counts as UTC.
func localDate(t time.Time, zone string) int32 {
	location, known := zones.Load(zone)
	if !known {
		loaded, err := time.LoadLocation(zone)
		if err != nil || zone == "Local" {
			loaded = time.UTC // not cached: anybody may send any name
			location = loaded
		} else {
			location, _ = zones.LoadOrStore(zone, loaded)
		}
	}
	return dateOf(t.In(location.(*time.Location)))
}

// dateOf counts the days since 1970 of the date that a time shows.
func dateOf(t time.Time) int32 {
	return int32(time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC).Unix() / 86400) //nolint:gosec // days
}
