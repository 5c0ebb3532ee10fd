package clock

import "time"

// layout has three digits of a second, also if they are zeros: so texts of times sort as the times do.
const layout = "2006-01-02T15:04:05.000Z"

// Timestamp is a time as REST and events show it: JSON as 2030-01-02T12:00:00.000Z, in UTC and whole milliseconds. It reads any
// RFC 3339 time. Stored documents keep time.Time.
type Timestamp struct{ time.Time }

// Stamp returns the time as a Timestamp: cut to whole milliseconds, so it is equal to the one that is read from its JSON.
func Stamp(t time.Time) Timestamp { return Timestamp{t.UTC().Truncate(time.Millisecond)} }

// String is the text that JSON has, without quotes.
func (t Timestamp) String() string { return t.UTC().Format(layout) }

// MarshalJSON implements json.Marshaler.
func (t Timestamp) MarshalJSON() ([]byte, error) {
	text := make([]byte, 0, len(layout)+2)
	text = append(text, '"')
	text = t.UTC().AppendFormat(text, layout)
	return append(text, '"'), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *Timestamp) UnmarshalJSON(text []byte) error { return t.Time.UnmarshalJSON(text) }
