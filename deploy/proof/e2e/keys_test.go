package e2e

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
)

// keyOf is the id of the key that signed a token.
func keyOf(t *testing.T, token string) string {
	t.Helper()
	parsed, _, err := jwt.NewParser().ParseUnverified(token, jwt.MapClaims{})
	require.NoError(t, err)
	return parsed.Header["kid"].(string)
}

// rotating is people who use their tokens all the time, old ones and new ones.
type rotating struct {
	mu      sync.Mutex
	tokens  []string
	used    int
	refused []string
	ended   sync.WaitGroup
}

func (r *rotating) requests() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.used
}

func (h *house) useTokens(ctx context.Context, t *testing.T, somebody *person) *rotating {
	t.Helper()
	const pace = 20 * time.Millisecond // it leaves the machine to the tests beside this one
	r := &rotating{tokens: []string{somebody.token}}
	note := func(what string, got reply, err error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.used++
		if err == nil && got.status != 200 {
			r.refused = append(r.refused, fmt.Sprintf("%s: %d %s", what, got.status, got.body))
		}
	}
	r.ended.Go(func() {
		for ctx.Err() == nil {
			got, err := h.send("POST", "/api/users/signin", credentials{somebody.Email, somebody.password})
			if note("sign in", got, err); err == nil && got.status == 200 {
				var in signedIn
				if json.Unmarshal(got.body, &in) == nil {
					r.mu.Lock()
					r.tokens = append(r.tokens, in.Token)
					r.mu.Unlock()
				}
			}
			time.Sleep(pace)
		}
	})
	for _, path := range []string{"/api/orders", "/api/users/currentuser"} {
		r.ended.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				r.mu.Lock()
				oldest, newest := r.tokens[0], r.tokens[len(r.tokens)-1]
				r.mu.Unlock()
				for name, token := range map[string]string{"oldest": oldest, "newest": newest} {
					got, err := h.send("GET", path, nil, "Authorization", "Bearer "+token)
					if err == nil && got.status == 200 && string(got.body) == `{"currentUser":null}` {
						got.status = 401
					}
					note(path+" with the "+name+" token", got, err)
				}
				time.Sleep(pace)
			}
		})
	}
	return r
}

// The key that signs is changed by the command that people use, beside a stack at work: nobody is signed out.
func TestKeys_AreChangedUnderLoadAndNobodyIsSignedOut(t *testing.T) {
	t.Parallel()
	h := newHouse(t, stack.Options{})
	somebody := h.signUp(t)
	before := keyOf(t, somebody.token)
	ctx, stop := context.WithCancel(t.Context())
	users := h.useTokens(ctx, t, somebody)
	secrets := filepath.Join(h.Folder(), stack.StateFolder, "secrets.json")

	runFile, err := stack.FindRunFile(".")
	require.NoError(t, err)
	command := exec.CommandContext(t.Context(), filepath.Join(filepath.Dir(runFile), ".build", "local"), "rotate-keys", "-secrets", secrets, "-url", h.GatewayURL(), "-wait", "6s")
	out, err := command.CombinedOutput()
	require.NoError(t, err, "%s", out)

	eventually(t, "the new key signs", func() bool { return keyOf(t, h.signInAs(t, somebody).token) != before })
	require.Len(t, h.keys(t).Keys, 2)
	sofar := users.requests()
	eventually(t, "old tokens and new ones are used some more", func() bool { return users.requests() > sofar+100 })
	stop()
	users.ended.Wait()
	require.Empty(t, users.refused)
	require.Greater(t, users.used, 100)
	t.Logf("%d requests, %d tokens", users.used, len(users.tokens))

	// A key that leaked is left out: its tokens are refused by all.
	text, err := os.ReadFile(secrets)
	require.NoError(t, err)
	var file map[string]string
	require.NoError(t, json.Unmarshal(text, &file))
	first, _ := pem.Decode([]byte(file["jwt-signing-key"]))
	file["jwt-signing-key"] = string(pem.EncodeToMemory(first))
	text, err = json.Marshal(file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(secrets, text, 0o600))
	eventually(t, "tokens of the old key are refused", func() bool {
		accepted := h.accepts(t, somebody.token)
		return !accepted["auth"] && !accepted["tickets"] && !accepted["orders"] && !accepted["payments"]
	})
	require.Equal(t, acceptedByAll, h.accepts(t, h.signInAs(t, somebody).token))
}
