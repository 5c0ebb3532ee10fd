package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// StreamEvent is one event of a stream (server-sent events).
type StreamEvent struct {
	ID   string // of the last event that had one: where a stream can be continued
	Type string // ready, listing, show or reset
	Data []byte
}

// Listing decodes the data of an event of the type listing.
func (e StreamEvent) Listing() (ListingUpdate, error) { return decodeUpdate[ListingUpdate](e) }

// Show decodes the data of an event of the type show.
func (e StreamEvent) Show() (ShowUpdate, error) { return decodeUpdate[ShowUpdate](e) }

func decodeUpdate[T any](e StreamEvent) (update T, err error) {
	if err = json.Unmarshal(e.Data, &update); err != nil {
		err = fmt.Errorf("the data of a stream's event %s: %w: %.300s", e.Type, err, e.Data)
	}
	return update, err
}

// ListingUpdate is what happened to a listing. Change is new, changed, reserved, free, sold or withdrawn.
type ListingUpdate struct {
	Change    string `json:"change"`
	ShowID    string `json:"showId"`
	TicketID  string `json:"ticketId"`
	Price     int64  `json:"price"`
	Currency  string `json:"currency"`
	Seat      *Place `json:"seat"`
	Left      int    `json:"left"`
	PriceFrom int64  `json:"priceFrom"`
}

// ShowUpdate is what happened to a show. Change is updated or cancelled.
type ShowUpdate struct {
	Change string `json:"change"`
	ShowID string `json:"showId"`
}

// Stream is an open stream of events. It is for one goroutine.
type Stream struct {
	body   io.ReadCloser
	lines  *bufio.Reader
	lastID string
}

// Stream sends a request whose response is a stream. A refusal is a *Problem. The stream ends with ctx, and no other time limits it.
func (c *Client) Stream(ctx context.Context, r Request) (*Stream, error) {
	response, err := c.open(ctx, r.With("Accept", "text/event-stream"))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", r.Method, r.Path, err)
	}
	if response.StatusCode != http.StatusOK {
		text, err := io.ReadAll(response.Body)
		return nil, errors.Join(problemOf(Response{Status: response.StatusCode, Header: response.Header, Body: text}), err, response.Body.Close())
	}
	return &Stream{body: response.Body, lines: bufio.NewReader(response.Body), lastID: r.Header.Get("Last-Event-ID")}, nil
}

// Close ends the stream.
func (s *Stream) Close() error { return s.body.Close() }

// Next waits for the next event. Heartbeats are skipped. The error is io.EOF if the server has ended the stream.
func (s *Stream) Next() (StreamEvent, error) {
	e := StreamEvent{}
	var data []string
	for {
		line, err := s.lines.ReadString('\n')
		if err != nil {
			return StreamEvent{}, err
		}
		line = strings.TrimRight(line, "\r\n")
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			s.lastID = value
		case "event":
			e.Type = value
		case "data":
			data = append(data, value)
		}
		if line == "" && data != nil {
			e.ID, e.Data = s.lastID, []byte(strings.Join(data, "\n"))
			return e, nil
		}
	}
}
