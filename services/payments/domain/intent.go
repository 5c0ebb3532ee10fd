package domain

// Intent is a PaymentIntent of Stripe, in this service's terms.
type Intent struct {
	ID             string
	Status         Status // what the payment's status becomes; "" if Stripe was not asked
	ClientSecret   string
	RedirectURL    string // with RequiresAction, if the attempt has a return URL: where the buyer authenticates
	ChargeID       string
	DeclineCode    string // with Failed
	DeclineMessage string // with Failed, a sentence for the buyer

	// Declines is how many charges of the intent have failed; 0 also if Stripe was not asked that.
	Declines int

	Refunded int64 // at least this was given back
	Disputed bool  // at some time
	// Complete means that Refunded, RefundFailed and Dispute are complete and as they are now.
	Complete     bool
	RefundFailed bool
	Dispute      Dispute
}

// Unknown is the status of an intent that a webhook names without its state.
const Unknown Status = "unknown"

// Dispute is a buyer's complaint at the bank. The zero Dispute is none.
type Dispute struct {
	ID     string `json:"id"`
	Status string `json:"status"` // Stripe's
	Reason string `json:"reason,omitempty"`
	Amount int64  `json:"amount"`
}

// Undecided reports whether the bank holds the money until it decides. (An inquiry, whose status begins with warning, holds
// none.)
func (d Dispute) Undecided() bool { return d.Status == "needs_response" || d.Status == "under_review" }

// Lost reports whether the buyer keeps the money.
func (d Dispute) Lost() bool { return d.Status == "lost" || d.Status == "prevented" }
