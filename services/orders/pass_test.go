package main

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/rest"
	"boxoffice/services/internal/signing"
)

func newKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	return private
}

func publicOf(key ed25519.PrivateKey) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }

var somePass = passClaims{Issuer: passIssuer, Audience: passAudience, Order: "order-1", Ticket: "ticket-1", Show: "show-1", IssuedAt: noon.Unix()}

func TestPassCodes_TheSameClaimsHaveTheSameCode(t *testing.T) {
	codes := newPassCodes(signing.Keys{Private: newKey(t)})
	code, err := codes.Sign(somePass)
	require.NoError(t, err)
	again, err := codes.Sign(somePass)
	require.NoError(t, err)
	require.Equal(t, code, again)
	claims, err := codes.Verify(code)
	require.NoError(t, err)
	require.Equal(t, somePass, claims)

	parts := strings.Split(code, ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	require.NoError(t, err)
	require.JSONEq(t, `{"iss":"boxoffice/orders","aud":"boxoffice/checkin","order":"order-1","ticket":"ticket-1","show":"show-1","iat":1777636800}`, string(payload))
	header, err := base64.RawURLEncoding.DecodeString(parts[0])
	require.NoError(t, err)
	require.JSONEq(t, `{"alg":"EdDSA","typ":"pass+jwt","kid":"`+codes.KeySet().Keys[0].ID+`"}`, string(header))
}

func TestPassCodes_ARotatedKeyIsAcceptedWhileItIsServed(t *testing.T) {
	old, next := newKey(t), newKey(t)
	codes := newPassCodes(signing.Keys{Private: old})
	printed, err := codes.Sign(somePass)
	require.NoError(t, err)
	codes.SetKeys(signing.Keys{Private: next, Others: []ed25519.PublicKey{publicOf(old)}})
	renewed, err := codes.Sign(somePass)
	require.NoError(t, err)
	require.NotEqual(t, printed, renewed)
	for _, code := range []string{printed, renewed} {
		claims, err := codes.Verify(code)
		require.NoError(t, err)
		require.Equal(t, somePass, claims)
	}
	codes.SetKeys(signing.Keys{Private: next})
	_, err = codes.Verify(printed)
	require.ErrorIs(t, err, errPassInvalid)
}

// Not even a text that the right key has signed is a pass, unless it was signed as a pass.
func TestPassCodes_RefuseWhatIsNoPass(t *testing.T) {
	key, other := newKey(t), newKey(t)
	codes := newPassCodes(signing.Keys{Private: key})
	kid := codes.KeySet().Keys[0].ID
	sign := func(method jwt.SigningMethod, key any, claims jwt.Claims, header map[string]any) string {
		unsigned := jwt.NewWithClaims(method, claims)
		unsigned.Header["typ"], unsigned.Header["kid"] = passType, kid
		for name, value := range header {
			unsigned.Header[name] = value
		}
		text, err := unsigned.SignedString(key)
		require.NoError(t, err)
		return text
	}
	with := func(change func(*passClaims)) passClaims { c := somePass; change(&c); return c }
	good := sign(jwt.SigningMethodEdDSA, key, somePass, nil)
	_, err := codes.Verify(good)
	require.NoError(t, err)
	token, _, err := identity.NewIssuer(key, time.Hour).Issue(identity.Caller{ID: "ann"}, time.Now())
	require.NoError(t, err)
	for name, code := range map[string]string{
		"nothing":                              "",
		"no JWS":                               "pass",
		"a token, even with the same key":      token,
		"another key":                          sign(jwt.SigningMethodEdDSA, other, somePass, nil),
		"another key's id":                     sign(jwt.SigningMethodEdDSA, key, somePass, map[string]any{"kid": "other"}),
		"no key's id":                          sign(jwt.SigningMethodEdDSA, key, somePass, map[string]any{"kid": nil}),
		"another type":                         sign(jwt.SigningMethodEdDSA, key, somePass, map[string]any{"typ": "JWT"}),
		"another issuer":                       sign(jwt.SigningMethodEdDSA, key, with(func(c *passClaims) { c.Issuer = "boxoffice/auth" }), nil),
		"another audience":                     sign(jwt.SigningMethodEdDSA, key, with(func(c *passClaims) { c.Audience = "" }), nil),
		"no signature":                         sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, somePass, nil),
		"the public key as a secret":           sign(jwt.SigningMethodHS256, []byte(publicOf(key)), somePass, nil),
		"a signature that is cut":              good[:len(good)-4],
		"a signature with bits that are extra": good + "AA",
		"too long":                             good + strings.Repeat("A", longestCode),
	} {
		t.Run(name, func(t *testing.T) {
			claims, err := codes.Verify(code)
			require.ErrorIs(t, err, errPassInvalid)
			require.Empty(t, claims)
		})
	}
	verifier := identity.NewVerifier(func(context.Context) (signing.KeySet, error) { return codes.KeySet(), nil })
	_, err = verifier.Verify(t.Context(), good)
	require.Equal(t, problem.Unauthorized, problem.KindOf(err), "a pass is no token, even if a verifier had its key")
}

