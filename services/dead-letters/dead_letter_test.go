package main

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func TestLetter_ASendingThatHasBegunIsFinishedUnderTheSameID(t *testing.T) {
	l := newLetter("dead.tickets", []byte(`{"id":"e1","type":"order.created"}`), noon)
	require.Equal(t, waiting, l.status())

	require.NoError(t, l.begin())
	require.Equal(t, sending, l.status())
	begun := l.Begun
	require.NoError(t, l.begin(), "a second command finds it begun")
	require.Equal(t, begun, l.Begun)
	require.Equal(t, 1, l.Sendings)

	l.finish(noon)
	require.Equal(t, sent, l.status())
	require.Equal(t, &noon, l.SentAt)

	require.NoError(t, l.begin())
	require.JSONEq(t, `{"id":"e1/again-2@tickets","type":"order.created"}`, string(l.Begun))
}

func TestLetter_GoesBackToTheServiceThatCouldNotHandleIt(t *testing.T) {
	event := []byte(`{"id":"e1","type":"order.created"}`)
	known := newLetter("dead.tickets", event, noon)
	require.Equal(t, []string{"retry.tickets"}, known.retryTopics())
	bare := newLetter("events.dead", event, noon)
	require.Equal(t, []string{"retry.tickets", "retry.orders", "retry.payments", "retry.expiration"}, bare.retryTopics(), "it says nothing of a service")
}

func TestLetter_WhatIsNoEventStays(t *testing.T) {
	l := newLetter("dead.tickets", []byte(`no JSON`), noon)
	require.ErrorContains(t, l.begin(), "it cannot be sent")
	require.Equal(t, waiting, l.status())
	require.Equal(t, 1, l.Version)
}

func TestLetter_IsKeptWhole(t *testing.T) {
	for _, raw := range []string{`{"id":"e1"}`, `no JSON`, "\xff\x00"} {
		kept := newLetter("dead.tickets", []byte(raw), noon)
		body, err := json.Marshal(kept)
		require.NoError(t, err)
		var read Letter
		require.NoError(t, json.Unmarshal(body, &read))
		require.Equal(t, kept, read)
		require.Equal(t, raw, string(read.Bytes()))
	}
}
