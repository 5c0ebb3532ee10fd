package e2e

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/proof/client"
	"boxoffice/deploy/proof/contract"
)

// services are the services of the run file.
func services() []string {
	return []string{"gateway", "auth", "tickets", "orders", "payments", "expiration", "dead-letters", "catalogue"}
}

func TestEdge_UnknownPathsAre404(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	user := s.signUp(t)

	for _, path := range []string{
		"/api", "/api/", "/api/nothing", "/api/users", "/api/users/nothing", "/api/users/signup/more", "/API/tickets",
		"/api/tickets/" + unknownID + "/more", "/api/orders/" + unknownID + "/more", "/api/payments/" + unknownID + "/more",
		"/api/expiration", "/.well-known", "/.well-known/openid-configuration", "/favicon.ico", "/debug/pprof/", "/v1.0/metadata",
		"/api/tickets/../../metrics/..", "//api/tickets", "/api//tickets",
	} {
		requireProblem(t, 404, user.request(t, "GET", path, nil))
		if !strings.HasPrefix(path, "/api/orders/") { // where all requests without a token are 401
			requireProblem(t, 404, s.request(t, "GET", path, nil))
		}
	}
	requireProblem(t, 404, s.request(t, "POST", "/api/nothing", `{}`))

	// Pages are for people: a browser gets HTML, also below no path of a page. What is for programs stays a problem.
	for path, status := range map[string]int{"/": 200, "/nothing": 404, "/events/": 404} {
		r := s.request(t, "GET", path, nil, "Accept", "text/html")
		requireStatus(t, status, r)
		require.Equal(t, "text/html; charset=utf-8", r.Header.Get("Content-Type"), path)
	}
	requireProblem(t, 404, s.request(t, "GET", "/api/nothing", nil, "Accept", "text/html"))
}

func TestEdge_WrongMethodsAre405(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	user := s.signUp(t)

	for path, allowed := range map[string]string{
		"/api/users/signup":          "POST",
		"/api/users/signin":          "POST",
		"/api/users/signout":         "POST",
		"/api/users/currentuser":     "GET DELETE",
		"/.well-known/jwks.json":     "GET",
		"/api/tickets":               "GET POST",
		"/api/tickets/" + unknownID:  "GET PUT DELETE",
		"/api/orders":                "GET POST",
		"/api/orders/" + unknownID:   "GET DELETE",
		"/api/payments":              "GET POST",
		"/api/payments/" + unknownID: "GET",
		"/healthz":                   "GET",
		"/readyz":                    "GET",
	} {
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
			if strings.Contains(allowed, method) {
				continue
			}
			r := user.request(t, method, path, `{}`)
			require.Equal(t, 405, r.Status, "%s %s: %s", method, path, r.Body)
			problem := requireProblem(t, 405, r, "method_not_allowed")
			require.Contains(t, problem.Detail, method)
			for _, allow := range strings.Fields(allowed) {
				require.Contains(t, r.Header.Get("Allow"), allow, "%s %s", method, path)
			}
		}
	}
	r, err := s.try(t.Context(), client.Request{Method: "BREW", Path: "/api/tickets"})
	require.NoError(t, err)
	require.GreaterOrEqual(t, r.Status, 400)
	require.Less(t, r.Status, 500)
	requireProblem(t, r.Status, r)
}

