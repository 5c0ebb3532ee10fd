package events

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/id"
)

// requireScannedAsDecoded requires that what the scanner reads is what encoding/json reads.
func requireScannedAsDecoded(t *testing.T, text []byte) {
	t.Helper()
	if e, ok := scanEvent(text); ok && (len(e.Data) == 0 || json.Valid(e.Data)) {
		var want Event
		require.NoError(t, json.Unmarshal(text, &want), "%s", text)
		require.Equal(t, want, e)
	}
	if b, ok := scanBulk(text); ok {
		var want bulk
		if json.Valid(text) { // what is in metadata is not read
			require.NoError(t, json.Unmarshal(text, &want), "%s", text)
			require.Equal(t, want.Topic, b.Topic)
			require.Len(t, b.Entries, len(want.Entries))
			for i := range b.Entries {
				require.Equal(t, want.Entries[i].ID, b.Entries[i].ID)
				require.Equal(t, string(want.Entries[i].Event), string(b.Entries[i].Event))
			}
		}
	}
}

func usualBulk(event []byte) string {
	return `{"entries":[{"entryId":"0","event":"` + base64.StdEncoding.EncodeToString(event) + `","contentType":"application/octet-stream","metadata":{"Topic":"events.orders","a":"}\""}}],` +
		`"id":"3f","metadata":{"pubsubName":"pubsub"},"pubsubname":"pubsub","topic":"events.orders","type":"com.dapr.event.sent.bulk"}`
}

func TestScan_ReadsTheUsualForm(t *testing.T) {
	event, err := New(traced(), someOrder())
	require.NoError(t, err)
	body, err := json.Marshal(event.From(Origin{"orders", "http://localhost:8080"}).Again("x"))
	require.NoError(t, err)
	_, ok := scanEvent(body)
	require.True(t, ok, "%s", body)
	b, ok := scanBulk([]byte(usualBulk(body)))
	require.True(t, ok)
	require.Equal(t, string(body), string(b.Entries[0].Event))
	requireScannedAsDecoded(t, body)
	requireScannedAsDecoded(t, []byte(usualBulk(body)))
}

func FuzzScan(f *testing.F) {
	addEvents(f)
	event, err := New(traced(), someOrder())
	require.NoError(f, err)
	body, err := json.Marshal(event)
	require.NoError(f, err)
	f.Add([]byte(usualBulk(body)))
	for _, text := range []string{
		`{"id":"a","id":"b"}`, `{"ID":"a"}`, `{"id":"\u0061"}`, `{"id":"a"} `, `{"id" :"a"}`, `{"time":"2030-01-01T00:00:00Z"}`, `{"data":{"a":[{}]}}`,
		`{"data":{"a":"}"}}`, `{"data":{]}`, `{"id":"a",}`, `{"entries":[],"topic":"x"}`, `{"entries":[{"event":"e30="},{"event":"e3\n0="}]}`, "{\"id\":\"\x7f\"}",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(requireScannedAsDecoded)
}

func TestOnQueued_WaitsForEachEventAfterAllWereQueued(t *testing.T) {
	o := &office{}
	r := newRouterWith(o)
	var order []string
	OnQueued(r, func(_ context.Context, e OrderCreated) (func() error, error) {
		order = append(order, "queue "+string(e.ID))
		return func() error {
			order = append(order, "wait "+string(e.ID))
			if e.ID == "b" {
				return errors.New("a bug")
			}
			return nil
		}, nil
	})
	OnQueued(r, func(context.Context, OrderCompleted) (func() error, error) { return nil, ErrRefused })
	OnQueued(r, func(context.Context, OrderCancelled) (func() error, error) { panic("a bug") })
	var all []string
	for _, name := range []string{"a", "b"} {
		created := someOrder()
		created.ID = id.Order(name)
		all = append(all, encodedPayload(t, created))
	}
	all = append(all, encodedPayload(t, OrderCompleted(someOrder())), encodedPayload(t, OrderCancelled(someOrder())), `{"type":"order.created"}`, `{"type":"order.moved"}`)
	outcomes := deliverBulk(t, r, ordersTopic, all...)
	require.Equal(t, map[string]string{"0": "SUCCESS", "1": "RETRY", "2": "SUCCESS", "3": "RETRY", "4": "SUCCESS", "5": "SUCCESS"}, outcomes)
	require.Equal(t, "queue a, queue b, wait a, wait b", strings.Join(order, ", "))
	require.Len(t, o.taken, 2, "the refused one and the one that cannot be decoded")
}

func encodedPayload(t *testing.T, p Payload) string {
	t.Helper()
	event, err := New(context.Background(), p)
	require.NoError(t, err)
	return encoded(t, event)
}
