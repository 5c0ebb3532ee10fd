package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dapr/go-sdk/client"
	"github.com/stretchr/testify/require"
)

// script runs one function for each of the next transactions; those after that pass. pass may be called later, by anybody.
func script(f *faults, steps ...func(pass func() error) error) {
	f.set(func(f *faults) {
		f.transact = func(ctx context.Context, pass func(context.Context) error) error {
			f.mu.Lock()
			step := func(pass func() error) error { return pass() }
			if len(steps) > 0 {
				step, steps = steps[0], steps[1:]
			}
			f.mu.Unlock()
			return step(func() error { return pass(context.WithoutCancel(ctx)) })
		}
	})
}

// A transaction whose call has failed may reach the store between the read of its outcome and the fence. A writer that takes the fence
// for created returns a conflict for a change that has happened.
func TestResolve_ATransactionThatIsFasterThanTheFenceIsSuccess(t *testing.T) {
	m := newMemory()
	s, f := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
	doc := create(t, s, newKey(), "before")
	payload, event := someEvent(1)
	var late func() error
	script(f,
		func(pass func() error) error { late = pass; return context.DeadlineExceeded },
		func(fence func() error) error { return errors.Join(late(), fence()) },
	)
	var c Change
	c.Update(doc.Key, doc.ETag, thing{1, "after"})
	c.Append("all", "once")
	c.Emit(t.Context(), payload)
	require.NoError(t, s.Commit(t.Context(), &c), "it happened")
	require.Equal(t, "after", get(t, s, doc.Key).Value.Text)
	ids, _, err := s.Page(t.Context(), "all", 10, "")
	require.NoError(t, err)
	require.Equal(t, []string{"once"}, ids)
	soon(t, "its event is published", func() bool { return f.took(event) })
	create(t, s, newKey(), "the next number is used")
}

// The condition that did not hold may hold again later: the document that was in the way is deleted. What was answered as a
// conflict must not happen then.
func TestResolve_WhatWasAnsweredAsAConflictNeverHappens(t *testing.T) {
	m := newMemory()
	s, f := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
	other, _ := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
	key := newKey()
	inTheWay := create(t, other, key, "somebody else's")
	var late func() error
	script(f, func(pass func() error) error { late = pass; return context.DeadlineExceeded })
	payload, event := someEvent(1)
	var c Change
	c.Create(key, thing{1, "late"})
	c.Emit(t.Context(), payload)
	require.ErrorIs(t, s.Commit(t.Context(), &c), ErrConflict)

	var d Change
	d.Delete(key, inTheWay.ETag)
	require.NoError(t, other.Commit(t.Context(), &d))
	require.Error(t, late(), "it arrives now, and every condition of the change holds")
	_, err := Get[thing](t.Context(), s, key)
	require.ErrorIs(t, err, ErrNotFound)
	require.False(t, f.took(event))
}

// A change that fails without a conflict is tried again under the next number; the first try must not happen beside it.
func TestResolve_ATryThatArrivesLateDoesNotHappenASecondTime(t *testing.T) {
	m := newMemory()
	s, f := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
	var late func() error
	script(f, func(pass func() error) error { late = pass; return context.DeadlineExceeded })
	payload, event := someEvent(1)
	key := newKey()
	var c Change
	c.Insert(key, thing{1, "once"}) // no condition of its own
	c.Emit(t.Context(), payload)
	require.NoError(t, s.Commit(t.Context(), &c))
	soon(t, "its event is published", func() bool { return f.took(event) })
	etag := get(t, s, key).ETag
	require.Error(t, late())
	require.Equal(t, etag, get(t, s, key).ETag)
}

