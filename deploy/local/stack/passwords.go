package stack

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
)

// Passwords of servers are all made from one key, which is made at the first start that needs it. What a sidecar may
// know of them is in a file that its secret store "infrastructure" reads: the passwords of its own app and no other.
const (
	infrastructureFolder = "infrastructure"
	passwordKey          = "key"
	// administrator is who may do everything, in each of the servers.
	administrator = "boxoffice"
)

type passwords struct{ key []byte }

func ensurePasswords(state string) (passwords, error) {
	folder := filepath.Join(state, infrastructureFolder)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return passwords{}, err
	}
	err := ensureFile(filepath.Join(folder, passwordKey), func() ([]byte, error) {
		key := make([]byte, 32)
		_, _ = rand.Read(key) // never fails
		return key, nil
	})
	if err != nil {
		return passwords{}, err
	}
	return readPasswords(state)
}

func readPasswords(state string) (passwords, error) {
	key, err := os.ReadFile(filepath.Join(state, infrastructureFolder, passwordKey))
	return passwords{key}, err
}

// of is the password of a user of a server. It has no character that an URL or a configuration would quote.
func (p passwords) of(server, user string) string {
	sum := hmac.New(sha256.New, p.key)
	sum.Write([]byte(server + "/" + user))
	return base64.RawURLEncoding.EncodeToString(sum.Sum(nil))
}

// writeSecrets tells each app's sidecar, and whoever administers the servers, what it takes to reach them. A file is
// written at every start, for it holds an address.
func (s *Stack) writeSecrets() error {
	for _, id := range append(s.appIDs(), administrator) {
		text, err := json.MarshalIndent(map[string]string{
			"postgres-password": s.passwords.of(Postgres, id),
			"nats-url":          s.natsURL(id),
			"redis-password":    s.passwords.of(Redis, id),
		}, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(s.state, infrastructureFolder, id+".json"), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}
