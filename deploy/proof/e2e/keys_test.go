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
	"boxoffice/deploy/proof/client"
)

// keyOf is the id of the key that signed a token.
func keyOf(t *testing.T, token string) string {
	t.Helper()
	parsed, _, err := jwt.NewParser().ParseUnverified(token, jwt.MapClaims{})
	require.NoError(t, err)
	return parsed.Header["kid"].(string)
}

// rotating is people who use their tokens all the time, old ones and new ones.
type tokenLoad struct {
	mu      sync.Mutex
	tokens  []string
	used    int
	refused []string
	ended   sync.WaitGroup
}

func (r *tokenLoad) requests() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.used
}

func (s *testStack) startTokenLoad(ctx context.Context, t *testing.T, user *testUser) *tokenLoad {
	t.Helper()
	const pace = 20 * time.Millisecond // it leaves the machine to the tests beside this one
	r := &tokenLoad{tokens: []string{user.token}}
	note := func(what string, got client.Response, err error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.used++
		if err == nil && got.Status != 200 {
			r.refused = append(r.refused, fmt.Sprintf("%s: %d %s", what, got.Status, got.Body))
		}
	}
	r.ended.Go(func() {
		for ctx.Err() == nil {
			got, err := s.try(t.Context(), client.SignIn(user.Email, user.password))
			if note("sign in", got, err); err == nil && got.Status == 200 {
				var in client.SignedIn
				if json.Unmarshal(got.Body, &in) == nil {
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
					got, err := s.try(t.Context(), client.Request{Method: "GET", Path: path}.With("Authorization", "Bearer "+token))
					if err == nil && got.Status == 200 && string(got.Body) == `{"currentUser":null}` {
						got.Status = 401
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
func TestKeys_RotationUnderLoadSignsNobodyOut(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{})
	user := s.signUp(t)
	before := keyOf(t, user.token)
	ctx, stop := context.WithCancel(t.Context())
	users := s.startTokenLoad(ctx, t, user)
	secrets := filepath.Join(s.Folder(), stack.StateFolder, "secrets.json")

	runFile, err := stack.FindRunFile(".")
	require.NoError(t, err)
	command := exec.CommandContext(t.Context(), filepath.Join(filepath.Dir(runFile), ".build", "local"), "rotate-keys", "-secrets", secrets, "-url", s.GatewayURL(), "-wait", "6s")
	out, err := command.CombinedOutput()
	require.NoError(t, err, "%s", out)

	eventually(t, "the new key signs", func() bool { return keyOf(t, s.signIn(t, user).token) != before })
	require.Len(t, s.publicKeys(t).Keys, 2)
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
		accepted := s.acceptingServices(t, user.token)
		return !accepted["auth"] && !accepted["tickets"] && !accepted["orders"] && !accepted["payments"]
	})
	require.Equal(t, acceptedByAll, s.acceptingServices(t, s.signIn(t, user).token))
}
