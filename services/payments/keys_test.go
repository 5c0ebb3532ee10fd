package main

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// confirmKeys are the idempotency keys of all confirmations from now on, in order.
func (p *processor) confirmKeys() func() []string {
	var mu sync.Mutex
	var keys []string
	note := func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/confirm") {
			mu.Lock()
			defer mu.Unlock()
			keys = append(keys, r.Header.Get("Idempotency-Key"))
		}
		return false
	}
	p.before.Store(&note)
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return keys
	}
}

func TestPay_TheSameAttemptHasTheSameKey(t *testing.T) {
	for fault, keys := range map[string][]string{
		"rate_limited":      {"1", "1"},
		"unavailable":       {"1", "1"},
		"disconnect_before": {"1", "1"},
		"disconnect_after":  {"1", "1"},
		// Asked again under its key, Stripe says that it broke; then the next key is the same attempt's.
		"error_before": {"1", "1", "1/2"},
		"error_after":  {"1", "1", "1/2"},
	} {
		t.Run(fault, func(t *testing.T) {
			s := newScene(t)
			order := s.hears(t)
			seen := s.processor.confirmKeys()
			s.processor.misbehaves(t, `{"operation":"confirm","fault":"`+fault+`"}`)
			for range 2 { // the buyer tries again, if need be
				if _, err := s.pay(t.Context(), order.ID, "pm_card_visa"); err == nil {
					break
				}
			}
			var wanted []string
			for _, key := range keys {
				number, again, _ := strings.Cut(key, "/")
				wanted = append(wanted, strings.TrimSuffix("order/"+order.ID+"/attempt/"+number+"/confirm/"+again, "/"))
			}
			require.Equal(t, wanted, seen())
			s.requireMoney(t, order.ID, 2500, 0, 0)
		})
	}
}

func TestPay_AnotherAttemptHasAnotherKey(t *testing.T) {
	s := newScene(t)
	order := s.hears(t)
	seen := s.processor.confirmKeys()
	for _, card := range []string{"pm_card_chargeDeclined", "pm_card_chargeDeclined", "pm_card_visa"} {
		_, _ = s.pay(t.Context(), order.ID, card) // two are declined
	}
	attempt := "order/" + order.ID + "/attempt/"
	require.Equal(t, []string{attempt + "1/confirm", attempt + "2/confirm", attempt + "3/confirm"}, seen())
	s.requireMoney(t, order.ID, 2500, 0, 0)
}