// Any text is refused, or is a code that this key has signed.
func FuzzPassCode(f *testing.F) {
	codes := newPassCodes(signing.Keys{Private: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))})
	code, err := codes.Sign(somePass)
	require.NoError(f, err)
	f.Add(code)
	f.Add(code + "=")
	f.Add(strings.ToLower(code))
	f.Add("..")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		claims, err := codes.Verify(text)
		if err != nil {
			require.ErrorIs(t, err, errPassInvalid)
			return
		}
		signed, err := codes.Sign(claims)
		require.NoError(t, err)
		require.Equal(t, signed, text)
	})
}

func TestPassPicture_IsAQRCodeWithAQuietZoneAndATitle(t *testing.T) {
	codes := newPassCodes(signing.Keys{Private: newKey(t)})
	order := passHolder()
	code, err := codes.Sign(order.PassClaims())
	require.NoError(t, err)
	order.Ticket.Title = `Tom & "Jerry" <script>`
	picture, err := passPicture(code, order.Ticket)
	require.NoError(t, err)

	var svg struct {
		ViewBox string `xml:"viewBox,attr"`
		Role    string `xml:"role,attr"`
		Title   string `xml:"title"`
		Paths   []struct {
			D string `xml:"d,attr"`
		} `xml:"path"`
	}
	require.NoError(t, xml.Unmarshal(picture, &svg))
	require.Equal(t, "img", svg.Role)
	require.Equal(t, `Tom & "Jerry" <script>, Block A, 8, 12`, svg.Title)
	require.NotContains(t, string(picture), "<script")
	require.Len(t, svg.Paths, 2)
	// The three squares have a black line of seven modules at the top; four modules of margin are before and above them.
	require.True(t, strings.HasPrefix(svg.Paths[1].D, "M4 4h7v1h-7z"), svg.Paths[1].D[:20])
	require.Less(t, len(picture), 40_000)
}

// passHolder is a complete order of a ticket with a show.
func passHolder() Order {
	seat := showSeat()
	order, _ := seat.Reserve("order-1", "buyer", noon, terms)
	_, _ = order.Complete(&seat, "payment-1", noon.Add(time.Minute))
	return order
}

func TestCheckPass_OfEachState(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Order)
		want   error
	}{
		"complete":                      {func(*Order) {}, nil},
		"used":                          {func(o *Order) { o.UsedAt = noon }, nil},
		"without a show":                {func(o *Order) { o.Ticket.ShowID = "" }, errNoPass},
		"unpaid":                        {func(o *Order) { o.Status = Created }, errNoPass},
		"cancelled unpaid":              {func(o *Order) { o.Status, o.PaymentID, o.CompletedAt = Cancelled, "", time.Time{} }, errNoPass},
		"refunded":                      {func(o *Order) { o.Status = Cancelled }, errPassVoid},
		"refunded, of an older release": {func(o *Order) { o.Status, o.CompletedAt = Cancelled, time.Time{} }, errPassVoid},
		"resold":                        {func(o *Order) { o.ResoldTo = "order-2" }, errPassVoid},
	} {
		order := passHolder()
		c.change(&order)
		require.Equal(t, c.want, order.CheckPass(), name)
	}
}

