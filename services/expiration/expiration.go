package main

import (
	"encoding/json"
	"fmt"
	"time"

	"boxoffice/services/internal/events"
)

// Deadline is what a reminder carries: until when an order can be paid.
type Deadline struct {
	Schema    int       `json:"schema"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// parseDeadline reads what a reminder carries.
func parseDeadline(body []byte) (Deadline, error) {
	var d Deadline
	if err := json.Unmarshal(body, &d); err != nil {
		return d, fmt.Errorf("the reminder's data are not readable: %w", err)
	}
	return d, nil
}

// Due is how long after now the reminder is to fire for the first time; for an order whose time is over, at once.
func (d Deadline) Due(now time.Time) time.Duration { return max(0, d.ExpiresAt.Sub(now)) }

// Told is what the reminder tells when it fires at now. It fires again and again, a period apart, until the
// order is settled; the number of the firing follows from the time alone, so that two processes that both take
// a firing for theirs tell the same event.
func (d Deadline) Told(orderID string, now time.Time, period time.Duration) events.ExpirationComplete {
	firing := 1 + int(max(0, now.Sub(d.ExpiresAt))/period)
	return events.ExpirationComplete{OrderID: orderID, ExpiresAt: d.ExpiresAt, Firing: firing}
}
