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

// Statuses and reasons that other services than their owner compare.
const (
	TicketStatusAvailable TicketStatus = "available"
	TicketStatusReserved  TicketStatus = "reserved"
	TicketStatusSold      TicketStatus = "sold"
	TicketStatusWithheld  TicketStatus = "withheld" // after a refund, until the seller changes the listing

	OrderStatusCreated   OrderStatus = "created"
	OrderStatusComplete  OrderStatus = "complete"
	OrderStatusCancelled OrderStatus = "cancelled"

	CancelReasonRefunded CancelReason = "refunded" // all of the money was given back
	CancelReasonUnknown  CancelReason = "unknown"  // the orders service has no such order: it was restored from an older backup

	PaymentStatusRefunded PaymentStatus = "refunded"
)
