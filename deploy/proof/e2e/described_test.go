package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/local/stack/stacktest"
	"boxoffice/deploy/proof/client"
	"boxoffice/deploy/proof/contract"
)

// Tests that go through all operations of the OpenAPI document, and produce of each what all operations have in common: refusals of the
// gateway and of rest, and what happens while something is away.

// sampler makes a valid request of each operation, by a user who has one of everything.
type sampler struct {
	stack     *testStack
	user      *testUser
	refresh   string // the refresh token of a session of the user
	values    map[string]any
	generator *contract.Generator
}

// newSampler makes a user with a show that has an image and a ticket, a ticket that is for sale, an order, a payment and an endpoint.
func (s *testStack) newSampler(t *testing.T, seed uint64) *sampler {
	t.Helper()
	user := s.signUp(t)
	session := s.call(t, client.SignIn(user.Email, user.password))
	requireStatus(t, 200, session)
	paid := s.sell(t, user)
	free := s.signUp(t).list(t, "For sale", 1500)
	projectTicket(t, s.signUp(t), free)
	sam := &sampler{stack: s, user: user, refresh: session.Cookie("refresh").Value, values: map[string]any{
		"ticketId": free.ID, "orderId": paid.OrderID, "paymentId": paid.ID, "webhookId": uuid.NewString(), "deliveryId": "msg_none",
		"email": user.Email, "password": user.password, "oldPassword": user.password, "newPassword": user.password,
		"paymentMethod": goodCard, "type": "order.created", "version": 1, "asset": "swagger-ui.css",
	}}
	sam.addShow(t)
	if s.hasWebhooks() {
		r := user.call(t, client.CreateWebhook("https://receiver.example.com/events", "order.completed"))
		requireStatus(t, 201, r)
		endpoint := decode[client.Webhook](t, r)
		sam.values["webhookId"] = endpoint.ID
		r = user.call(t, client.TestWebhook(endpoint.ID))
		requireStatus(t, 202, r)
		sam.values["deliveryId"] = decode[client.Delivery](t, r).ID
	}
	sam.generator = contract.NewGenerator(validator().Document(), rand.New(rand.NewPCG(seed, 0)), sam.value)
	return sam
}

// addShow makes a show of the user, with an image and two tickets, one of which has a buyer with a pass, and waits until the other services have it.
func (sam *sampler) addShow(t *testing.T) {
	t.Helper()
	var picture bytes.Buffer
	require.NoError(t, png.Encode(&picture, image.NewGray(image.Rect(0, 0, 8, 6))))
	startsAt := time.Now().Add(48 * time.Hour).UTC().Truncate(time.Second)
	r := sam.user.call(t, client.CreateShow(client.NewShow{
		Name: "The Described", Venue: "Hall", City: "Berlin", Country: "DE", StartsAt: startsAt, TimeZone: "Europe/Berlin", Category: "music",
	}))
	requireStatus(t, 201, r)
	show := decode[client.Show](t, r).ID
	r = sam.user.call(t, client.PutImage(show, "image/png", picture.Bytes()))
	requireStatus(t, 200, r)
	maps.Copy(sam.values, map[string]any{
		"showId": show, "show": show, "imageId": path.Base(decode[client.Show](t, r).Image.URL), "image/png": picture.Bytes(),
		"startsAt": startsAt.Format(time.RFC3339), "timeZone": "Europe/Berlin", "country": "DE", "seat": map[string]any{"section": "Stalls"},
	})
	sold := sam.user.listPlace(t, client.Offer{Price: 1500, ShowID: show})
	sam.user.listPlace(t, client.Offer{Price: 1500, ShowID: show})
	sam.values["code"] = sam.stack.signUp(t).buyPass(t, sold.ID).Code
	eventually(t, "the catalogue has its ticket", func() bool {
		r := sam.stack.call(t, client.ReadCatalogueShow(show))
		return r.Status == 200 && decode[client.CatalogueShow](t, r).Left > 0
	})
}

// completeStack is a stack with all services, also with webhooks if Node is installed.
func completeStack(t *testing.T, env map[string]string) *testStack {
	t.Helper()
	stacktest.SkipIfShort(t)
	return newStack(t, stack.Options{Env: env, Without: []string{}})
}

