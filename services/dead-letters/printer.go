package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"boxoffice/services/internal/events"
)

// printer prints dead letters as text or as JSON.
type printer struct {
	out  io.Writer
	json bool
}

// output is a dead letter in JSON.
type output struct {
	Schema       int             `json:"schema"`
	ID           string          `json:"id"`
	Service      string          `json:"service"`
	Instance     string          `json:"instance"`
	Code         events.Code     `json:"code"`
	Reason       string          `json:"reason"`
	Attempts     int             `json:"attempts"`
	FirstFailure time.Time       `json:"firstFailure"`
	LastFailure  time.Time       `json:"lastFailure"`
	EventID      string          `json:"eventId,omitempty"`
	EventKind    string          `json:"eventType,omitempty"`
	Event        json.RawMessage `json:"event,omitempty"`
	Raw          []byte          `json:"raw,omitempty"`
	StoredAt     time.Time       `json:"takenAt"`
	Sendings     int             `json:"sendings"`
	Begun        []byte          `json:"begun,omitempty"`
	SentAt       *time.Time      `json:"sentAt,omitempty"`
	Version      int             `json:"version"`
	Status       Status          `json:"status"`
}

func outputOf(l DeadLetter) output {
	return output{
		l.Schema, l.ID, l.Service, l.Instance, l.Code, l.Reason, l.Attempts, l.FirstFailure, l.LastFailure, l.EventID, l.EventKind,
		l.Event, l.Raw, l.StoredAt, l.Sendings, l.Begun, l.SentAt, l.Version, l.Status(),
	}
}

func (p printer) encode(value any) error {
	encoder := json.NewEncoder(p.out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

func (p printer) encodeAll(letters []DeadLetter) error {
	outputs := make([]output, len(letters))
	for i, l := range letters {
		outputs[i] = outputOf(l)
	}
	return p.encode(outputs)
}

// list prints one line for each dead letter, in the order given.
func (p printer) list(letters []DeadLetter) error {
	if p.json {
		return p.encodeAll(letters)
	}
	if len(letters) == 0 {
		_, err := fmt.Fprintln(p.out, "No dead letters.")
		return err
	}
	count := map[Status]int{}
	table := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tSTATUS\tLAST FAILURE\tSERVICE\tATTEMPTS\tCODE\tEVENT\tREASON")
	for _, l := range letters {
		count[l.Status()]++
		attempts := "-"
		if l.Attempts > 0 {
			attempts = fmt.Sprint(l.Attempts)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.ID, l.Status(), l.LastFailure.UTC().Format(time.DateTime),
			orDash(l.Service), attempts, l.Code, orDash(l.EventKind), shortened(l.Reason, 80))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(p.out, "\n%d waiting, %d sent again. Times are in UTC. Next: show ID, send ID, send-all.\n", count[Waiting]+count[Sending], count[Sent])
	return err
}

// show prints one dead letter with its event.
func (p printer) show(l DeadLetter) error {
	if p.json {
		return p.encode(outputOf(l))
	}
	table := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(table, name+"\t"+format+"\n", args...) }
	line("dead letter", "%s", l.ID)
	line("status", "%s", l.Status())
	line("event", "%s", orDash(l.EventID))
	line("type", "%s", orDash(l.EventKind))
	line("service", "%s", orDash(l.Service))
	line("instance", "%s", orDash(l.Instance))
	line("code", "%s", l.Code)
	line("reason", "%s", l.Reason)
	if l.Attempts > 0 {
		line("attempts", "%d, the first at %s, the last at %s", l.Attempts, timeText(l.FirstFailure), timeText(l.LastFailure))
	}
	line("stored", "%s", timeText(l.StoredAt))
	if l.SentAt != nil {
		line("sent", "%d times, the last at %s", l.Sendings, timeText(*l.SentAt))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(p.out)
	switch {
	case l.Event != nil:
		return p.encode(l.Event)
	case utf8.Valid(l.Raw):
		_, err := fmt.Fprintf(p.out, "%s\n", l.Raw)
		return err
	default:
		_, err := fmt.Fprintf(p.out, "%q\n", l.Raw)
		return err
	}
}

// showSent prints which dead letters were sent again.
func (p printer) showSent(letters []DeadLetter) error {
	if p.json {
		return p.encodeAll(letters)
	}
	for _, l := range letters {
		if _, err := fmt.Fprintf(p.out, "sent again: %s (%s)\n", l.ID, orDash(l.EventID)); err != nil {
			return err
		}
	}
	if len(letters) == 0 {
		_, err := fmt.Fprintln(p.out, "Nothing was sent.")
		return err
	}
	return nil
}

func timeText(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// shortened returns the first line of s, with at most that many characters.
func shortened(s string, most int) string {
	runes := []rune(s)
	for i, r := range runes {
		if r == '\n' || i == most {
			return string(runes[:i]) + " …"
		}
	}
	return s
}
