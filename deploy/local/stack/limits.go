package stack

// maxBytesVariable is what the streams of NATS may hold together, as "512MiB"; 0 is no limit, and unset what nats-streams chooses.
const maxBytesVariable = "NATS_MAX_BYTES"

// WithoutLimits returns the environment that turns off every limit on what one client may do. Load tests need it: all of
// their clients come from one address.
func WithoutLimits() map[string]string {
	return map[string]string{
		"RATE_LIMIT": "0", "SIGNIN_RATE": "0", "CONNECTIONS_PER_ADDRESS": "0",
		"RESERVATIONS_PER_USER": "0", "RESERVATION_COOLDOWN": "0", "PAYMENT_ATTEMPTS": "0", "PAYMENT_ATTEMPTS_PER_HOUR": "0",
		"NATS_MAX_BYTES": "0", // and the broker keeps every event, for those that look whether all came
	}
}