// hasWebhooks reports whether the stack runs the service webhooks, which needs Node.
func (s *testStack) hasWebhooks() bool { return s.Process("webhooks") != nil }

// value is what the document does not know. Members called version are those of a change.
func (sam *sampler) value(o *contract.Operation, name string) (any, bool) {
	if name == "version" && (o == nil || o.ID != "getSchema") {
		return nil, false
	}
	value, ok := sam.values[name]
	if unpaid, found := sam.values["unpaidOrderId"]; found && o != nil && o.ID == "createPayment" && name == "orderId" {
		return unpaid, true
	}
	if o != nil && o.ID == "signUp" && name == "email" {
		return newEmail(), true
	}
	return value, ok
}

// each calls a function for all operations that the stack has and that match.
func (sam *sampler) each(match func(*contract.Operation) bool, call func(o *contract.Operation)) {
	for _, o := range validator().Document().Operations() {
		if slices.Contains(o.Tags, "webhooks") && !sam.stack.hasWebhooks() || !match(o) {
			continue
		}
		call(o)
	}
}

// describing matches operations with an outcome.
func describing(status int, code string) func(*contract.Operation) bool {
	return func(o *contract.Operation) bool { return o.Describes(status, code) }
}

// sample returns a valid request of the operation, which the user may send. Of a list that everybody may read, it asks for the user's own entries.
func (sam *sampler) sample(o *contract.Operation) client.Request {
	r := sam.signed(sam.generator.Sample(o))
	if name, found := ownEntries[o.ID]; found {
		r = sam.user.authorized(r.WithQuery(name, "me"))
	}
	return r
}

// ownEntries are the parameters that restrict lists to the caller's own entries, for which the caller must be signed in.
var ownEntries = map[string]string{"listTickets": "seller", "listShows": "owner"}

// authorized returns the request with the user's token.
func (u *testUser) authorized(r client.Request) client.Request {
	return r.With("Authorization", "Bearer "+u.token)
}

// signed adds the user's credentials to a request that was generated.
func (sam *sampler) signed(generated contract.Request) client.Request {
	r := client.Request{Method: generated.Method, Path: generated.Path, Header: generated.Header.Clone()}
	if generated.Body != nil {
		r.Body = generated.Body
	}
	switch generated.Operation.ID {
	case "refresh":
		r = r.WithCookie("refresh", sam.refresh)
	case "receiveStripeEvent":
		r = r.With("Stripe-Signature", stripeSignature(string(generated.Body), sam.stack.Secret("STRIPE_WEBHOOK_SECRET"), time.Now()))
	}
	if generated.Operation.NeedsCredentials() && r.Header.Get("Authorization") == "" && r.Header.Get("Cookie") == "" {
		r = sam.user.authorized(r)
	}
	return r
}

func TestDescribed_RequestsThatNoOperationTakes(t *testing.T) {
	t.Parallel()
	s := sharedCompleteStack(t)
	sam := s.newSampler(t, 1)
	long := `{"padding":"` + strings.Repeat("x", 2_000_000) + `"}` // also longer than an image
	refused := func(status int, code string, change func(client.Request) client.Request) {
		t.Helper()
		sam.each(describing(status, code), func(o *contract.Operation) {
			if status == 400 && !o.TakesJSON() {
				return // the code is about a parameter
			}
			r := s.call(t, change(sam.sample(o)))
			if assert.Equal(t, status, r.Status, "%s: %s", o.ID, r.Body) {
				assert.Equal(t, code, r.Code(), "%s: %s", o.ID, r.Body)
			}
		})
	}
	body := func(text string) func(client.Request) client.Request {
		return func(r client.Request) client.Request { r.Body = text; return r }
	}
	refused(431, "headers_too_large", func(r client.Request) client.Request { return r.With("X-Padding", strings.Repeat("x", 32<<10)) })
	refused(413, "too_large", body(long))
	refused(415, "unsupported_media_type", func(r client.Request) client.Request { return r.With("Content-Type", "text/plain") })
	refused(415, "unsupported_encoding", func(r client.Request) client.Request { return r.With("Content-Encoding", "gzip") })
	refused(400, "not_json", body("{"))
	refused(400, "wrong_type", body("[]"))
	refused(400, "not_text", body(`{"email":"a\u0000b","password":"a\u0000b","oldPassword":"a\u0000b","title":"a\u0000b","name":"\u0000","ticketId":"\u0000","orderId":"\u0000","url":"\u0000"}`))
	refused(401, "not_signed_in", func(r client.Request) client.Request { return r.With("Authorization", "") })
	refused(401, "token_invalid", func(r client.Request) client.Request { return r.With("Authorization", "Bearer nonsense") })
	expired := expiredToken(t, s, sam.user)
	refused(401, "token_expired", func(r client.Request) client.Request { return r.With("Authorization", "Bearer "+expired) })
	refused(403, "cross_origin", func(r client.Request) client.Request { return r.With("Sec-Fetch-Site", "cross-site") })
}