func TestPassClaims_DoNotChange(t *testing.T) {
	order := passHolder()
	claims := order.PassClaims()
	require.Equal(t, noon.Add(time.Minute).Unix(), claims.IssuedAt)
	order.UsedAt, order.UpdatedAt, order.Version = noon.Add(time.Hour), noon.Add(time.Hour), 3
	require.Equal(t, claims, order.PassClaims())
	order.CompletedAt = time.Time{}
	require.Equal(t, noon.Unix(), order.PassClaims().IssuedAt, "of an order that an earlier release completed")
}

func TestCheckShowOwner_IsTheSellerIfTheEventNamesNobody(t *testing.T) {
	seat := showSeat()
	require.NoError(t, seat.CheckShowOwner("seller"))
	require.ErrorIs(t, seat.CheckShowOwner("buyer"), errNotOwner)
	seat.ShowOwnerID = "owner"
	require.NoError(t, seat.CheckShowOwner("owner"))
	require.ErrorIs(t, seat.CheckShowOwner("seller"), errNotOwner)
	seat.ShowOwnerID, seat.ResaleOf = "", &Resold{"ticket-0", "order-0"}
	require.ErrorIs(t, seat.CheckShowOwner("seller"), errNotOwner, "who resells is not the show's owner")
}

// passAPI is the REST API over a store in memory, with a complete order of a ticket with a show.
type passAPI struct {
	*testStore
	app    *fiber.App
	issuer *identity.Issuer
	codes  *passCodes
	order  Order
	show   id.Show
}

func newPassAPI(t *testing.T) *passAPI {
	t.Helper()
	a := &passAPI{testStore: newTestStore(t, limited), issuer: identity.NewIssuer(newKey(t), time.Hour), codes: newPassCodes(signing.Keys{Private: newKey(t)}), show: id.New[id.Show]()}
	a.app = rest.New(rest.Options{Name: "orders", Log: slog.New(slog.DiscardHandler), BodyLimit: 65536})
	verifier := identity.NewVerifier(func(context.Context) (signing.KeySet, error) { return a.issuer.KeySet(), nil })
	(&api{a.store, a.codes}).register(a.app, identity.RequireUser(verifier))
	listing := showListing(id.New[id.Ticket](), 1)
	listing.ShowID, listing.ShowOwnerID, listing.SalesEndAt = a.show, "owner", clock.Stamp(clock.System().Add(time.Hour))
	require.NoError(t, a.listingChanged(t.Context(), listing))
	order, err := a.reserve(t, listing.ID, "buyer")
	require.NoError(t, err)
	require.NoError(t, a.paymentAuthorized(t.Context(), events.PaymentCreated{Payment: events.Payment{ID: "payment-1", OrderID: order.ID, Version: 1}}))
	a.order = order
	return a
}

// send returns the status and the body of a response, and the code if it is a problem.
func (a *passAPI) send(t *testing.T, user id.User, method, path, body string, header ...string) (status int, text, code string) {
	t.Helper()
	request := httptest.NewRequest(method, path, strings.NewReader(body))
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	token, _, err := a.issuer.Issue(identity.Caller{ID: user}, time.Now())
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+token)
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := a.app.Test(request, -1)
	require.NoError(t, err)
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	var refusal struct{ Errors []problem.Detail }
	if response.StatusCode >= 400 {
		require.NoError(t, json.Unmarshal(raw, &refusal), "%s", raw)
		code = refusal.Errors[0].Code
	}
	return response.StatusCode, string(raw), code
}

func (a *passAPI) checkIn(t *testing.T, user id.User, show id.Show, code string, header ...string) (status int, text, refusal string) {
	t.Helper()
	return a.send(t, user, "POST", "/api/shows/"+string(show)+"/checkins", `{"code":"`+code+`"}`, header...)
}

