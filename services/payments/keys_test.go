package main

import (
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/problem"
)

// attemptKeys are the idempotency keys of all attempts from now on, in order.
func (p fakeStripe) attemptKeys() func() []string {
	var mu sync.Mutex
	var keys []string
	note := func(_ http.ResponseWriter, r *http.Request) bool {
		if attempts(r) {
			mu.Lock()
			defer mu.Unlock()
			keys = append(keys, r.Header.Get("Idempotency-Key"))
		}
		return false
	}
	p.Before.Store(&note)
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return keys
	}
}

func TestPay_TheSameAttemptHasTheSameKey(t *testing.T) {
	first, another := "1", "2/confirm"
	for name, c := range map[string]struct {
		fault string
		card  string // tried before
		keys  []string
	}{
		"rate_limited":      {keys: []string{first, first}},
		"unavailable":       {keys: []string{first, first}},
		"disconnect_before": {keys: []string{first, first}},
		"disconnect_after":  {keys: []string{first, first}},
		// Asked again under its key, Stripe repeats the 500. If it has made no intent, an empty one is made under another
		// key, and confirmed.
		"error_before": {keys: []string{first, first, first + "/create", first + "/confirm"}},
		"error_after":  {keys: []string{first, first}},

		"another: rate_limited":      {fault: "rate_limited", card: "pm_card_chargeDeclined", keys: []string{another, another}},
		"another: unavailable":       {fault: "unavailable", card: "pm_card_chargeDeclined", keys: []string{another, another}},
		"another: disconnect_before": {fault: "disconnect_before", card: "pm_card_chargeDeclined", keys: []string{another, another}},
		"another: disconnect_after":  {fault: "disconnect_after", card: "pm_card_chargeDeclined", keys: []string{another, another}},
		// On an intent each step succeeds once, so the next key is safe.
		"another: error_before": {fault: "error_before", card: "pm_card_chargeDeclined", keys: []string{another, another, another + "/2"}},
		"another: error_after":  {fault: "error_after", card: "pm_card_chargeDeclined", keys: []string{another, another, another + "/2"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newFixture(t)
			order := s.newOrder(t)
			fault := c.fault
			if c.card == "" {
				fault = name
			} else {
				_, err := s.payWith(t.Context(), order.ID, c.card)
				requireProblem(t, err, problem.Declined)
			}
			seen := s.stripeServer.attemptKeys()
			s.stripeServer.Inject(t, `{"operation":"confirm","fault":"`+fault+`"}`)
			for range 2 { // the buyer tries again, if need be
				if _, err := s.payWith(t.Context(), order.ID, "pm_card_visa"); err == nil {
					break
				}
			}
			var wanted []string
			for _, key := range c.keys {
				wanted = append(wanted, "order/"+string(order.ID)+"/attempt/"+key)
			}
			require.Equal(t, wanted, seen())
			s.requireMoney(t, order.ID, 2500, 0, 0)
		})
	}
}

func TestPay_AnotherAttemptHasAnotherKey(t *testing.T) {
	s := newFixture(t)
	order := s.newOrder(t)
	seen := s.stripeServer.attemptKeys()
	for _, card := range []string{"pm_card_chargeDeclined", "pm_card_chargeDeclined", "pm_card_visa"} {
		_, _ = s.payWith(t.Context(), order.ID, card) // two are declined
	}
	attempt := "order/" + string(order.ID) + "/attempt/"
	require.Equal(t, []string{attempt + "1", attempt + "2/confirm", attempt + "3/confirm"}, seen())
	s.requireMoney(t, order.ID, 2500, 0, 0)
}
