package stack

// maxBytesVariable limits the size of all streams of NATS together, as in "512MiB". 0 is no limit; unset, nats-streams chooses.
const maxBytesVariable = "NATS_MAX_BYTES"

// WithoutLimits returns the environment that turns off every limit for one client. Load tests need it, because all of their clients
// have one address.
func WithoutLimits() map[string]string {
	return map[string]string{
		"RATE_LIMIT": "0", "SIGNIN_RATE": "0", "CONNECTIONS_PER_ADDRESS": "0", "STREAMS_PER_ADDRESS": "0",
		"RESERVATIONS_PER_USER": "0", "RESERVATION_COOLDOWN": "0", "PAYMENT_ATTEMPTS": "0", "PAYMENT_ATTEMPTS_PER_HOUR": "0",
		"NATS_MAX_BYTES": "0", // the broker keeps every event, so that a checker can compare them with the documents
	}
}
