package e2e

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"encoding/xml"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/client"
)

// Passes: what lets the buyer of a ticket into its show.

// buyPlace buys a ticket of a show of the owner, whose order is complete then.
func (s *testStack) buyPlace(t testing.TB, owner, buyer *testUser, show client.Show, number int) client.Order {
	t.Helper()
	listed := owner.listPlace(t, client.Offer{ShowID: show.ID, Seat: row1(number), Price: 4000})
	order := buyer.reserve(t, listed.ID)
	buyer.pay(t, order.ID, goodCard)
	return buyer.orderBecomes(t, "complete", order.ID)
}

// pass reads the pass of an order of the user.
func (u *testUser) pass(t testing.TB, orderID string) client.Pass {
	t.Helper()
	r := u.call(t, client.ReadPass(orderID))
	requireStatus(t, 200, r)
	return decode[client.Pass](t, r)
}

// passKeys reads the keys that verify passes, by their ids.
func (s *testStack) passKeys(t testing.TB) map[string]ed25519.PublicKey {
	t.Helper()
	r := s.call(t, client.ReadPassKeys())
	requireStatus(t, 200, r)
	keys := map[string]ed25519.PublicKey{}
	for _, key := range decode[struct {
		Keys []struct{ Kty, Crv, X, Kid string }
	}](t, r).Keys {
		require.Equal(t, "OKP Ed25519", key.Kty+" "+key.Crv)
		x, err := base64.RawURLEncoding.DecodeString(key.X)
		require.NoError(t, err)
		keys[key.Kid] = x
	}
	return keys
}

func TestPasses_ACompleteOrderOfAShowHasOne(t *testing.T) {
	t.Parallel()
	s := pooledStack(t, nil)
	owner, buyer := s.signUp(t), s.signUp(t)
	show := owner.announce(t, newShow(inDays(30)))
	listed := owner.listPlace(t, client.Offer{ShowID: show.ID, Seat: row1(7), Price: 4000})
	order := buyer.reserve(t, listed.ID)
	requireProblem(t, 409, buyer.call(t, client.ReadPass(order.ID)), "no_pass")
	buyer.pay(t, order.ID, goodCard)
	buyer.orderBecomes(t, "complete", order.ID)

	pass := buyer.pass(t, order.ID)
	require.Equal(t, client.Pass{
		OrderID: order.ID, TicketID: listed.ID, ShowID: show.ID, Title: listed.Title, Seat: row1(7), Code: pass.Code, Status: "valid", StartsAt: show.StartsAt,
	}, pass)
	require.Equal(t, pass.Code, buyer.pass(t, order.ID).Code, "the same order has the same code")

	// Who has the key set verifies the code without the services.
	keys := s.passKeys(t)
	claims := jwt.MapClaims{}
	parsed, err := jwt.NewParser(jwt.WithValidMethods([]string{"EdDSA"}), jwt.WithIssuer("boxoffice/orders"), jwt.WithAudience("boxoffice/checkin")).
		ParseWithClaims(pass.Code, claims, func(token *jwt.Token) (any, error) { return keys[token.Header["kid"].(string)], nil })
	require.NoError(t, err)
	require.Equal(t, "pass+jwt", parsed.Header["typ"])
	require.Equal(t, []any{order.ID, listed.ID, show.ID}, []any{claims["order"], claims["ticket"], claims["show"]})

	requireProblem(t, 403, s.signUp(t).call(t, client.ReadPass(order.ID)), "not_buyer")
	requireProblem(t, 403, owner.call(t, client.ReadPass(order.ID)), "not_buyer")
	requireProblem(t, 401, s.call(t, client.ReadPass(order.ID)), "not_signed_in")
	requireProblem(t, 404, buyer.call(t, client.ReadPass(listed.ID)), "not_found")
	requireProblem(t, 404, buyer.call(t, client.ReadPass("7")), "not_found")

	sold := s.sell(t, buyer)
	requireProblem(t, 409, buyer.call(t, client.ReadPass(sold.OrderID)), "no_pass")
}