func TestEdge_BodiesThatAreNotJSONAreRefused(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	user := s.signUp(t)
	places := map[string][2]string{
		"sign up": {"/api/users/signup", `{"email":"a@example.com","password":"correct horse"}`},
		"sign in": {"/api/users/signin", `{"email":"a@example.com","password":"correct horse"}`},
		"tickets": {"/api/tickets", `{"title":"Concert","price":100}`},
		"orders":  {"/api/orders", `{"ticketId":"` + unknownID + `"}`},
		"pay":     {"/api/payments", `{"orderId":"` + unknownID + `","paymentMethod":"pm_card_visa"}`},
	}
	for name, place := range places {
		t.Run(name, func(t *testing.T) {
			path, body := place[0], place[1]
			for _, kind := range []string{"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/xml", "nonsense", "", "application/json; charset=latin1"} {
				problem := requireProblem(t, 415, user.request(t, "POST", path, body, "Content-Type", kind), "unsupported_media_type")
				require.Equal(t, "Content-Type", problem.Errors[0].Field, kind)
			}
			requireProblem(t, 415, user.request(t, "POST", path, body, "Content-Encoding", "gzip"), "unsupported_encoding")
			for _, raw := range []string{"", "  ", "{", `{"a":}`, "nonsense", `'{}'`, body + body, "\xef\xbb\xbf" + body} {
				requireProblem(t, 400, user.request(t, "POST", path, raw), "not_json")
			}
			for _, raw := range []string{"[]", "null", "7", `"text"`, "true", "[" + body + "]"} {
				requireProblem(t, 400, user.request(t, "POST", path, raw), "wrong_type")
			}
			requireProblem(t, 400, user.request(t, "POST", path, `{"x":`+strings.Repeat("[", 20_000)+strings.Repeat("]", 20_000)+`}`))
		})
	}
	for _, kind := range []string{"application/json", "application/json; charset=utf-8", "APPLICATION/JSON;charset=UTF-8", "application/vnd.boxoffice+json"} {
		r := user.request(t, "POST", "/api/tickets", `{"title":"Concert","price":100}`, "Content-Type", kind)
		require.Equal(t, 201, r.Status, "%s: %s", kind, r.Body)
	}
}

func TestEdge_BodiesAndHeadersHaveLimits(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	user := s.signUp(t)
	const limit = 64 << 10
	padded := func(length int) string {
		body := `{"title":"Concert","price":100,"padding":"`
		return body + strings.Repeat("x", length-len(body)-2) + `"}`
	}

	requireStatus(t, 201, user.request(t, "POST", "/api/tickets", padded(limit)))
	for name, length := range map[string]int{"one too many": limit + 1, "far too many": 4 << 20} {
		r := user.request(t, "POST", "/api/tickets", padded(length))
		require.Equal(t, 413, r.Status, "%s: %s", name, r.Body)
		requireProblem(t, 413, r, "too_large")
	}
	requireProblem(t, 413, s.request(t, "POST", "/api/users/signup", padded(limit+1)), "too_large")
	requireProblem(t, 413, s.request(t, "POST", s.URL("tickets")+"/api/tickets", padded(limit+1)), "too_large")

	t.Run("of unknown length", func(t *testing.T) {
		for status, length := range map[int]int{201: 1000, 413: limit + 1} {
			req, err := http.NewRequest("POST", s.GatewayURL()+"/api/tickets", io.MultiReader(bytes.NewReader([]byte(padded(length)))))
			require.NoError(t, err)
			req.Header.Set("Authorization", "Bearer "+user.token)
			req.Header.Set("Content-Type", "application/json")
			req.Close = true
			res, err := (&http.Client{Transport: s.transport}).Do(req.WithContext(contract.WithReporter(t.Context(), reportTo(t))))
			require.NoError(t, err)
			require.NoError(t, res.Body.Close())
			require.Equal(t, status, res.StatusCode)
		}
	})
	t.Run("headers", func(t *testing.T) {
		r := user.call(t, client.ReadTickets().With("X-Padding", strings.Repeat("x", 32<<10)))
		requireProblem(t, 431, r, "headers_too_large")
	})
}

func TestEdge_ResponsesHaveSecurityHeaders(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	user := s.signUp(t)

	for name, r := range map[string]client.Response{
		"success":          s.call(t, client.ReadTickets()),
		"change":           user.call(t, client.ListTicket("Concert", 100)),
		"refusal":          s.call(t, client.ReadOrders()),
		"unknown path":     s.request(t, "GET", "/nothing", nil),
		"too large a body": s.request(t, "POST", "/api/users/signup", strings.Repeat("x", 1<<20)),
	} {
		if name != "too large a body" { // it is refused before any handler runs
			require.Equal(t, "no-store", r.Header.Get("Cache-Control"), name)
			require.Equal(t, "DENY", r.Header.Get("X-Frame-Options"), name)
			require.Equal(t, "no-referrer", r.Header.Get("Referrer-Policy"), name)
			require.Contains(t, r.Header.Get("Content-Security-Policy"), "default-src 'none'", name)
			require.Equal(t, "nosniff", r.Header.Get("X-Content-Type-Options"), name)
		}
		require.Empty(t, r.Header.Get("Server"), name)
		require.Empty(t, r.Header.Get("Access-Control-Allow-Origin"), name)
	}
}

