package domain

import (
	"cmp"
	"slices"
	"time"

	"boxoffice/services/internal/problem"
)

// cardDeclined is shown in place of a bank's code that is not for the buyer.
const cardDeclined = "card_declined"

// secretDeclines are the codes that are not shown, so that a thief does not learn that a card is reported as stolen. Stripe's
// page on declines (https://docs.stripe.com/declines/codes) asks to present the first four as any other decline, and describes
// the next two as "possibly reported lost or stolen". The others are codes of Radar, Stripe's own check of cards.
var secretDeclines = []string{
	"fraudulent", "lost_card", "stolen_card", "merchant_blacklist",
	"pickup_card", "restricted_card",
	"security_violation", "highest_risk_level", "elevated_risk_level", "rule",
}

// ShownDecline is the code that the buyer, and other services, get for a bank's code.
func ShownDecline(code string) string {
	if slices.Contains(secretDeclines, code) {
		return cardDeclined
	}
	return code
}

// DeclinedCard is the problem for a buyer whose bank has refused. It has Stripe's message, unless the code is secret.
func DeclinedCard(code, message string) *problem.Error {
	shown := ShownDecline(code)
	if message == "" || shown != code {
		message = "Your card was declined."
	}
	return problem.New(problem.Declined, cmp.Or(shown, cardDeclined), "%s", message)
}

// ErrProcessorUnavailable means that Stripe cannot be reached, or has no outcome yet.
var ErrProcessorUnavailable = problem.New(problem.Unavailable, "processor_unavailable", "The card processor cannot be reached at the moment. Nothing is charged twice if you try again shortly.").WithRetryAfter(2 * time.Second)
