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

// keyOf returns the id of the key that signed a token.
func keyOf(t *testing.T, token string) string {
	t.Helper()
	parsed, _, err := jwt.NewParser().ParseUnverified(token, jwt.MapClaims{})
	require.NoError(t, err)
	return parsed.Header["kid"].(string)
}

// tokenLoad signs a user in again and again, and uses the oldest and the newest of the tokens.
type tokenLoad struct {
	stack   *testStack
	user    *testUser
	working sync.WaitGroup

	mu       sync.Mutex
	tokens   []string
	requests int
	refused  []string
}

func (s *testStack) startTokenLoad(ctx context.Context, t *testing.T, user *testUser) *tokenLoad {
	t.Helper()
	l := &tokenLoad{stack: s, user: user, tokens: []string{user.token}}
	for _, use := range []func(context.Context){l.signIn, l.readOrders, l.readCurrentUser} {
		l.working.Go(func() {
			for ctx.Err() == nil {
				use(t.Context())
				time.Sleep(20 * time.Millisecond) // other tests need the machine, too
			}
		})
	}
	return l
}

func (l *tokenLoad) signIn(ctx context.Context) {
	in, err := client.Decode[client.SignedIn](l.stack.try(ctx, client.SignIn(l.user.Email, l.user.password)))
	l.count("sign in", client.Status(err) != 0, err)
	if err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.tokens = append(l.tokens, in.Token)
	}
}

func (l *tokenLoad) readOrders(ctx context.Context) {
	for which, token := range l.oldestAndNewest() {
		r, err := l.stack.api.As(token).Do(ctx, client.ReadOrders())
		l.count("orders with the "+which+" token", err == nil && r.Status != 200, err)
	}
}

func (l *tokenLoad) readCurrentUser(ctx context.Context) {
	for which, token := range l.oldestAndNewest() {
		current, err := client.Decode[client.CurrentUser](l.stack.api.As(token).Do(ctx, client.ReadCurrentUser()))
		l.count("the current user with the "+which+" token", client.Status(err) != 0 || err == nil && current.CurrentUser == nil, err)
	}
}

func (l *tokenLoad) oldestAndNewest() map[string]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return map[string]string{"oldest": l.tokens[0], "newest": l.tokens[len(l.tokens)-1]}
}

func (l *tokenLoad) count(what string, refused bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests++
	if refused {
		l.refused = append(l.refused, fmt.Sprintf("%s: %v", what, err))
	}
}

func (l *tokenLoad) requestCount() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.requests
}

// The keys that sign tokens and passes are rotated by the command that operators use, while the stack works.
func TestKeys_RotationUnderLoadSignsNobodyOut(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{})
	user, owner := s.signUp(t), s.signUp(t)
	show := owner.announce(t, newShow(inDays(30)))
	before := keyOf(t, user.token)
	printed := user.pass(t, s.buyPlace(t, owner, user, show, 1).ID).Code
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	load := s.startTokenLoad(ctx, t, user)
	folder := stack.SecretsFolder(filepath.Join(s.Folder(), stack.StateFolder))
	secrets := stack.SecretsFile(folder, "auth")

	command := exec.CommandContext(t.Context(), filepath.Join(root(t), ".build", "local"), "rotate-keys", "-secrets", folder, "-url", s.GatewayURL(), "-wait", "6s")
	output, err := command.CombinedOutput()
	require.NoError(t, err, "%s", output)

	eventually(t, "the new key signs", func() bool { return keyOf(t, s.signIn(t, user).token) != before })
	require.Len(t, s.publicKeys(t).Keys, 2)
	// A pass that was printed before is still good, and a new one has the new key.
	second := s.buyPlace(t, owner, user, show, 2)
	eventually(t, "the new key signs passes", func() bool { return keyOf(t, user.pass(t, second.ID).Code) != keyOf(t, printed) })
	require.Len(t, s.passKeys(t), 2)
	requireStatus(t, 200, owner.call(t, client.CheckIn(show.ID, printed)))
	requireStatus(t, 200, owner.call(t, client.CheckIn(show.ID, user.pass(t, second.ID).Code)))
	more := load.requestCount() + 100
	eventually(t, "old and new tokens are used", func() bool { return load.requestCount() > more })
	stop()
	load.working.Wait()
	require.Empty(t, load.refused)
	t.Logf("%d requests, %d tokens", load.requests, len(load.tokens))

	// A leaked key is removed. All services refuse its tokens.
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
