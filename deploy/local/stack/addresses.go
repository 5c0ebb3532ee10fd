package stack

import "net/url"

// BrokerAddress is the address of a broker, with a user's password.
type BrokerAddress struct {
	// URL contains the user and the password: nats://, tls:// (NATS over TLS) or rediss://.
	URL string
	// Authority is the file with the certificate that signed the broker's certificate. Empty: the system's authorities.
	Authority string
}

// Host is the host and port, for messages: it contains no password.
func (a BrokerAddress) Host() string {
	parsed, err := url.Parse(a.URL)
	if err != nil {
		return "(an invalid address)"
	}
	return parsed.Host
}