// expiredToken returns a token of a user that auth would have signed two hours ago.
func expiredToken(t *testing.T, s *testStack, user *testUser) string {
	t.Helper()
	claims := jwt.MapClaims{}
	parsed, _, err := jwt.NewParser().ParseUnverified(user.token, &claims)
	require.NoError(t, err)
	claims["iat"], claims["exp"] = time.Now().Add(-2*time.Hour).Unix(), time.Now().Add(-time.Hour).Unix()
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims)
	token.Header["kid"] = parsed.Header["kid"]
	text, err := token.SignedString(signingKey(t, s))
	require.NoError(t, err)
	return text
}

// Each member of each body has values that some rule refuses, and so has each parameter.
func TestDescribed_ValuesThatARuleRefuses(t *testing.T) {
	t.Parallel()
	s := sharedCompleteStack(t)
	sam := s.newSampler(t, 2)
	changes := []string{`""`, `" "`, `"a\u202eb"`, `"nonsense"`, `"` + strings.Repeat("x", 3000) + `"`, "-1", "0", "1000000000", "true", "[]", `[""]`, `["nonsense"]`}
	other := s.signUp(t)
	sam.each(func(o *contract.Operation) bool { return o.ID != "receiveStripeEvent" }, func(o *contract.Operation) {
		sample := sam.sample(o)
		if o.ID == "changePassword" { // some values are valid, and end the user's session
			sample = other.authorized(sample)
		}
		var members map[string]json.RawMessage
		if text, ok := sample.Body.([]byte); ok && json.Unmarshal(text, &members) == nil {
			if o.ID != "refresh" { // its members may be absent
				r := sample
				r.Body = "{}"
				requireStatus(t, 400, s.call(t, r))
			}
			for name := range members {
				for _, change := range changes {
					if name == "cookieOnly" && change == "true" {
						continue // it is valid, and would end the user's session
					}
					r := sample
					changed := map[string]json.RawMessage{name: json.RawMessage(change)}
					for other, value := range members {
						if other != name {
							changed[other] = value
						}
					}
					r.Body = changed
					s.call(t, r) // the transport compares the response
				}
			}
		}
		if o.Takes("limit") {
			for _, value := range []string{"0", "201", "nonsense", "-1"} {
				requireStatus(t, 400, s.call(t, sample.WithQuery("limit", value)))
			}
		}
		if o.Takes("cursor") {
			requireStatus(t, 400, s.call(t, sample.WithQuery("cursor", "nonsense")))
			requireStatus(t, 400, s.call(t, sample.WithQuery("cursor", strings.Repeat("x", 257))))
		}
		if o.ID == "watchShows" {
			none, _, _ := strings.Cut(sample.Path, "?")
			requireProblem(t, 400, s.call(t, client.Request{Method: "GET", Path: none}), "required")
			requireProblem(t, 400, s.call(t, client.Request{Method: "GET", Path: sample.Path + strings.Repeat("&show="+unknownID, 20)}), "max")
			requireProblem(t, 400, s.call(t, client.Request{Method: "GET", Path: none + "?show=nonsense"}), "uuid")
		}
		if o.ID == "listTickets" {
			requireProblem(t, 400, s.call(t, client.ReadTickets().WithQuery("status", "sold")), "invalid")
		}
		if name, found := ownEntries[o.ID]; found {
			path, _, _ := strings.Cut(sample.Path, "?")
			requireProblem(t, 400, sam.user.call(t, client.Request{Method: "GET", Path: path}.WithQuery(name, "others")), "invalid")
		}
		if o.Takes("format") {
			requireProblem(t, 400, s.call(t, sample.WithQuery("format", "nonsense")), "invalid")
		}
		if o.ID == "listSales" {
			requireProblem(t, 400, s.call(t, sample.WithQuery("showId", "nonsense")), "uuid")
		}
		if o.Takes("If-Match") {
			requireProblem(t, 400, s.call(t, sample.With("If-Match", "nonsense")), "invalid")
		}
		if path, id, found := lastID(sample.Path); found && o.Describes(404, "not_found") {
			for _, unknown := range []string{unknownID, "nonsense"} {
				r := sample
				r.Path = strings.Replace(path, id, unknown, 1)
				if o.ID == "checkIn" && unknown == unknownID {
					requireProblem(t, 409, s.call(t, r), "wrong_show") // the pass is not for a show of that id
					continue
				}
				requireProblem(t, 404, s.call(t, r), "not_found")
			}
		}
	})
}

