package main

import (
	"context"
	"net/http"
	"time"

	"boxoffice/services/internal/peer"
	"boxoffice/services/internal/problem"
)

// orders is the orders service, as it is asked before an account is deleted.
type orders struct{ peer *peer.Peer }

// Unsettled returns how many of a user's orders still want something done: reservations that are not paid, and payments
// under way. It asks with the user's own token. The problem is of kind Unavailable if orders does not answer.
func (o orders) Unsettled(ctx context.Context, token string) (int, error) {
	var found struct {
		Unsettled *int `json:"unsettled"`
	}
	answer, err := o.peer.Get(ctx, "/api/orders/unsettled", http.Header{"Authorization": {"Bearer " + token}})
	if err == nil {
		err = answer.Decode(&found)
	}
	if err != nil || found.Unsettled == nil {
		return 0, problem.New(problem.Unavailable, "It cannot be said at the moment whether you have orders that are not settled. Try again shortly.").
			WithCode("orders_unavailable").WithRetryAfter(2 * time.Second).Because(err)
	}
	return *found.Unsettled, nil
}
