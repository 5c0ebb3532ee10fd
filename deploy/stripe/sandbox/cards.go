package sandbox

import "strings"

// card is one of Stripe's test cards and how it behaves (https://docs.stripe.com/testing).
type card struct {
	number  string
	brand   string
	funding string
	// authenticate: the card's bank wants 3-D Secure before it authorizes.
	authenticate bool
	// decline is how the bank answers an authorization; nil if it agrees.
	decline *decline
}

// decline is a refusal by the bank, in the terms of Stripe's card errors. DeclineCode is empty where Stripe's
// documentation gives none.
type decline struct {
	Code        string
	DeclineCode string
	Message     string
}

func (c card) last4() string { return c.number[len(c.number)-4:] }

// cardNamed finds the test card behind a PaymentMethod name (prefix "pm_card_") or a token (prefix "tok_").
func cardNamed(name, prefix string) (card, bool) {
	short, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return card{}, false
	}
	number, ok := cardNames()[short]
	if !ok {
		return card{}, false
	}
	return cardNumbered(number), true
}

// cardNames gives the number behind each name; pm_card_… and tok_… share the rest of the name. Stripe's
// pages spell some declines with and without "visa_"; both work there, and here.
func cardNames() map[string]string {
	return map[string]string{
		"visa":               "4242424242424242",
		"visa_debit":         "4000056655665556",
		"mastercard":         "5555555555554444",
		"mastercard_debit":   "5200828282828210",
		"mastercard_prepaid": "5105105105105100",
		"amex":               "378282246310005",
		"discover":           "6011111111111117",
		"diners":             "3056930009020004",
		"jcb":                "3566002020360505",
		"unionpay":           "6200000000000005",

		"chargeDeclined":                           "4000000000000002",
		"visa_chargeDeclined":                      "4000000000000002",
		"chargeCustomerFail":                       "4000000000000341",
		"chargeDeclinedInsufficientFunds":          "4000000000009995",
		"visa_chargeDeclinedInsufficientFunds":     "4000000000009995",
		"chargeDeclinedLostCard":                   "4000000000009987",
		"visa_chargeDeclinedLostCard":              "4000000000009987",
		"chargeDeclinedStolenCard":                 "4000000000009979",
		"visa_chargeDeclinedStolenCard":            "4000000000009979",
		"chargeDeclinedFraudulent":                 "4100000000000019",
		"radarBlock":                               "4100000000000019",
		"chargeDeclinedExpiredCard":                "4000000000000069",
		"chargeDeclinedIncorrectCvc":               "4000000000000127",
		"chargeDeclinedProcessingError":            "4000000000000119",
		"visa_chargeDeclinedVelocityLimitExceeded": "4000000000006975",

		"threeDSecure2Required":                                 "4000000000003220",
		"threeDSecureRequired":                                  "4000000000003063",
		"threeDSecureRequiredChargeDeclined":                    "4000008400001629",
		"threeDSecureOptional":                                  "4000000000003055",
		"authenticationRequired":                                "4000002760003184",
		"authenticationRequiredOnSetup":                         "4000002500003155",
		"authenticationRequiredSetupForOffSession":              "4000003800000446",
		"authenticationRequiredChargeDeclinedInsufficientFunds": "4000008260003178",
	}
}

// cardNumbered gives the behaviour of a test card's number; a number that is not special is accepted.
func cardNumbered(number string) card {
	c := card{number: number, brand: brandOf(number), funding: "credit"}
	switch number {
	case "4000056655665556", "5200828282828210":
		c.funding = "debit"
	case "5105105105105100":
		c.funding = "prepaid"

	case "4000000000000002", "4000000000000341":
		c.decline = &decline{"card_declined", "generic_decline", "Your card was declined."}
	case "4000000000009995":
		c.decline = &decline{"card_declined", "insufficient_funds", "Your card has insufficient funds."}
	case "4000000000009987":
		c.decline = &decline{"card_declined", "lost_card", "Your card was declined."}
	case "4000000000009979":
		c.decline = &decline{"card_declined", "stolen_card", "Your card was declined."}
	case "4100000000000019":
		c.decline = &decline{"card_declined", "fraudulent", "Your card was declined."}
	case "4000000000006975":
		c.decline = &decline{"card_declined", "card_velocity_exceeded", "Your card was declined for making repeated attempts too frequently or exceeding its amount limit."}
	case "4000000000000069":
		c.decline = &decline{"expired_card", "", "Your card has expired."}
	case "4000000000000127":
		c.decline = &decline{"incorrect_cvc", "", "Your card's security code is incorrect."}
	case "4000000000000119":
		c.decline = &decline{"processing_error", "", "An error occurred while processing your card. Try again in a little bit."}

	case "4000000000003220", "4000000000003063", "4000002760003184", "4000002500003155", "4000003800000446":
		c.authenticate = true
	case "4000008400001629":
		c.authenticate = true
		c.decline = &decline{"card_declined", "generic_decline", "Your card was declined."}
	case "4000008260003178":
		c.authenticate = true
		c.decline = &decline{"card_declined", "insufficient_funds", "Your card has insufficient funds."}
	}
	return c
}

func brandOf(number string) string {
	for _, known := range []struct{ prefix, brand string }{
		{"6011", "discover"}, {"34", "amex"}, {"37", "amex"}, {"30", "diners"}, {"35", "jcb"}, {"62", "unionpay"}, {"4", "visa"}, {"5", "mastercard"}, {"2", "mastercard"},
	} {
		if strings.HasPrefix(number, known.prefix) {
			return known.brand
		}
	}
	return "unknown"
}
