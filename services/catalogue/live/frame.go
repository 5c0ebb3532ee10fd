package live

import (
	"encoding/json"
	"sync"

	"boxoffice/services/catalogue/index"
	"boxoffice/services/internal/id"
)

// The data of the events, as JSON.
type (
	// listingEvent is the data of the event listing.
	listingEvent struct {
		Change   index.Kind   `json:"change"`
		ShowID   id.Show      `json:"showId"`
		TicketID id.Ticket    `json:"ticketId"`
		Price    int64        `json:"price"`
		Currency string       `json:"currency"`
		Seat     *index.Place `json:"seat,omitempty"`
		// Left is how many listings of the show are available after the change, and PriceFrom is their lowest price.
		Left      int    `json:"left"`
		PriceFrom *int64 `json:"priceFrom,omitempty"`
	}
	// showEvent is the data of the event show.
	showEvent struct {
		Change index.Kind `json:"change"`
		ShowID id.Show    `json:"showId"`
	}
)

// frame is an update in the form in which it is sent. It is made once, by the first stream that sends it.
type frame struct {
	once sync.Once
	sent []byte
}

func (f *frame) bytes(epoch string, u *index.Update) []byte {
	f.once.Do(func() { f.sent = appendUpdate(make([]byte, 0, 512), u.Position.Format(epoch), u) })
	return f.sent
}

func appendUpdate(b []byte, position string, u *index.Update) []byte {
	if u.Ticket == "" {
		return appendEvent(b, position, "show", showEvent{u.Kind, u.Show})
	}
	data := listingEvent{Change: u.Kind, ShowID: u.Show, TicketID: u.Ticket, Price: u.Price, Currency: u.Currency, Seat: u.Place, Left: u.Left}
	if u.Left > 0 {
		data.PriceFrom = &u.PriceFrom
	}
	return appendEvent(b, position, "listing", data)
}

// appendReady appends the event that begins a stream. A client waits two seconds before it connects again.
func appendReady(b []byte, position string) []byte {
	return appendEvent(append(b, "retry: 2000\n"...), position, "ready", struct{}{})
}

func appendReset(b []byte, position string) []byte {
	return appendEvent(b, position, "reset", struct{}{})
}

// appendHeartbeat appends a comment and a position. Clients keep the position, and get no event.
func appendHeartbeat(b []byte, position string) []byte {
	b = append(b, ": heartbeat\nid: "...)
	b = append(b, position...)
	return append(b, "\n\n"...)
}

func appendEvent(b []byte, position, event string, data any) []byte {
	b = append(b, "id: "...)
	b = append(b, position...)
	b = append(b, "\nevent: "...)
	b = append(b, event...)
	b = append(b, "\ndata: "...)
	encoded, err := json.Marshal(data) // JSON has no line breaks
	if err != nil {
		panic("live: an update is not JSON: " + err.Error())
	}
	b = append(b, encoded...)
	return append(b, "\n\n"...)
}
