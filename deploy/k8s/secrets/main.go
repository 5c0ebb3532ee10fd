// Command secrets makes what the overlay "dev" needs of secrets, a file each, and changes none that exists. Delete a
// file to have it made anew. For other overlays secrets come from wherever yours are kept: deploy/k8s/README.md has the
// list.
package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// keepers are the services that have a database, and a user at the broker; services are all.
var (
	keepers  = []string{"auth", "tickets", "orders", "payments", "expiration", "dead-letters", "webhooks", "catalogue"}
	services = append([]string{"gateway"}, keepers...)
)

func main() {
	dir := flag.String("dir", "deploy/k8s/overlays/dev/secrets", "the `folder` to make them in")
	host := flag.String("host", "boxoffice.localhost", "the `name` under which browsers find the gateway")
	flag.Parse()
	made, err := folder(*dir).fill(*host)
	if err != nil {
		fmt.Fprintf(os.Stderr, "secrets: %v\n", err)
		os.Exit(1)
	}
	if made > 0 {
		fmt.Printf("made %d secrets in %s\n", made, *dir)
	}
}

// folder holds the secrets, readable by their owner alone.
type folder string

// fill makes every secret that is missing, and returns how many these were.
func (f folder) fill(host string) (int, error) {
	if err := os.MkdirAll(string(f), 0o700); err != nil {
		return 0, err
	}
	made := 0
	ensure := func(name string, content func() ([]byte, error)) error {
		wrote, err := f.ensure(name, content)
		if wrote {
			made++
		}
		return err
	}
	for _, name := range []string{"stripe-webhook-secret", "nats-admin", "postgres-admin", "postgres-reporting"} {
		if err := ensure(name, randomText); err != nil {
			return made, err
		}
	}
	for _, name := range []string{"jwt-signing-key", "pass-signing-key"} {
		if err := ensure(name, signingKey); err != nil {
			return made, err
		}
	}
	for _, service := range services {
		for _, token := range []string{"app-api-token-", "dapr-api-token-"} {
			if err := ensure(token+service, randomText); err != nil {
				return made, err
			}
		}
	}
	for _, service := range keepers {
		for _, server := range []struct {
			name, derived string
			access        func(service, password string) []byte
		}{
			{"postgres-" + service, "postgres-" + service + ".connection", connection},
			{"nats-" + service, "broker-" + service, natsAccess},
		} {
			if err := ensure(server.name, randomText); err != nil {
				return made, err
			}
			password, err := os.ReadFile(f.path(server.name))
			if err != nil {
				return made, err
			}
			if err := ensure(server.derived, func() ([]byte, error) { return server.access(service, string(password)), nil }); err != nil {
				return made, err
			}
		}
	}
	// For parts/tls.
	for _, service := range keepers {
		if service == "dead-letters" {
			continue // nobody asks it anything
		}
		n, err := f.ensureCertificate("tls-"+service, []string{service, service + "-any", "localhost"})
		made += n
		if err != nil {
			return made, err
		}
	}
	// Under the name localhost as well, for forwarded ports.
	for _, pair := range []struct {
		name  string
		hosts []string
	}{
		{"postgres", []string{"postgres", "localhost"}},
		{"nats", []string{"nats", "*.nats-servers", "localhost"}},
		{"redis", []string{"redis", "localhost"}},
		{"gateway", []string{host}},
	} {
		n, err := f.ensureCertificate(pair.name, pair.hosts)
		made += n
		if err != nil {
			return made, err
		}
	}
	return made, nil
}

func (f folder) path(name string) string { return filepath.Join(string(f), name) }

// ensure makes a file if it is not there. A new one appears whole or not at all.
func (f folder) ensure(name string, content func() ([]byte, error)) (made bool, err error) {
	if _, err := os.Stat(f.path(name)); !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	text, err := content()
	if err != nil {
		return false, fmt.Errorf("make %s: %w", name, err)
	}
	return true, f.write(name, text)
}

func (f folder) write(name string, text []byte) error {
	partial := f.path(name) + ".new"
	if err := os.WriteFile(partial, text, 0o600); err != nil {
		return err
	}
	return os.Rename(partial, f.path(name))
}

// connection is what a sidecar needs to reach its service's database, which must prove that it is the one.
func connection(service, password string) []byte {
	return fmt.Appendf(nil, "host=postgres port=5432 user=boxoffice_%s password=%s dbname=boxoffice_%s sslmode=verify-full sslrootcert=/etc/boxoffice/ca/ca.crt",
		service, password, service)
}

// natsAccess is the address of NATS with a service's own user.
func natsAccess(service, password string) []byte {
	return fmt.Appendf(nil, "tls://%s:%s@nats:4222", service, password)
}

// randomText begins with a letter, for NATS takes what begins with a digit for a number.
func randomText() ([]byte, error) {
	var bits [24]byte
	_, _ = rand.Read(bits[:]) // never fails
	return []byte("p" + base64.RawURLEncoding.EncodeToString(bits[:])), nil
}

func signingKey() ([]byte, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
