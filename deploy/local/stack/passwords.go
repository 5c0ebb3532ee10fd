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

// All passwords of servers are derived from one key, which is made at the first start that needs it. The secret store
// "infrastructure" of a sidecar reads a file with the passwords of its own app and no other.
const (
	infrastructureFolder = "infrastructure"
	passwordKey          = "key"
	// administrator is the user with all rights, in each of the servers.
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

// of is the password of a user of a server. It contains no character that must be quoted in a URL or a configuration.
func (p passwords) of(server, user string) string {
	sum := hmac.New(sha256.New, p.key)
	sum.Write([]byte(server + "/" + user))
	return base64.RawURLEncoding.EncodeToString(sum.Sum(nil))
}

// passwordFiles are, for each app's sidecar and for administrators, what is needed to reach the servers. They are written at every
// start, because an address may have changed.
func (p *plan) passwordFiles() []file {
	var files []file
	for _, id := range append(p.appIDs(), administrator) {
		text, _ := json.MarshalIndent(map[string]string{ // a map of strings is never refused
			"postgres-password": p.passwords.of(Postgres, id),
			"nats-url":          p.natsURLFor(id),
			"redis-password":    p.passwords.of(Redis, id),
		}, "", "  ")
		files = append(files, file{filepath.Join(p.state, infrastructureFolder, id+".json"), string(text)})
	}
	return files
}
