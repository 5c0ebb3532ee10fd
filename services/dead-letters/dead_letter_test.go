package main

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func TestDeadLetter_ASendingThatHasBegunKeepsItsID(t *testing.T) {
	l := newDeadLetter("dead.tickets", []byte(`{"id":"e1","type":"order.created"}`), noon)
	require.Equal(t, Waiting, l.Status())

	require.NoError(t, l.BeginSending())
	require.Equal(t, Sending, l.Status())
	begun := l.Begun
	require.NoError(t, l.BeginSending(), "a second command begins no other")
	require.Equal(t, begun, l.Begun)
	require.Equal(t, 1, l.Sendings)

	l.FinishSending(2, noon)
	require.Equal(t, Sending, l.Status(), "of another sending")
	l.FinishSending(1, noon)
	require.Equal(t, Sent, l.Status())
	require.Equal(t, &noon, l.SentAt)

	require.NoError(t, l.BeginSending())
	require.JSONEq(t, `{"id":"e1/again-2@tickets","type":"order.created"}`, string(l.Begun))
}

func TestDeadLetter_IsSentToTheServiceThatCouldNotHandleIt(t *testing.T) {
	event := []byte(`{"id":"e1","type":"order.created"}`)
	known := newDeadLetter("dead.tickets", event, noon)
	require.Equal(t, []string{"retry.tickets"}, known.RetryTopics())
	bare := newDeadLetter("events.dead", event, noon)
	require.Equal(t, []string{"retry.tickets", "retry.orders", "retry.payments", "retry.expiration", "retry.webhooks", "retry.catalogue"}, bare.RetryTopics(), "it names no service")
}

func TestDeadLetter_WithoutAnEventCannotBeSent(t *testing.T) {
	l := newDeadLetter("dead.tickets", []byte(`no JSON`), noon)
	require.ErrorContains(t, l.BeginSending(), "it cannot be sent")
	require.Equal(t, Waiting, l.Status())
	require.Equal(t, 1, l.Version)
}

func TestDeadLetter_IsStoredUnchanged(t *testing.T) {
	for _, raw := range []string{`{"id":"e1"}`, `no JSON`, "\xff\x00"} {
		stored := newDeadLetter("dead.tickets", []byte(raw), noon)
		body, err := json.Marshal(stored)
		require.NoError(t, err)
		var read DeadLetter
		require.NoError(t, json.Unmarshal(body, &read))
		require.Equal(t, stored, read)
		require.Equal(t, raw, string(read.published().Bytes()))
	}
}

func TestOutput_HasAllOfTheDocument(t *testing.T) {
	l := newDeadLetter("dead.tickets", []byte(`{"id":"e1","type":"order.created"}`), noon)
	require.NoError(t, l.BeginSending())
	l.SentAt = &noon
	var stored, printed map[string]any
	for value, into := range map[any]*map[string]any{&l: &stored, new(outputOf(l)): &printed} {
		body, err := json.Marshal(value)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(body, into))
	}
	stored["status"] = "sending"
	require.Equal(t, stored, printed)
}
