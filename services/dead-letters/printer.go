package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
	"unicode/utf8"
)

// printer answers: for people, or in JSON.
type printer struct {
	out  io.Writer
	json bool
}

// view is a letter as programs see it.
type view struct {
	Letter
	Status status `json:"status"`
}

func viewOf(l Letter) view { return view{l, l.status()} }

func (p printer) encode(value any) error {
	encoder := json.NewEncoder(p.out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

func (p printer) letters(letters []Letter) error {
	views := make([]view, len(letters))
	for i, l := range letters {
		views[i] = viewOf(l)
	}
	return p.encode(views)
}

// list prints a line a letter, the newest first.
func (p printer) list(letters []Letter) error {
	if p.json {
		return p.letters(letters)
	}
	if len(letters) == 0 {
		_, err := fmt.Fprintln(p.out, "No dead letters.")
		return err
	}
	count := map[status]int{}
	table := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tSTATUS\tLAST FAILURE\tSERVICE\tTRIED\tWHY\tEVENT\tREASON")
	for _, l := range letters {
		count[l.status()]++
		tried := "-"
		if l.Attempts > 0 {
			tried = fmt.Sprint(l.Attempts)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.ID, l.status(), l.LastFailure.UTC().Format(time.DateTime),
			orDash(l.Service), tried, l.Code, orDash(l.EventKind), shortened(l.Reason, 80))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(p.out, "\n%d waiting, %d sent again. Times are in UTC. Next: show ID, send ID, send-all.\n", count[waiting]+count[sending], count[sent])
	return err
}

// letter prints all of one letter.
func (p printer) letter(l Letter) error {
	if p.json {
		return p.encode(viewOf(l))
	}
	table := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(table, name+"\t"+format+"\n", args...) }
	line("letter", "%s", l.ID)
	line("status", "%s", l.status())
	line("event", "%s", orDash(l.EventID))
	line("type", "%s", orDash(l.EventKind))
	line("service", "%s", orDash(l.Service))
	line("instance", "%s", orDash(l.Instance))
	line("why", "%s", l.Code)
	line("reason", "%s", l.Reason)
	if l.Attempts > 0 {
		line("tried", "%d, the first time at %s, the last time at %s", l.Attempts, clock(l.FirstFailure), clock(l.LastFailure))
	}
	line("taken in", "%s", clock(l.TakenAt))
	if l.SentAt != nil {
		line("sent", "%d, the last time at %s", l.Sendings, clock(*l.SentAt))
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

// sent prints what was sent again.
func (p printer) sent(letters []Letter) error {
	if p.json {
		return p.letters(letters)
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

func clock(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// shortened is the first line of s, cut to so many characters.
func shortened(s string, most int) string {
	runes := []rune(s)
	for i, r := range runes {
		if r == '\n' || i == most {
			return string(runes[:i]) + " …"
		}
	}
	return s
}