// lastID finds the id of something in a path.
func lastID(path string) (whole, id string, found bool) {
	for part := range strings.SplitSeq(path, "/") {
		if _, err := uuid.Parse(part); err == nil || strings.HasPrefix(part, "msg_") {
			id, found = part, true
		}
	}
	return path, id, found
}

func TestDescribed_DocumentsAreThereAndCached(t *testing.T) {
	t.Parallel()
	s := sharedCompleteStack(t)
	sam := s.newSampler(t, 3)
	sam.each(describing(304, ""), func(o *contract.Operation) {
		sample := sam.sample(o)
		if o.ID == "listTickets" {
			sample = client.ReadAvailable()
		}
		eventually(t, o.ID+" is not changed between two requests", func() bool { // other tests change the catalogue
			r := s.call(t, sample)
			require.Equal(t, 200, r.Status, "%s: %s", o.ID, r.Body)
			require.NotEmpty(t, r.Header.Get("ETag"), o.ID)
			return s.call(t, sample.With("If-None-Match", r.Header.Get("ETag"))).Status == 304
		})
		if path := sample.Path; o.Describes(404, "not_found") {
			requireProblem(t, 404, s.request(t, "GET", path[:strings.LastIndex(path, "/")]+"/999", nil), "not_found")
		}
	})
}

func TestDescribed_RevokedTokensAreRefusedByAllOperations(t *testing.T) {
	t.Parallel()
	s := sharedCompleteStack(t)
	sam := s.newSampler(t, 4)
	requireStatus(t, 200, sam.user.call(t, client.SignOutEverywhere()))
	sam.each(describing(401, "token_revoked"), func(o *contract.Operation) {
		eventually(t, o.ID+" refuses a revoked token", func() bool {
			r := s.call(t, client.Request{Method: o.Method, Path: sam.sample(o).Path, Header: sam.sample(o).Header, Body: sam.sample(o).Body})
			return r.Status == 401 && r.Code() == "token_revoked"
		})
	})
}

func TestDescribed_EachOperationHasARateLimit(t *testing.T) {
	t.Parallel()
	s := completeStack(t, map[string]string{"RATE_LIMIT": "2", "TRUSTED_PROXIES": "127.0.0.0/8"})
	sam := &sampler{stack: s, user: &testUser{stack: s}, values: map[string]any{"showId": unknownID, "show": unknownID, "imageId": unknownID, "ticketId": unknownID, "orderId": unknownID, "paymentId": unknownID, "webhookId": unknownID, "deliveryId": unknownID, "type": "order.created", "version": 1, "asset": "swagger-ui.css"}}
	sam.generator = contract.NewGenerator(validator().Document(), rand.New(rand.NewPCG(5, 0)), sam.value)
	number := 0
	sam.each(describing(429, "rate_limited"), func(o *contract.Operation) {
		number++
		address := fmt.Sprintf("198.51.100.%d", number)
		limited := false
		for range 20 {
			if r := s.call(t, from(address, sam.sample(o))); r.Status == 429 {
				requireProblem(t, 429, r, "rate_limited")
				limited = true
				break
			}
		}
		require.True(t, limited, o.ID)
	})
}

// wire sends a request as bytes that a test has changed, on a connection of its own.
type wire struct {
	change func(request []byte) []byte
}

