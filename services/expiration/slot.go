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

	"boxoffice/services/internal/events"
)

// Orders that expire at about the same time share a slot, and a slot has one reminder and causes one event. The life
// of a slot:
//
//  1. Add: orders that end within slotLength before the slot's end are stored in it, in pages (store.go).
//  2. Publish: at its end its reminder fires, or the ticker finds it: all pages that are there become events, and are
//     deleted in the same transaction. A page that comes later is published later.
//  3. Forget: ten minutes after its end, when all of it is published, the ticker deletes the slot's document.

const (
	// slotLength is how much later than its own time an order may be published.
	slotLength = time.Second
	// shards is how many slots share one slotLength, so that as many processes share the work of a busy second.
	shards = 2
	// headway is how far ahead, at least, the end of a slot is when an order is put into it: the time that the order's
	// transaction has before the slot may be read.
	headway = time.Second
	// eventLength is how many orders one event carries, about 15 kB.
	eventLength = 200
)

// Slot is a time at which orders expire. Its text is the id of its actor.
type Slot struct {
	End   int64 // Unix time in seconds
	Shard int
}

// slotFor returns the slot of an order that expires at expiresAt and is put into it at now: the first one that ends
// neither before that time nor sooner than ahead from now.
func slotFor(orderID string, expiresAt, now time.Time, ahead time.Duration) Slot {
	at := expiresAt
	if soonest := now.Add(ahead); soonest.After(at) {
		at = soonest
	}
	end := at.Truncate(slotLength)
	if end.Before(at) {
		end = end.Add(slotLength)
	}
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(orderID))
	return Slot{End: end.Unix(), Shard: int(hash.Sum32() % shards)}
}

// slotsWithin returns all slots that end after a time and not after another, earliest first. Both are whole seconds of
// Unix time.
func slotsWithin(after, until int64) []Slot {
	length := int64(slotLength / time.Second)
	var slots []Slot
	for end := (after/length + 1) * length; end <= until; end += length {
		for shard := range shards {
			slots = append(slots, Slot{end, shard})
		}
	}
	return slots
}

func (s Slot) String() string {
	return strconv.FormatInt(s.End, 10) + "." + strconv.Itoa(s.Shard)
}

// parseSlot reads what String writes.
func parseSlot(id string) (s Slot, err error) {
	end, shard, _ := strings.Cut(id, ".")
	if s.End, err = strconv.ParseInt(end, 10, 64); err == nil {
		s.Shard, err = strconv.Atoi(shard)
	}
	if err != nil || s.String() != id {
		return Slot{}, fmt.Errorf("%q is not the id of a slot", id)
	}
	return s, nil
}

// EndsAt is when the slot's orders are published.
func (s Slot) EndsAt() time.Time { return time.Unix(s.End, 0).UTC() }

// IsOver says whether the slot may have been read by now.
func (s Slot) IsOver(now time.Time) bool { return !now.Before(s.EndsAt()) }

// Due is how long after now the slot's reminder is to fire; for a slot that is over, at once.
func (s Slot) Due(now time.Time) time.Duration { return max(0, s.EndsAt().Sub(now)) }

// Expiring is an order that waits for its time.
type Expiring struct {
	ID        string    `json:"id"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// Page is what one process adds to a slot in one transaction. It never changes.
type Page struct {
	Schema int        `json:"schema"`
	Orders []Expiring `json:"orders"`
}

// Progress is a slot's document: who writes pages of the slot, and how much of them is published.
type Progress struct {
	Schema int `json:"schema"`
	// Published counts the pages that are published, by their writer. A writer numbers its pages from 0, without gaps.
	Published map[string]int `json:"published"`
	// Events counts the events; it is the version of the last one.
	Events int `json:"events"`
}

// AddWriter makes the pages of a writer part of the slot. It must be committed with the writer's first page.
func (p *Progress) AddWriter(writer string) {
	p.Schema = 1
	if p.Published == nil {
		p.Published = map[string]int{}
	}
	p.Published[writer] = 0
}

// Writers are those of the slot's pages, in a fixed order.
func (p *Progress) Writers() []string { return slices.Sorted(maps.Keys(p.Published)) }

// Publish turns each writer's next pages into the slot's next events. It must be committed together with the deletion
// of those pages. Whoever publishes the same pages after the same progress publishes the same events.
func (p *Progress) Publish(slot Slot, next map[string][]Page) []events.ExpirationComplete {
	var orders []events.ExpiredOrder
	for _, writer := range p.Writers() {
		for _, page := range next[writer] {
			for _, order := range page.Orders {
				orders = append(orders, events.ExpiredOrder{ID: order.ID, ExpiresAt: order.ExpiresAt})
			}
		}
		p.Published[writer] += len(next[writer])
	}
	var published []events.ExpirationComplete
	for part := range slices.Chunk(orders, eventLength) {
		p.Events++
		published = append(published, events.ExpirationComplete{Slot: slot.String(), EndsAt: slot.EndsAt(), Part: p.Events, Orders: part})
	}
	return published
}

// Deadline is what the reminder of a single order carries. Releases before the slots set one for each order, with the
// order's id as the actor's; those that are pending at an upgrade still fire.
type Deadline struct {
	Schema    int       `json:"schema"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// parseDeadline reads what a single order's reminder carries.
func parseDeadline(body []byte) (Deadline, error) {
	var d Deadline
	if err := json.Unmarshal(body, &d); err != nil {
		return d, fmt.Errorf("the reminder's data are not readable: %w", err)
	}
	return d, nil
}
