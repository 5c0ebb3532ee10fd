package stack

// WithoutLimits returns the environment that turns off every limit on what one client may do. Load tests need it: all of
// their clients come from one address.
func WithoutLimits() map[string]string {
	return map[string]string{
		"RATE_LIMIT": "0", "SIGNIN_RATE": "0", "CONNECTIONS_PER_ADDRESS": "0",
		"RESERVATIONS_PER_USER": "0", "RESERVATION_COOLDOWN": "0", "PAYMENT_ATTEMPTS": "0", "PAYMENT_ATTEMPTS_PER_HOUR": "0",
	}
}