func TestAPI_ACheckInIsRepeatedWithItsKeyAlone(t *testing.T) {
	a := newPassAPI(t)
	_, text, _ := a.send(t, "buyer", "GET", "/api/orders/"+string(a.order.ID)+"/pass", "")
	var pass ownPassResponse
	require.NoError(t, json.Unmarshal([]byte(text), &pass))
	require.Equal(t, "valid", pass.Status)

	status, _, code := a.checkIn(t, "buyer", a.show, pass.Code)
	require.Equal(t, "not_show_owner", code, status)
	_, _, code = a.checkIn(t, "owner", id.New[id.Show](), pass.Code)
	require.Equal(t, "wrong_show", code)
	status, first, _ := a.checkIn(t, "owner", a.show, pass.Code, "Idempotency-Key", "scan-1")
	require.Equal(t, 200, status, first)
	status, again, _ := a.checkIn(t, "owner", a.show, pass.Code, "Idempotency-Key", "scan-1")
	require.Equal(t, 200, status)
	require.JSONEq(t, first, again)
	status, refused, code := a.checkIn(t, "owner", a.show, pass.Code, "Idempotency-Key", "scan-2")
	require.Equal(t, "already_used", code, status)
	var in, used struct{ UsedAt string }
	require.NoError(t, json.Unmarshal([]byte(first), &in))
	require.NoError(t, json.Unmarshal([]byte(refused), &used))
	require.Equal(t, in, used)
	a.requirePublished(t, "order.updated:"+string(a.order.ID)+":3")
}

func TestAPI_OfCheckInsAtTheSameTimeOneSucceeds(t *testing.T) {
	a := newPassAPI(t)
	doc, err := a.readOrder(t.Context(), a.order.ID)
	require.NoError(t, err)
	var all sync.WaitGroup
	results := make([]error, 50)
	for i := range results {
		all.Go(func() { _, results[i] = a.use(t, doc.Value.PassClaims(), "owner") })
	}
	all.Wait()
	in := 0
	for _, err := range results {
		if err == nil {
			in++
		} else {
			require.ErrorIs(t, err, errUsed)
		}
	}
	require.Equal(t, 1, in)
}

func TestAPI_ThePassOfALostOrderIsVoid(t *testing.T) {
	a := newPassAPI(t)
	code, err := a.codes.Sign(passClaims{Issuer: passIssuer, Audience: passAudience, Order: id.New[id.Order](), Ticket: a.order.Ticket.ID, Show: a.show, IssuedAt: noon.Unix()})
	require.NoError(t, err)
	_, _, refusal := a.checkIn(t, "owner", a.show, code)
	require.Equal(t, "pass_void", refusal)

	unpaid := showListing(id.New[id.Ticket](), 1)
	unpaid.ShowID, unpaid.ShowOwnerID, unpaid.SalesEndAt = a.show, "owner", clock.Stamp(clock.System().Add(time.Hour))
	require.NoError(t, a.listingChanged(t.Context(), unpaid))
	order, err := a.reserve(t, unpaid.ID, "buyer")
	require.NoError(t, err)
	code, err = a.codes.Sign(order.PassClaims())
	require.NoError(t, err)
	_, _, refusal = a.checkIn(t, "owner", a.show, code)
	require.Equal(t, "pass_void", refusal, "its completion was lost")
}

func TestDecide_AnOrderWithoutAResaleReadsNoNeighbour(t *testing.T) {
	s := newTestStore(t, limited)
	order := s.ordered(t, time.Hour, nil)
	var mu sync.Mutex
	var read []string
	s.beforeRead(func(keys []string) {
		mu.Lock()
		defer mu.Unlock()
		for _, key := range keys {
			if strings.HasPrefix(key, "order/") || strings.HasPrefix(key, "ticket/") {
				read = append(read, key)
			}
		}
	})
	_, err := s.Complete(t.Context(), order.ID, "payment-1")
	require.NoError(t, err)
	mu.Lock()
	defer mu.Unlock()
	require.ElementsMatch(t, []string{orderKey(order.ID), seatKey(order.Ticket.ID)}, read)
}
