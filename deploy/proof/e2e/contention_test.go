package e2e

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Many people want one seat. Only one gets it, whatever the crowd; the others are told so, and nothing worse.

// crowd signs up n people.
func (h *house) crowd(t *testing.T, n int) []*person {
	t.Helper()
	people := make([]*person, n)
	for i := range people {
		people[i] = h.signUp(t)
	}
	return people
}

// together makes n calls in the same moment and waits for all of them.
func together(n int, call func(i int)) {
	start := make(chan struct{})
	var calls sync.WaitGroup
	for i := range n {
		calls.Go(func() {
			<-start
			call(i)
		})
	}
	close(start)
	calls.Wait()
}

// rush lets all people reserve one ticket in the same moment. It requires that one of them gets it and that the
// others are told that it is reserved, and returns the winner with the order.
func rush(t *testing.T, people []*person, ticketID string) (*person, order) {
	t.Helper()
	replies := make([]reply, len(people))
	together(len(people), func(i int) { replies[i] = people[i].do(t, "POST", "/api/orders", wanted{ticketID}) })

	var winner *person
	var won order
	statuses := map[int]int{}
	for i, r := range replies {
		statuses[r.status]++
		if r.status == 201 {
			winner, won = people[i], as[order](t, r)
		}
	}
	require.Equal(t, map[int]int{201: 1, 409: len(people) - 1}, statuses)
	for _, r := range replies {
		if r.status == 409 {
			refused(t, 409, r, "ticket_reserved")
		}
	}
	return winner, won
}

func TestReserve_OneOfHundredBuyersGetsTheSeat(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	seller, buyers := h.signUp(t), h.crowd(t, 100)

	for range 10 {
		seat := seller.list(t, "The one seat", 9900)
		winner, won := rush(t, buyers, seat.ID)

		require.Equal(t, winner.ID, won.UserID)
		held := h.ticketBecomes(t, "reserved", seat.ID)
		require.Equal(t, won.ID, held.OrderID)
		require.Equal(t, "created", winner.order(t, won.ID).Status)
	}
}

func TestReserve_OneOfHundredBuyersGetsTheSeatThatIsFreedInThatMoment(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	seller, first, buyers := h.signUp(t), h.signUp(t), h.crowd(t, 100)
	seat := seller.list(t, "Not for me after all", 9900)
	given := first.reserved(t, seat.ID)

	replies := make([]reply, len(buyers))
	together(len(buyers)+1, func(i int) {
		if i == len(buyers) {
			first.do(t, "DELETE", "/api/orders/"+given.ID, nil)
			return
		}
		replies[i] = buyers[i].do(t, "POST", "/api/orders", wanted{seat.ID})
	})

	require.Equal(t, "cancelled", first.order(t, given.ID).Status)
	var holder string
	for i, r := range replies {
		switch r.status {
		case 201:
			require.Empty(t, holder, "a second buyer got the seat")
			holder = as[order](t, r).ID
			require.Equal(t, "created", buyers[i].order(t, holder).Status)
		default:
			refused(t, 409, r, "ticket_reserved")
		}
	}
	if holder == "" { // all of them came before the cancellation
		h.ticketBecomes(t, "available", seat.ID)
		return
	}
	becomes(t, holder, "the order that holds the seat", func() string { return h.ticket(t, seat.ID).OrderID })
}
