package events

// TicketStatus is a ticket's availability.
type TicketStatus string

// OrderStatus is the state of an order.
type OrderStatus string

// IsKnown reports whether this release knows the status.
func (s OrderStatus) IsKnown() bool {
	return s == OrderStatusCreated || s == OrderStatusComplete || s == OrderStatusCancelled
}

// CancelReason is the reason why an order was cancelled.
type CancelReason string

// PaymentStatus is the state of a payment.
type PaymentStatus string

// ShowStatus is whether a show takes place.
type ShowStatus string

// All values that an event may have. Their comments become descriptions in the JSON Schemas.
const (
	TicketStatusAvailable TicketStatus = "available" // it can be reserved
	TicketStatusReserved  TicketStatus = "reserved"  // an order that is not paid yet has it
	TicketStatusSold      TicketStatus = "sold"      // a complete order has it
	TicketStatusWithheld  TicketStatus = "withheld"  // after a refund, until the seller changes the listing

	OrderStatusCreated   OrderStatus = "created"   // the ticket is reserved, and not paid yet
	OrderStatusComplete  OrderStatus = "complete"  // the money is authorized, and the ticket belongs to the buyer
	OrderStatusCancelled OrderStatus = "cancelled" // it has ended, and does not change any more

	CancelReasonUser      CancelReason = "user"      // the buyer cancelled it
	CancelReasonExpired   CancelReason = "expired"   // it was not paid before the end of the reservation window
	CancelReasonWithdrawn CancelReason = "withdrawn" // the seller deleted the listing
	CancelReasonPayment   CancelReason = "payment"   // its payment was voided
	CancelReasonRefunded  CancelReason = "refunded"  // all of the money was given back
	CancelReasonUnknown   CancelReason = "unknown"   // the orders service has no such order: it was restored from an older backup

	PaymentStatusAuthorized PaymentStatus = "authorized" // the money is held, and not taken yet
	PaymentStatusCaptured   PaymentStatus = "captured"   // the money was taken
	PaymentStatusVoided     PaymentStatus = "voided"     // it ended before any money was taken
	PaymentStatusRefunded   PaymentStatus = "refunded"   // all of the money was given back
	PaymentStatusFailed     PaymentStatus = "failed"     // the last attempt was declined; the buyer may try again

	ShowStatusScheduled ShowStatus = "scheduled" // it takes place, or has taken place
	ShowStatusCancelled ShowStatus = "cancelled" // it does not take place, and does not change any more
)

// TicketStatus is what the order's ticket is after this event: after a refund it is withheld. It stays sold if the pass was used or the
// place resold, so that no place is sold twice.
func (o Order) TicketStatus() TicketStatus {
	switch {
	case o.Status == OrderStatusCreated:
		return TicketStatusReserved
	case o.Status == OrderStatusComplete, !o.UsedAt.IsZero(), !o.ResoldAt.IsZero():
		return TicketStatusSold
	case o.Reason == CancelReasonRefunded:
		return TicketStatusWithheld
	default:
		return TicketStatusAvailable
	}
}
