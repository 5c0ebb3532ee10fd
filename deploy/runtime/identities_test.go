package main

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func read(t *testing.T, parts ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestIdentities_LastAndAreRenewedBeforeTheyEnd(t *testing.T) {
	ids := &identities{folder: t.TempDir(), namespace: "default", domain: "localhost", now: time.Now()}
	if err := ids.make([]string{"orders"}); err != nil {
		t.Fatal(err)
	}
	authority, token := read(t, ids.folder, "sentry", "ca.crt"), read(t, ids.folder, "apps", "orders", "token")

	if err := ids.make([]string{"tickets", "dapr-placement"}); err != nil {
		t.Fatal(err)
	}
	if read(t, ids.folder, "sentry", "ca.crt") != authority || read(t, ids.folder, "apps", "orders", "token") != token {
		t.Error("what is good is made anew")
	}
	var claims struct {
		Sub string
		Aud []string
		Exp int64
	}
	for app, subject := range map[string]string{"tickets": "spiffe://public/ns/default/tickets", "dapr-placement": "spiffe://localhost/ns/default/dapr-placement"} {
		parts := strings.Split(read(t, ids.folder, "apps", app, "token"), ".")
		body, _ := base64.RawURLEncoding.DecodeString(parts[1])
		if err := json.Unmarshal(body, &claims); err != nil || claims.Sub != subject || claims.Aud[0] != "spiffe://localhost/ns/default/dapr-sentry" {
			t.Errorf("%s: %s, %v", app, body, err)
		}
		if claims.Exp < time.Now().Add(authorityTime-time.Hour).Unix() {
			t.Errorf("%s: ends at %d", app, claims.Exp)
		}
		signature, _ := base64.RawURLEncoding.DecodeString(parts[2])
		key := ed25519.NewKeyFromSeed([]byte(read(t, ids.folder, "signing.key"))).Public().(ed25519.PublicKey)
		if !ed25519.Verify(key, []byte(parts[0]+"."+parts[1]), signature) {
			t.Errorf("%s: the signature is wrong", app)
		}
	}

	ids.now = time.Now().Add(authorityTime - renewTime + time.Hour)
	if err := ids.make([]string{"tickets"}); err != nil {
		t.Fatal(err)
	}
	renewed := read(t, ids.folder, "sentry", "ca.crt")
	if renewed == authority || read(t, ids.folder, "apps", "orders", "ca.crt") != renewed {
		t.Error("an authority in its last year is not renewed everywhere")
	}
}

func TestIdentities_MendsWhatIsBroken(t *testing.T) {
	ids := &identities{folder: t.TempDir(), namespace: "default", domain: "localhost", now: time.Now()}
	for _, broken := range []string{"sentry/ca.crt", "sentry/issuer.crt", "sentry/issuer.key", "sentry/config.yaml", "signing.key", "apps/orders/token"} {
		for _, content := range []string{"", "nonsense"} {
			if err := ids.make([]string{"orders"}); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(ids.folder, broken), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := ids.make([]string{"orders"}); err != nil {
				t.Fatalf("%s: %v", broken, err)
			}
			if read(t, ids.folder, broken) == content {
				t.Errorf("%s is still broken", broken)
			}
			if info, err := os.Stat(filepath.Join(ids.folder, broken)); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v", broken, info.Mode(), err)
			}
		}
	}
	if err := ids.make([]string{"../escape"}); err == nil {
		t.Error("an id leads out of the folder")
	}
}
