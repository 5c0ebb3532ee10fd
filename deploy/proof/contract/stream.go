package contract

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
)

// eventStream is the media type of server-sent events. A document describes the data of each event in x-events beside the schema.
const eventStream = "text/event-stream"

// isStream reports whether a response has no end, so that its body is checked while it is read.
func isStream(h http.Header) bool {
	mediaType, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	return mediaType == eventStream
}

// CheckEvent compares one event of a stream with what the operation of the request describes. name is the event's name.
func (d *Document) CheckEvent(x Exchange, name string, data []byte) *Finding {
	o, _, _ := d.match(x.Method, x.URL)
	if o == nil || o.responses[x.Status] == nil {
		return nil // Check has found that
	}
	differences := []string{fmt.Sprintf("the event %q is not described", name)}
	if described, ok := o.responses[x.Status].content.byType[eventStream].events[name]; ok {
		differences = d.checkClosed(described, data)
	}
	if len(differences) == 0 {
		return nil
	}
	x.ResponseBody = fmt.Appendf(nil, "event: %s\ndata: %s", name, data)
	return &Finding{Exchange: x, Operation: o.ID, Differences: differences}
}

// streamBody is the body of a stream. It checks each event when it was read whole.
type streamBody struct {
	io.ReadCloser
	check func(line []byte)
	begun []byte // of the line that has not ended
}

func (b *streamBody) Read(into []byte) (int, error) {
	n, err := b.ReadCloser.Read(into)
	b.begun = append(b.begun, into[:n]...)
	for {
		line, rest, ended := bytes.Cut(b.begun, []byte("\n"))
		if !ended {
			return n, err
		}
		b.check(bytes.TrimSuffix(line, []byte("\r")))
		b.begun = append(b.begun[:0], rest...)
	}
}

// events reads lines and calls a function for each event.
type events struct {
	name string
	data []string
	// event is called with the name and the data of an event, and with an error if the lines are no event.
	event func(name string, data []byte, err error)
}

func (e *events) line(line []byte) {
	text := string(line)
	if text == "" {
		if e.data != nil {
			e.event(e.name, []byte(strings.Join(e.data, "\n")), nil)
		} else if e.name != "" {
			e.event(e.name, nil, errors.New("it has no data, so a browser drops it"))
		}
		e.name, e.data = "", nil
		return
	}
	field, value, _ := strings.Cut(text, ":")
	value = strings.TrimPrefix(value, " ")
	switch field {
	case "", "id", "retry": // "" is a comment
	case "event":
		e.name = value
	case "data":
		e.data = append(e.data, value)
	default:
		e.event(e.name, line, fmt.Errorf("server-sent events have no field %q", field))
	}
}

// follow returns the body of a stream, which checks its events and gives findings to report.
func (t *Transport) follow(x Exchange, body io.ReadCloser, report func(Finding)) io.ReadCloser {
	lines := &events{event: func(name string, data []byte, err error) {
		if err != nil {
			report(Finding{Exchange: x, Operation: "", Differences: []string{fmt.Sprintf("the event %q: %v", name, err)}})
			return
		}
		if finding := t.validator.document.CheckEvent(x, name, data); finding != nil {
			report(*finding)
		}
	}}
	return &streamBody{ReadCloser: body, check: lines.line}
}
