package events

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/id"
)

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
