package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/id"
	"boxoffice/services/internal/identity"
)

func TestBuyer_MayHaveAsManyUnpaidOrdersAsTheTermsAllow(t *testing.T) {
	terms := Terms{Window: window, PerUser: 2}
	order := func(order id.Order, at time.Time) Order { return Order{ID: order, ExpiresAt: at.Add(window)} }
	var buyer Buyer
	require.NoError(t, buyer.AddOrder(order("one", noon), noon, terms))
	require.NoError(t, buyer.AddOrder(order("two", noon.Add(time.Minute)), noon.Add(time.Minute), terms))
	require.ErrorIs(t, buyer.AddOrder(order("three", noon), noon.Add(window-1), terms), errTooMany)
	require.NoError(t, buyer.AddOrder(order("three", noon.Add(window)), noon.Add(window), terms), "the first is over")
	require.Equal(t, []id.Order{"two", "three"}, []id.Order{buyer.Unpaid[0].OrderID, buyer.Unpaid[1].OrderID})

	buyer.RetainUnpaid(map[id.Order]bool{"three": true})
	require.NoError(t, buyer.AddOrder(order("four", noon.Add(window)), noon.Add(window), terms), "the second is paid")

	require.True(t, buyer.Delete())
	require.False(t, buyer.Delete())
	require.ErrorIs(t, buyer.AddOrder(order("five", noon), noon, terms), identity.ErrAccountDeleted)
}
