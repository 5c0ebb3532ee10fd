package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// requireSafe checks the slot of an order.
func requireSafe(t require.TestingT, order id.Order, expiresAt, now time.Time, ahead time.Duration) {
	slot := slotFor(order, expiresAt, now, ahead)
	end := slot.EndsAt()
	require.False(t, end.Before(expiresAt), "published before its time")
	require.False(t, end.Before(now.Add(ahead)), "the slot may be read before the order is stored")
	earliest := expiresAt
	if earliest.Before(now.Add(ahead)) {
		earliest = now.Add(ahead)
	}
	require.True(t, end.Before(earliest.Add(slotLength)), "it expires later than it must")
	require.Contains(t, slotsWithin(slot.End-1, slot.End), slot, "the ticker finds it")
	parsed, err := parseSlot(slot.String())
	require.NoError(t, err)
	require.Equal(t, slot, parsed)
}

func TestSlotFor_IsNeverEarlyAndNeverLate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := noon.Add(time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "now")))
		window := time.Duration(rapid.Int64Range(-int64(time.Hour), int64(24*time.Hour)).Draw(t, "window"))
		ahead := time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "ahead"))
		requireSafe(t, id.Order(rapid.String().Draw(t, "order")), now.Add(window), now, ahead)
	})
}

func TestSlotFor_OrdersOfOneSecondShareTheShards(t *testing.T) {
	slots := map[Slot]int{}
	for i := range 1000 {
		slots[slotFor(id.Order(fmt.Sprint("order-", i)), noon.Add(time.Duration(i)*time.Millisecond), noon.Add(-time.Hour), headway)]++
	}
	require.Len(t, slots, 1+shardCount, "the order of noon itself is in the slot that ends then")
	for shard := range shardCount {
		require.Greater(t, slots[Slot{noon.Unix() + 1, shard}], 1000/shardCount*8/10)
	}
}

func TestSlotsWithin_ReturnsEachSlotOnce(t *testing.T) {
	slots := slotsWithin(100, 103)
	require.Len(t, slots, 3*shardCount)
	require.Equal(t, Slot{101, 0}, slots[0])
	require.Equal(t, Slot{103, shardCount - 1}, slots[len(slots)-1])
	require.Empty(t, slotsWithin(100, 100))
	require.Empty(t, slotsWithin(100, 99))
}

func TestParseSlot_RefusesOtherTexts(t *testing.T) {
	for _, bad := range []string{"", ".", "1", "1.", ".1", "1.x", "01.0", "+1.0", "1.0 ", "0190a5c3-7b1e-7000-8000-000000000000", "nobody"} {
		_, err := parseSlot(bad)
		require.Error(t, err, bad)
	}
}

func TestSlot_HasEndedAtItsEnd(t *testing.T) {
	slot := Slot{End: noon.Unix()}
	require.Equal(t, time.Minute, slot.Remaining(noon.Add(-time.Minute)))
	require.Zero(t, slot.Remaining(noon.Add(time.Hour)))
	require.False(t, slot.HasEnded(noon.Add(-1)))
	require.True(t, slot.HasEnded(noon))
}

func pageOf(from, until int) Page {
	page := Page{Schema: 1}
	for i := from; i < until; i++ {
		page.Orders = append(page.Orders, Order{ID: id.Order(fmt.Sprint("order-", i)), ExpiresAt: noon})
	}
	return page
}

func TestProgress_PublishPutsAllOrdersIntoNumberedEvents(t *testing.T) {
	slot := Slot{End: noon.Unix(), Shard: 1}
	var p Progress
	p.AddWriter("b")
	p.AddWriter("a")
	next := map[string][]Page{"b": {pageOf(0, 64), pageOf(64, 250)}, "a": {pageOf(250, 300)}}
	again := Progress{Schema: 1, Published: map[string]int{"a": 0, "b": 0}}

	published := p.Publish(slot, next)
	require.Len(t, published, 2)
	require.Len(t, published[0].Orders, eventLength)
	require.Len(t, published[1].Orders, 300-eventLength)
	named := map[id.Order]bool{}
	for i, event := range published {
		require.Equal(t, slot.String(), event.Slot)
		require.Equal(t, clock.Stamp(noon), event.EndsAt)
		aggregate, version := event.Aggregate()
		require.Equal(t, slot.String(), aggregate)
		require.Equal(t, i+1, version)
		for _, order := range event.All() {
			named[order.ID] = true
			require.Equal(t, clock.Stamp(noon), order.ExpiresAt)
		}
	}
	require.Len(t, named, 300)
	require.Equal(t, map[string]int{"b": 2, "a": 1}, p.Published)
	require.Equal(t, published, again.Publish(slot, next), "the same pages give the same events")

	late := p.Publish(slot, map[string][]Page{"a": {pageOf(300, 301)}})
	require.Len(t, late, 1)
	require.Equal(t, 3, late[0].Part)
	require.Empty(t, p.Publish(slot, nil))
}

func TestExpirationComplete_BothSchemasHaveTheirOrders(t *testing.T) {
	old := events.ExpirationComplete{OrderID: "order-1", ExpiresAt: clock.Stamp(noon), Firing: 3}
	require.Equal(t, []events.ExpiredOrder{{ID: "order-1", ExpiresAt: clock.Stamp(noon)}}, old.All())
	aggregate, version := old.Aggregate()
	require.Equal(t, "order-1", aggregate)
	require.Equal(t, 3, version)
}

func TestParseDeadline_RefusesOtherData(t *testing.T) {
	d, err := parseDeadline([]byte(`{"schema":1,"expiresAt":"2026-05-01T12:00:00Z"}`))
	require.NoError(t, err)
	require.Equal(t, noon, d.ExpiresAt)
	for _, bad := range []string{``, `"x"`, `{"expiresAt":"tomorrow"}`} {
		_, err := parseDeadline([]byte(bad))
		require.Error(t, err, bad)
	}
}
