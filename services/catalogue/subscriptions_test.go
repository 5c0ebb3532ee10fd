package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/events"
)

func TestListingChange_OfAResaleNamesItsTicket(t *testing.T) {
	listing := events.Ticket{ID: "t2", ShowID: "s", ResaleOf: &events.Resold{TicketID: "t1", OrderID: "o1"}, ShowOwnerID: "owner", UserID: "buyer", Version: 1}
	require.EqualValues(t, "t1", listingChange(listing, false).ResaleOf)
	listing.ResaleOf = nil
	require.Empty(t, listingChange(listing, false).ResaleOf)
}