func (w wire) RoundTrip(request *http.Request) (*http.Response, error) {
	var text bytes.Buffer
	if err := request.Write(&text); err != nil {
		return nil, err
	}
	conn, err := (&net.Dialer{}).DialContext(request.Context(), "tcp", request.URL.Host)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write(w.change(text.Bytes())); err != nil {
		return nil, err
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), request)
	if err != nil {
		return nil, err
	}
	var body bytes.Buffer
	_, err = body.ReadFrom(response.Body)
	response.Body = http.NoBody
	if body.Len() > 0 {
		response.Body = readCloser{&body}
	}
	return response, err
}

type readCloser struct{ *bytes.Buffer }

func (readCloser) Close() error { return nil }

func TestDescribed_RequestsThatAreNotHTTPOrDoNotArrive(t *testing.T) {
	t.Parallel()
	s := completeStack(t, map[string]string{"HEADER_TIMEOUT": "1s"})
	sam := s.newSampler(t, 6)
	for code, w := range map[string]wire{
		"bad_request": {func(request []byte) []byte {
			return bytes.Replace(request, []byte("\r\n"), []byte("\r\nnot a header\r\n"), 1)
		}},
		"timeout": {func(request []byte) []byte { return request[:bytes.Index(request, []byte("\r\n"))+2] }},
	} {
		status := map[string]int{"bad_request": 400, "timeout": 408}[code]
		api := client.New(s.GatewayURL(), client.Options{Transport: s.contractTransport(w)})
		var requests []client.Request
		var names []string
		sam.each(describing(status, code), func(o *contract.Operation) {
			requests, names = append(requests, sam.sample(o)), append(names, o.ID)
		})
		atOnce(len(requests), func(i int) {
			r, err := api.Do(contract.WithReporter(t.Context(), reportTo(t)), requests[i])
			if assert.NoError(t, err, names[i]) && assert.Equal(t, status, r.Status, "%s: %s", names[i], r.Body) {
				assert.Equal(t, code, r.Code(), names[i])
			}
		})
	}
}

// The password that confirms a change counts as a sign-in.
func TestDescribed_WrongPasswordsAreCountedByAllOperations(t *testing.T) {
	t.Parallel()
	s := sharedCompleteStack(t)
	user := s.signUp(t)
	eventually(t, "too many wrong passwords were sent", func() bool {
		return user.call(t, client.ChangePassword("a wrong guess", password)).Status == 429
	})
	requireProblem(t, 429, user.call(t, client.DeleteAccount("a wrong guess")), "too_many_attempts")
}

func TestDescribed_RefusalsOfWebhooks(t *testing.T) {
	t.Parallel()
	s := sharedCompleteStack(t)
	if !s.hasWebhooks() {
		stacktest.RequireNode(t)
	}
	user := s.signUp(t)
	create := client.CreateWebhook("https://receiver.example.com/events", "order.completed").WithKey(uuid.NewString())
	r := user.call(t, create)
	requireStatus(t, 201, r)
	endpoint := decode[client.Webhook](t, r)
	other := client.NewWebhook{URL: "https://10.0.0.1/events", Events: endpoint.Events}
	create.Body = other
	requireProblem(t, 400, user.call(t, create.WithKey(uuid.NewString())), "url_not_allowed")
	requireProblem(t, 400, user.call(t, client.ChangeWebhook(endpoint.ID, other)), "url_not_allowed")
	unprintable := client.NewWebhook{URL: endpoint.URL, Events: endpoint.Events, Description: "a\u0007bell"}
	requireProblem(t, 400, user.request(t, "POST", "/api/webhooks", unprintable), "printable")
	requireProblem(t, 400, user.call(t, client.ChangeWebhook(endpoint.ID, unprintable)), "printable")
	stale := client.NewWebhook{URL: endpoint.URL, Events: endpoint.Events, Version: endpoint.Version + 1}
	requireProblem(t, 409, user.call(t, client.ChangeWebhook(endpoint.ID, stale)), "stale_version")
	require.Len(t, onlyPage[client.Webhook](t, user.call(t, client.ReadWebhooks())), 1)
	create.Body = client.NewWebhook{URL: endpoint.URL, Events: []string{"ticket.created"}}
	requireProblem(t, 409, user.call(t, create), "idempotency_key_reused")

	for status, request := range map[int]client.Request{200: client.RotateSecret(endpoint.ID), 202: client.TestWebhook(endpoint.ID)} {
		requireProblem(t, 400, user.call(t, request.WithKey(strings.Repeat("k", 256))), "max")
		request = request.WithKey(uuid.NewString())
		first, again := user.call(t, request), user.call(t, request)
		requireStatus(t, status, first)
		requireStatus(t, status, again)
		require.Equal(t, "true", again.Header.Get("Idempotent-Replayed"))
		require.JSONEq(t, string(first.Body), string(again.Body))
		request.Body = map[string]any{}
		requireProblem(t, 409, user.call(t, request), "idempotency_key_reused")
	}
	r = user.call(t, client.TestWebhook(endpoint.ID))
	requireStatus(t, 202, r)
	requireStatus(t, 200, user.call(t, client.ChangeWebhook(endpoint.ID, client.NewWebhook{URL: endpoint.URL, Events: endpoint.Events, Status: "disabled"})))
	requireProblem(t, 409, user.call(t, client.Redeliver(endpoint.ID, decode[client.Delivery](t, r).ID)), "endpoint_disabled")
	requireProblem(t, 409, user.call(t, client.TestWebhook(endpoint.ID)), "endpoint_disabled")

	for range 4 {
		requireStatus(t, 201, user.call(t, client.CreateWebhook(endpoint.URL, "order.completed")))
	}
	requireProblem(t, 409, user.call(t, client.CreateWebhook(endpoint.URL, "order.completed")), "too_many_endpoints")
}

