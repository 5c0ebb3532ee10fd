package main

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
)

// Orders that expire at about the same time share a slot. A slot has one reminder and causes one event, or a few. The life of a
// slot:
//
//  1. Add: orders that expire within slotLength before the slot's end are stored in it, in pages.
//  2. Publish: at the slot's end its reminder fires, or the ticker finds it. All its pages become events, and are deleted in
//     the same transaction. A page that is added later is published later.
//  3. Remove: ten minutes after the slot's end, when all of it is published, the ticker deletes the slot's document.

const (
	// slotLength is how much later than its own time an order may be published.
	slotLength = time.Second
	// shardCount is the number of slots that end at the same time, so that several processes share the work.
	shardCount = 2
	// headway is the least time between now and the end of an order's slot. In this time the order's transaction must be
	// committed, because at its end the slot may be read.
	headway = time.Second
	// eventLength is the number of orders in one event, about 15 kB.
	eventLength = 200
)

// Slot is a time at which orders expire. Its text is the id of its actor.
type Slot struct {
	End   int64 // Unix time in seconds
	Shard int
}

// slotFor returns the slot of an order: the first one that ends neither before expiresAt nor earlier than ahead from now.
func slotFor(order id.Order, expiresAt, now time.Time, ahead time.Duration) Slot {
	at := expiresAt
	if earliest := now.Add(ahead); earliest.After(at) {
		at = earliest
	}
	end := at.Truncate(slotLength)
	if end.Before(at) {
		end = end.Add(slotLength)
	}
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(order))
	return Slot{End: end.Unix(), Shard: int(hash.Sum32() % shardCount)}
}

// slotsWithin returns all slots that end after a time and not after another, earliest first. Both are Unix times in seconds.
func slotsWithin(after, until int64) []Slot {
	length := int64(slotLength / time.Second)
	var slots []Slot
	for end := (after/length + 1) * length; end <= until; end += length {
		for shard := range shardCount {
			slots = append(slots, Slot{end, shard})
		}
	}
	return slots
}

func (s Slot) String() string {
	return strconv.FormatInt(s.End, 10) + "." + strconv.Itoa(s.Shard)
}

// parseSlot reads what String writes.
func parseSlot(text string) (s Slot, err error) {
	end, shard, _ := strings.Cut(text, ".")
	if s.End, err = strconv.ParseInt(end, 10, 64); err == nil {
		s.Shard, err = strconv.Atoi(shard)
	}
	if err != nil || s.String() != text {
		return Slot{}, fmt.Errorf("%q is not a slot", text)
	}
	return s, nil
}

// EndsAt is when the slot's orders are published.
func (s Slot) EndsAt() time.Time { return time.Unix(s.End, 0).UTC() }

// HasEnded reports whether the slot may have been read by now.
func (s Slot) HasEnded(now time.Time) bool { return !now.Before(s.EndsAt()) }

// Remaining is the time until the slot's end; 0 after it.
func (s Slot) Remaining(now time.Time) time.Duration { return max(0, s.EndsAt().Sub(now)) }

// pageSchema, progressSchema and watermarkSchema are the formats of the documents that this release writes.
const (
	pageSchema      = 1
	progressSchema  = 1
	watermarkSchema = 1
)

// Order is an order that waits for its time, as pages store it.
type Order struct {
	ID        id.Order  `json:"id"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// Page has the orders that one process adds to a slot in one transaction. It never changes.
type Page struct {
	Schema int     `json:"schema"`
	Orders []Order `json:"orders"`
}

// Progress is a slot's document: which writers (processes) have added pages, and how many of their pages are published.
type Progress struct {
	Schema int `json:"schema"`
	// Published counts the published pages of each writer. A writer numbers its pages from 0, without gaps.
	Published map[string]int `json:"published"`
	// Events counts the published events. It is the version of the last one.
	Events int `json:"events"`
}

// AddWriter makes a writer's pages part of the slot. Commit it together with the writer's first page.
func (p *Progress) AddWriter(writer string) {
	p.Schema = progressSchema
	if p.Published == nil {
		p.Published = map[string]int{}
	}
	p.Published[writer] = 0
}

// Writers returns the slot's writers in a fixed order.
func (p *Progress) Writers() []string { return slices.Sorted(maps.Keys(p.Published)) }

// Publish turns each writer's next pages into the slot's next events. Commit it together with the deletion of those pages. The same
// progress and the same pages always give the same events.
func (p *Progress) Publish(slot Slot, next map[string][]Page) []events.ExpirationComplete {
	var orders []events.ExpiredOrder
	for _, writer := range p.Writers() {
		for _, page := range next[writer] {
			for _, order := range page.Orders {
				orders = append(orders, events.ExpiredOrder{ID: order.ID, ExpiresAt: clock.Stamp(order.ExpiresAt)})
			}
		}
		p.Published[writer] += len(next[writer])
	}
	var published []events.ExpirationComplete
	for part := range slices.Chunk(orders, eventLength) {
		p.Events++
		published = append(published, events.ExpirationComplete{Slot: slot.String(), EndsAt: clock.Stamp(slot.EndsAt()), Part: p.Events, Orders: part})
	}
	return published
}

// Watermark is the time up to which all slots are published and their documents deleted.
type Watermark struct {
	Schema int   `json:"schema"`
	End    int64 `json:"end"` // Unix time in seconds
}

// Deadline is the data of a single order's reminder. Earlier releases, which had no slots, made one actor for each order, with the
// order's id. Reminders that are pending at an upgrade still fire.
type Deadline struct {
	Schema    int       `json:"schema"`
	ExpiresAt time.Time `json:"expiresAt"`
}

func parseDeadline(body []byte) (Deadline, error) {
	var d Deadline
	if err := json.Unmarshal(body, &d); err != nil {
		return d, fmt.Errorf("the reminder's data are not readable: %w", err)
	}
	return d, nil
}
