package main

import "boxoffice/services/internal/state"

// orders is the kind under which orders that changed lately are noted.
const orders = "orders"

func noteChanged(change *state.Change, order Order) {
	change.Note(orders, order.ID, order.CreatedAt, order.UpdatedAt)
}