func TestEdge_RequestIDIsPassedOnAndReturned(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)

	r := s.call(t, client.ReadTickets().With("X-Request-Id", "my-request:1"))
	require.Equal(t, "my-request:1", r.Header.Get("X-Request-Id"))
	r = s.call(t, client.ReadOrders().With("X-Request-Id", "my-request:2"))
	require.Equal(t, "my-request:2", requireProblem(t, 401, r).RequestID, "the service writes the problem, not the gateway")

	seen := map[string]bool{}
	for _, sent := range []string{"", "two words", "<script>", strings.Repeat("x", 129), "ü"} {
		r := s.call(t, client.ReadTickets().With("X-Request-Id", sent))
		made := r.Header.Get("X-Request-Id")
		require.Regexp(t, "^[0-9a-f-]{36}$", made, "%q is replaced", sent)
		require.False(t, seen[made])
		seen[made] = true
	}
	for _, name := range []string{"gateway", "tickets"} {
		eventually(t, "the request is in the log of "+name, func() bool {
			return strings.Contains(strings.Join(s.Process(name).Log(), "\n"), "requestId=my-request:1")
		})
	}
}

// readiness is the response of /readyz. Status is "ready", or 503: then the response is a problem.
type readiness struct {
	Status any               `json:"status"`
	Checks map[string]string `json:"checks"`
}

func TestEdge_EveryServiceHasHealthReadinessAndMetrics(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	s.call(t, client.ReadTickets())
	for _, name := range services() {
		r := s.request(t, "GET", s.URL(name)+"/healthz", nil)
		require.Equal(t, 200, r.Status, name)
		require.JSONEq(t, `{"status":"ok"}`, string(r.Body), name)

		eventually(t, name+" is ready", func() bool { // on a busy machine a check may not end in time
			r = s.request(t, "GET", s.URL(name)+"/readyz", nil)
			return r.Status == 200
		})
		ready := decode[readiness](t, r)
		require.Equal(t, "ready", ready.Status, name)
		require.Equal(t, "ok", ready.Checks["sidecar"], name)
		switch name {
		case "gateway":
			for _, behind := range []string{"auth", "tickets", "orders", "payments", "expiration", "catalogue"} {
				require.Equal(t, "ok", ready.Checks[behind], behind)
			}
			require.Len(t, ready.Checks, 7, "it has a check of its sidecar, and none of a store")
		default:
			require.Equal(t, "ok", ready.Checks["store"], name)
		}

		requireProblem(t, 404, s.request(t, "GET", s.URL(name)+"/metrics", nil))
		require.Equal(t, 404, s.request(t, "GET", strings.TrimSuffix(s.AppMetrics(name), "/metrics")+"/readyz", nil).Status, "that port has only metrics")
		r = s.request(t, "GET", s.AppMetrics(name), nil)
		require.Equal(t, 200, r.Status, name)
		require.Contains(t, string(r.Body), "\ngo_goroutines ", name)
		require.Contains(t, string(r.Body), "boxoffice_http_request_duration_seconds_count{", name)
	}
	r := s.request(t, "GET", s.AppMetrics("tickets"), nil)
	require.Contains(t, string(r.Body), `boxoffice_http_request_duration_seconds_count{method="GET",route="/api/tickets/",status="200"}`)
}

// The gateway stores nothing, publishes nothing and subscribes to nothing.
func TestGateway_HasNeitherStoreNorBroker(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	r := s.request(t, "GET", s.SidecarHTTP("gateway")+"/v1.0/metadata", nil, "dapr-api-token", s.SidecarToken("gateway"))
	requireStatus(t, 200, r)
	for _, component := range decode[struct{ Components []struct{ Name string } }](t, r).Components {
		require.NotContains(t, []string{"state", "pubsub"}, component.Name)
	}
}