// Each event of a stream is compared with the document.
func TestDescribed_EventsOfALiveStream(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{Env: map[string]string{"STREAMS_PER_ADDRESS": "1"}})
	seller, buyer := s.signUp(t), s.signUp(t)
	requireProblem(t, 503, seller.call(t, client.ListPlace(client.Offer{Price: 1500, ShowID: uuid.Must(uuid.NewV7()).String()})), "not_yet_known")
	show := seller.announce(t, newShow(inDays(30)))
	s.waitLeft(t, show.ID, 0)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // a stream without the event that is awaited would not end
	defer cancel()
	stream, err := s.api.Stream(contract.WithReporter(ctx, reportTo(t)), client.FollowShows(show.ID).With("Last-Event-ID", "nonsense"))
	require.NoError(t, err)
	defer func() { _ = stream.Close() }()
	next := func(event, change string) (id string) {
		t.Helper()
		e, err := stream.Next()
		for err == nil && e.Type == "show" && event == "listing" { // that it is new
			e, err = stream.Next()
		}
		require.NoError(t, err)
		require.Equal(t, event, e.Type)
		if event == "listing" {
			listing, err := e.Listing()
			require.NoError(t, err)
			require.Equal(t, change, listing.Change)
			return listing.TicketID
		}
		return ""
	}
	next("ready", "")
	next("reset", "")
	requireProblem(t, 503, s.call(t, client.FollowShows(show.ID)), "too_many_streams")

	requireStatus(t, 201, eventuallyCall(t, seller, client.ListPlace(client.Offer{Price: 1500, ShowID: show.ID, Seat: &client.Place{Section: "Stalls", Row: "A", Number: "1"}})))
	ticket := next("listing", "new")
	requireStatus(t, 200, seller.call(t, client.EditTicket(ticket, client.Offer{Price: 1600})))
	next("listing", "changed")
	order := buyer.reserve(t, ticket)
	next("listing", "reserved")
	requireStatus(t, 204, buyer.call(t, client.CancelOrder(order.ID)))
	next("listing", "free")
	requireStatus(t, 204, seller.call(t, client.CancelShow(show.ID)))
	next("show", "cancelled")
}

// eventuallyCall sends a request until the services know what it is about.
func eventuallyCall(t *testing.T, user *testUser, r client.Request) (response client.Response) {
	t.Helper()
	eventually(t, "the services know what "+r.Path+" is about", func() bool {
		response = user.call(t, r)
		return response.Code() != "not_yet_known"
	})
	return response
}

