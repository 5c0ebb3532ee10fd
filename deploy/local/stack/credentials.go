package stack

import (
	"os"
	"path/filepath"
)

// credentials are the secrets of a stack. They are made at the first start and kept in the state folder.
type credentials struct {
	env          map[string]string // the variables of .state/env
	passwords    passwords         // of the servers' users
	certificates Certificates      // of the servers; the zero value if they have none
	anchors      string            // the certificate of sentry's authority, PEM; "" without mTLS
}

// ensureCredentials makes the credentials that are missing or end soon, and returns all.
func ensureCredentials(l *layout) (c credentials, err error) {
	if c.env, err = ensureSecrets(l.state); err != nil {
		return c, err
	}
	if l.mtls {
		if err := ensureIdentities(l); err != nil {
			return c, err
		}
		anchors, err := os.ReadFile(filepath.Join(sentryFolder(l.state), "ca.crt"))
		if err != nil {
			return c, err
		}
		c.anchors = string(anchors)
	}
	if l.set.tls() {
		if c.certificates, err = MakeCertificates(filepath.Join(l.state, certificatesFolder)); err != nil {
			return c, err
		}
	}
	if l.set.passwords {
		c.passwords, err = ensurePasswords(l.state)
	}
	return c, err
}
