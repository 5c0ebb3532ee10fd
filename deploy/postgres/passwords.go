package main

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
)

// passwordVariable is where a role's password comes from.
func passwordVariable(role string) string {
	return "POSTGRES_PASSWORD_" + strings.ToUpper(strings.ReplaceAll(strings.TrimPrefix(role, "boxoffice_"), "-", "_"))
}

// passwordsFrom reads the password of every role. The error names all that is wrong.
func passwordsFrom(lookup func(string) (string, bool)) (map[string]string, error) {
	passwords := map[string]string{}
	var missing, odd []string
	for _, role := range roles() {
		name := passwordVariable(role)
		password, _ := lookup(name)
		switch {
		case password == "":
			missing = append(missing, name)
		case strings.ContainsFunc(password, func(r rune) bool { return r < ' ' || r > '~' }):
			odd = append(odd, name)
		}
		passwords[role] = password
	}
	switch {
	case len(missing) > 0:
		return nil, fmt.Errorf("these variables are not set: %s. Each holds the password that its role is to have; with -keep-passwords the roles' passwords stay as they are",
			strings.Join(missing, ", "))
	case len(odd) > 0:
		return nil, fmt.Errorf("the passwords in %s have characters other than printable ASCII, which programs write in different ways", strings.Join(odd, ", "))
	}
	return passwords, nil
}

func roles() []string {
	var all []string
	for _, service := range services {
		all = append(all, roleOf(service))
	}
	return append(all, reporting)
}

// verifier is what the server keeps of a password (SCRAM-SHA-256, RFC 5803). It is made here, so that the password
// itself goes neither over the wire nor into the server's log.
func verifier(password string) (string, error) {
	const iterations = 4096 // PostgreSQL's own default
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails
	return verifierWith(password, salt, iterations)
}

func verifierWith(password string, salt []byte, iterations int) (string, error) {
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		return "", err
	}
	stored := sha256.Sum256(digest(salted, "Client Key"))
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, encode(salt), encode(stored[:]), encode(digest(salted, "Server Key"))), nil
}

func digest(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}