func TestPasses_HaveTheFormThatIsAskedFor(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	owner, buyer := s.signUp(t), s.signUp(t)
	show := owner.announce(t, newShow(inDays(30)))
	order := s.buyPlace(t, owner, buyer, show, 1)
	path := "/api/orders/" + order.ID + "/pass"
	for _, c := range []struct{ query, accept, want string }{
		{"", "", "application/json"},
		{"", "*/*", "application/json"},
		{"", "image/avif,image/webp,image/svg+xml,image/*,*/*;q=0.8", "image/svg+xml"},
		{"", "text/html,application/xhtml+xml,*/*;q=0.8", "303"},
		{"?format=svg", "text/html,*/*", "image/svg+xml"},
		{"?format=json", "image/svg+xml", "application/json"},
	} {
		r := buyer.request(t, "GET", path+c.query, nil, "Accept", c.accept)
		require.Equal(t, "private, no-store", r.Header.Get("Cache-Control"))
		if c.want == "303" {
			requireStatus(t, 303, r)
			require.Equal(t, "/orders/"+order.ID+"/pass", r.Header.Get("Location"))
			continue
		}
		requireStatus(t, 200, r)
		require.Equal(t, c.want, r.Header.Get("Content-Type"), c)
		if c.want == "image/svg+xml" {
			requirePicture(t, r.Body)
		}
	}
	requireProblem(t, 400, buyer.request(t, "GET", path+"?format=png", nil), "invalid")
}

// requirePicture requires an SVG picture with a title and without scripts.
func requirePicture(t *testing.T, picture []byte) {
	t.Helper()
	var names []string
	for d := xml.NewDecoder(strings.NewReader(string(picture))); ; {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		if start, ok := token.(xml.StartElement); ok {
			names = append(names, start.Name.Local)
		}
	}
	require.Equal(t, []string{"svg", "title", "path", "path"}, names)
	require.Contains(t, string(picture), `role="img"`)
}

// A pass is no token for signing in, and a token is no pass, although both are signed in the same way.
func TestPasses_AreNoTokens(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	owner, buyer := s.signUp(t), s.signUp(t)
	show := owner.announce(t, newShow(inDays(30)))
	order := s.buyPlace(t, owner, buyer, show, 1)
	code := buyer.pass(t, order.ID).Code
	require.Equal(t, map[string]bool{"auth": false, "tickets": false, "orders": false, "payments": false}, s.acceptingServices(t, code))
	require.NotContains(t, s.passKeys(t), keyOf(t, owner.token))
	requireProblem(t, 400, owner.call(t, client.CheckIn(show.ID, owner.token)), "pass_invalid")
	requireStatus(t, 200, owner.call(t, client.CheckIn(show.ID, code)))
}

// The key is rotated by the command that operators use. Passes that people have printed stay valid, until a leaked key is removed.
func TestPasses_StayValidWhenTheKeyIsRotated(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{})
	owner, buyer := s.signUp(t), s.signUp(t)
	show := owner.announce(t, newShow(inDays(30)))
	printed, later := s.buyPlace(t, owner, buyer, show, 1), s.buyPlace(t, owner, buyer, show, 2)
	old, leaked := buyer.pass(t, printed.ID).Code, buyer.pass(t, later.ID).Code
	folder := stack.SecretsFolder(filepath.Join(s.Folder(), stack.StateFolder))
	command := exec.CommandContext(t.Context(), filepath.Join(root(t), ".build", "local"), "rotate-keys", "-key", "pass-signing-key", "-secrets", folder, "-url", s.GatewayURL(), "-wait", "6s")
	output, err := command.CombinedOutput()
	require.NoError(t, err, "%s", output)
	eventually(t, "the new key signs", func() bool { return keyOf(t, buyer.pass(t, printed.ID).Code) != keyOf(t, old) })
	require.Len(t, s.passKeys(t), 2)
	requireStatus(t, 200, owner.call(t, client.CheckIn(show.ID, old)))
	requireProblem(t, 409, owner.call(t, client.CheckIn(show.ID, buyer.pass(t, printed.ID).Code)), "already_used")

	secrets := stack.SecretsFile(folder, "orders")
	text, err := os.ReadFile(secrets)
	require.NoError(t, err)
	var file map[string]string
	require.NoError(t, json.Unmarshal(text, &file))
	signs, _ := pem.Decode([]byte(file["pass-signing-key"]))
	file["pass-signing-key"] = string(pem.EncodeToMemory(signs))
	text, err = json.Marshal(file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(secrets, text, 0o600))
	eventually(t, "the old key is not served any more", func() bool { return len(s.passKeys(t)) == 1 })
	requireProblem(t, 400, owner.call(t, client.CheckIn(show.ID, leaked)), "pass_invalid")
	requireStatus(t, 200, owner.call(t, client.CheckIn(show.ID, buyer.pass(t, later.ID).Code)))
}