// A partition's next writer appends to the head that it finds. A transaction of its former writer that arrives after that
// would put the head back to what it was.
func TestIndex_AHeadThatMovedOnIsNotWrittenOverByThePartitionsFormerWriter(t *testing.T) {
	m := newMemory()
	former, f := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
	living, _ := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
	appendTo := func(s *Store, id string) {
		var c Change
		c.Append("all", id)
		require.NoError(t, s.Commit(context.Background(), &c))
	}
	appendTo(former, "01")
	partition := former.writers[0].partition
	var late error
	script(f, func(pass func() error) error {
		id := *former.writers[0].registration.Load()
		require.NoError(t, living.takeOver(context.Background(), registeredWriter{ID: id}))
		next, _ := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
		require.Equal(t, partition, next.writers[0].partition, "it has the partition now")
		for n := range pageLength + 3 { // it moves on to another page
			appendTo(next, fmt.Sprintf("03-%02d", n))
		}
		late = pass()
		return late
	})
	appendTo(former, "02")
	require.Error(t, late)
	require.NotEqual(t, partition, former.writers[0].partition)
	ids, next, err := living.Page(t.Context(), "all", 100, "")
	require.NoError(t, err)
	require.Empty(t, next)
	require.Len(t, ids, pageLength+5)
	require.Contains(t, ids, "01")
	require.Contains(t, ids, "02")
}

// Faults overlap: the broker is away, the process that takes over from a dead one dies itself, and so does the next. What the
// first one left is published by the last.
func TestTakeOver_EventsOfADeadWriterOutliveThoseWhoTakeOver(t *testing.T) {
	m := newMemory()
	dead, f := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
	f.set(func(f *faults) { f.publish = brokerAway })
	var left []string
	for range 5 {
		event, err := emit(t, dead)
		require.NoError(t, err)
		left = append(left, event)
	}
	w := registeredWriter{ID: dead.writers[0].id}
	abandon(dead)

	for range 3 {
		next, onNext := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
		onNext.set(func(f *faults) { f.publish = brokerAway })
		dying, die := context.WithTimeout(t.Context(), 100*time.Millisecond)
		require.Error(t, next.takeOver(dying, w))
		die()
		abandon(next)
		for number := range left {
			require.True(t, m.get(entryKey(w.ID, int64(number+1))).exists(), "entry %d is not published", number+1)
		}
		require.Contains(t, writers(t, next), w.ID)
	}

	last, onLast := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
	require.NoError(t, last.takeOver(t.Context(), w))
	for _, event := range left {
		require.True(t, onLast.took(event))
	}
}

// A search for slots of the earlier release begins at the first and ends at the first gap.
func TestLegacy_AnInterruptedTakeoverIsFinishedByTheNext(t *testing.T) {
	m := newMemory()
	put := func(key string, value any) {
		body, err := json.Marshal(value)
		require.NoError(t, err)
		require.NoError(t, m.execute([]*client.StateOperation{write{key: key, value: body, blind: true}.operation()}))
	}
	put("journal/writers", map[string]any{"schema": 1, "writers": []any{map[string]any{"id": "w-1", "instance": "elsewhere"}}})
	put("journal/w-1", map[string]any{"schema": 1, "instance": "elsewhere", "batch": "b", "closed": false})
	for slot := range 3*recoveryChunk + 2 {
		put(legacySlotKey("w-1", slot), map[string]any{"schema": 1, "batch": "b", "events": []any{}})
	}
	s, f := onMemory(t, m, Options{Lease: time.Minute, Writers: 1})
	calls := 0
	f.set(func(f *faults) {
		f.transact = func(ctx context.Context, pass func(context.Context) error) error {
			if calls++; calls == 4 { // it is closed, and some of its slots are deleted
				return errFault
			}
			return pass(ctx)
		}
	})
	takeOver := func() error {
		doc, err := Get[legacyWriterDocument](t.Context(), s, writerKey("w-1"))
		require.NoError(t, err)
		return s.takeOverLegacy(t.Context(), legacyWriter{ID: "w-1"}, doc)
	}
	require.Error(t, takeOver())
	require.NoError(t, takeOver())
	for key := range m.allDocuments() {
		require.False(t, strings.HasPrefix(key, "journal/w-1"), "%s is left", key)
	}
}