// Each operation is called while its service, the service's sidecar, or auth is away.
func TestDescribed_OperationsWhileSomethingIsAway(t *testing.T) {
	t.Parallel()
	s := completeStack(t, map[string]string{"UPSTREAM_TIMEOUT": "20s", "STRIPE_TIMEOUT": "2s"})
	sam := s.newSampler(t, 7)
	const longWait = 2 * time.Minute // one request may take UPSTREAM_TIMEOUT
	sam.values["unpaidOrderId"] = sam.user.reserve(t, s.signUp(t).list(t, "Not paid", 1500).ID).ID
	behind := []string{"tickets", "orders", "payments", "catalogue", "auth"}
	if s.hasWebhooks() {
		behind = append(behind, "webhooks")
	}
	sidecars := make([]string, len(behind))
	for i, service := range behind {
		sidecars[i] = service + "-dapr"
	}
	// callAll calls all operations that describe an outcome, at once. It returns how many had it.
	callAll := func(code string) (had, of int) {
		var requests []client.Request
		sam.each(describing(503, code), func(o *contract.Operation) { requests = append(requests, sam.sample(o)) })
		codes := make([]string, len(requests))
		atOnce(len(requests), func(i int) { codes[i] = s.call(t, requests[i]).Code() })
		for _, one := range codes {
			if one == code {
				had++
			}
		}
		t.Logf("%d of %d operations answered %s; all: %v", had, len(requests), code, codes)
		return had, len(requests)
	}
	requireAll := func(code string) {
		t.Helper()
		eventuallyWithin(t, longWait, "all operations answer "+code, func() bool { had, of := callAll(code); return had == of })
	}
	requireSome := func(code string) {
		t.Helper()
		had, _ := callAll(code)
		require.NotZero(t, had, "no operation answers %s", code)
	}

	s.kill(t, behind...)
	requireAll("upstream_unavailable")
	s.start(t, behind...)
	s.waitReady(t, behind...)
	usable := func() bool {
		had := s.call(t, sam.user.authorized(client.ReadOrders())).Status + s.call(t, sam.user.authorized(client.ReadPaymentOf(fmt.Sprint(sam.values["orderId"])))).Status
		return had == 400 && s.call(t, sam.user.authorized(client.ListTicket("Listed again", 1500))).Status == 201
	}
	eventuallyWithin(t, longWait, "the services have auth's keys again", usable)

	// Their sidecars do not answer at all: a service ends its calls of them before the time of the request ends, and before the gateway does. A
	// change may have been made.
	for _, sidecar := range sidecars {
		require.NoError(t, s.Process(sidecar).Pause())
	}
	requireSome("unavailable")
	for _, sidecar := range sidecars {
		require.NoError(t, s.Process(sidecar).Resume())
	}
	s.waitReady(t, behind...)
	eventuallyWithin(t, longWait, "the services reach their sidecars again", usable)

	s.kill(t, sidecars...)
	requireSome("unavailable")
	s.start(t, sidecars...)
	s.waitReady(t, behind...)

	// Services that start without auth have no keys.
	s.kill(t, behind...)
	s.start(t, behind[:4]...)
	if s.hasWebhooks() {
		s.start(t, "webhooks")
	}
	requireAll("keys_unavailable")
	s.start(t, "auth")
	s.waitReady(t)
}

func TestDescribed_OperationsWhoseServiceDoesNotAnswer(t *testing.T) {
	t.Parallel()
	s := completeStack(t, map[string]string{"UPSTREAM_TIMEOUT": "5s"}) // also for what the test prepares
	sam := s.newSampler(t, 8)
	var frozen []string
	for _, service := range []string{"auth", "tickets", "orders", "payments", "catalogue", "webhooks"} {
		if s.Process(service) != nil {
			frozen = append(frozen, service)
			require.NoError(t, s.Process(service).Pause())
		}
	}
	var requests []client.Request
	sam.each(describing(503, "upstream_timeout"), func(o *contract.Operation) { requests = append(requests, sam.sample(o)) })
	atOnce(len(requests), func(i int) {
		r := s.call(t, requests[i])
		if assert.Equal(t, 503, r.Status, "%s", requests[i].Path) {
			assert.Equal(t, "upstream_timeout", r.Code(), "%s", requests[i].Path)
		}
	})
	for _, service := range frozen {
		require.NoError(t, s.Process(service).Resume())
	}
}
