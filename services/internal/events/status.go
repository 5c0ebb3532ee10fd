package events

// TicketStatus says whether a ticket can be bought.
type TicketStatus = string

// OrderStatus says how far an order has come.
type OrderStatus = string

// CancelReason says why an order was cancelled.
type CancelReason = string

// PaymentStatus says where the money of an order is.
type PaymentStatus = string

// The statuses and reasons that services compare which do not own them.
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
