package stripe

import (
	"encoding/json"
	"slices"

	stripego "github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/webhook"

	"boxoffice/services/internal/id"
	"boxoffice/services/payments/domain"
)

// Notice is an intent as an event of Stripe shows it, at the time of the event. The zero Notice is that of an
// event about something else.
type Notice struct {
	Intent  domain.Intent
	OrderID id.Order // of the metadata; "" if there is none
	// NoMetadata means that events of this type have no metadata, so that the intent must be read to find its order.
	NoMetadata bool
}

// Event is a webhook whose signature is right.
type Event struct {
	ID, Type string
	Notice   Notice
}

// ReadWebhook checks a webhook's signature, and reads the webhook.
//
// The account's webhooks may be of another API version than this client's. Only those members of the body are read that are
// the same in all versions.
func ReadWebhook(body []byte, signature, secret string) (Event, error) {
	event, err := webhook.ConstructEventWithOptions(body, signature, secret, webhook.ConstructEventOptions{
		Tolerance: webhook.DefaultTolerance, IgnoreAPIVersionMismatch: true,
	})
	if err != nil {
		return Event{}, err
	}
	read := Event{ID: event.ID, Type: string(event.Type)}
	if event.Data != nil {
		read.Notice = NoticeOf(event.Data.Raw)
	}
	return read, nil
}

// NoticeOf reads from an event's object the intent that it is or belongs to.
func NoticeOf(object json.RawMessage) Notice {
	var members struct {
		ID            string            `json:"id"`
		Object        string            `json:"object"`
		PaymentIntent json.RawMessage   `json:"payment_intent"`
		Metadata      map[string]string `json:"metadata"`
	}
	if json.Unmarshal(object, &members) != nil {
		return Notice{}
	}
	notice := Notice{OrderID: id.Order(members.Metadata[metadataOrder])}
	switch members.Object {
	case "payment_intent":
		var intent stripego.PaymentIntent
		notice.Intent = domain.Intent{ID: members.ID, Status: domain.Unknown}
		if json.Unmarshal(object, &intent) == nil && slices.Contains(intentStatuses, intent.Status) {
			notice.Intent = intentOf(&intent)
		}
		return notice
	case "charge":
		var charge stripego.Charge
		if json.Unmarshal(object, &charge) == nil {
			notice.Intent = intentOfCharge(&charge)
		}
	case "refund":
		var refund stripego.Refund
		notice.NoMetadata, notice.Intent.Status = true, domain.Unknown
		if json.Unmarshal(object, &refund) == nil && refund.Status == stripego.RefundStatusSucceeded {
			notice.Intent.Status = domain.Refunded
		}
	case "dispute":
		notice.NoMetadata, notice.Intent.Status = true, domain.Unknown
	default:
		notice.Intent.Status = domain.Unknown
	}
	if json.Unmarshal(members.PaymentIntent, &notice.Intent.ID) != nil { // expanded, or not there
		return Notice{}
	}
	return notice
}
