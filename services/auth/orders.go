package main

import (
	"context"
	"net/http"
	"time"

	"boxoffice/services/internal/peer"
	"boxoffice/services/internal/problem"
)

// orders is the orders service, which is called before an account is deleted.
type orders struct{ peer *peer.Peer }

// CheckSettled returns errUnsettled if a user has orders that are not settled: reservations that are not paid, or payments that are
// not finished. It calls orders with the user's own token. The problem is of the kind Unavailable if orders does not respond.
func (o orders) CheckSettled(ctx context.Context, token string) error {
	var found struct {
		Unsettled *int `json:"unsettled"`
	}
	response, err := o.peer.Get(ctx, "/api/orders/unsettled", http.Header{"Authorization": {"Bearer " + token}})
	if err == nil {
		err = response.Decode(&found)
	}
	switch {
	case err != nil || found.Unsettled == nil:
		return problem.New(problem.Unavailable, "orders_unavailable", "Your orders cannot be checked at the moment, so your account was not deleted. Send the same request again shortly.").WithRetryAfter(2 * time.Second).Because(err)
	case *found.Unsettled > 0:
		return errUnsettled
	}
	return nil
}
