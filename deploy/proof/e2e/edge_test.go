package e2e

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// services are the apps of the run file that have a public port.
func services() []string {
	return []string{"gateway", "auth", "tickets", "orders", "payments", "expiration", "dead-letters"}
}

func TestEdge_WhatIsNotThereIs404(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	somebody := h.signUp(t)

	for _, path := range []string{
		"/", "/api", "/api/", "/api/nothing", "/api/users", "/api/users/nothing", "/api/users/signup/more", "/API/tickets",
		"/api/tickets/" + unknownID + "/more", "/api/orders/" + unknownID + "/more", "/api/payments/" + unknownID + "/more",
		"/api/expiration", "/.well-known", "/.well-known/openid-configuration", "/favicon.ico", "/debug/pprof/", "/v1.0/metadata",
		"/api/tickets/../../metrics/..", "//api/tickets", "/api//tickets",
	} {
		refused(t, 404, somebody.do(t, "GET", path, nil))
		if !strings.HasPrefix(path, "/api/orders/") { // under which strangers are told nothing at all
			refused(t, 404, h.do(t, "GET", path, nil))
		}
	}
	refused(t, 404, h.do(t, "POST", "/api/nothing", `{}`))
}

func TestEdge_WrongMethodsAre405(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	somebody := h.signUp(t)

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
		"/api/payments":              "POST",
		"/api/payments/" + unknownID: "GET",
		"/healthz":                   "GET",
		"/readyz":                    "GET",
	} {
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
			if strings.Contains(allowed, method) {
				continue
			}
			r := somebody.do(t, method, path, `{}`)
			require.Equal(t, 405, r.status, "%s %s: %s", method, path, r.body)
			f := refused(t, 405, r, "method_not_allowed")
			require.Contains(t, f.Detail, method)
			for _, allow := range strings.Fields(allowed) {
				require.Contains(t, r.header.Get("Allow"), allow, "%s %s", method, path)
			}
		}
	}
	r, err := h.send("BREW", "/api/tickets", nil)
	require.NoError(t, err)
	require.GreaterOrEqual(t, r.status, 400)
	require.Less(t, r.status, 500)
	refused(t, r.status, r)
}

func TestEdge_BodiesThatAreNotJSONAreRefusedByAll(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	somebody := h.signUp(t)
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
				f := refused(t, 415, somebody.do(t, "POST", path, body, "Content-Type", kind), "unsupported_media_type")
				require.Equal(t, "Content-Type", f.Errors[0].Field, kind)
			}
			refused(t, 415, somebody.do(t, "POST", path, body, "Content-Encoding", "gzip"), "unsupported_encoding")
			for _, raw := range []string{"", "  ", "{", `{"a":}`, "nonsense", `'{}'`, body + body, "\xef\xbb\xbf" + body} {
				refused(t, 400, somebody.do(t, "POST", path, raw), "not_json")
			}
			for _, raw := range []string{"[]", "null", "7", `"text"`, "true", "[" + body + "]"} {
				refused(t, 400, somebody.do(t, "POST", path, raw), "wrong_type")
			}
			// As deep as a parser may be tempted to follow.
			refused(t, 400, somebody.do(t, "POST", path, `{"x":`+strings.Repeat("[", 20_000)+strings.Repeat("]", 20_000)+`}`))
		})
	}
	for _, kind := range []string{"application/json", "application/json; charset=utf-8", "APPLICATION/JSON;charset=UTF-8", "application/vnd.boxoffice+json"} {
		r := somebody.do(t, "POST", "/api/tickets", `{"title":"Concert","price":100}`, "Content-Type", kind)
		require.Equal(t, 201, r.status, "%s: %s", kind, r.body)
	}
}

func TestEdge_BodiesAndHeadersHaveLimits(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	somebody := h.signUp(t)
	const limit = 64 << 10
	padded := func(length int) string {
		body := `{"title":"Concert","price":100,"padding":"`
		return body + strings.Repeat("x", length-len(body)-2) + `"}`
	}

	require.Equal(t, 201, somebody.do(t, "POST", "/api/tickets", padded(limit)).status)
	for name, length := range map[string]int{"one too many": limit + 1, "far too many": 4 << 20} {
		r := somebody.do(t, "POST", "/api/tickets", padded(length))
		require.Equal(t, 413, r.status, "%s: %s", name, r.body)
		refused(t, 413, r, "too_large")
	}
	refused(t, 413, h.do(t, "POST", "/api/users/signup", padded(limit+1)), "too_large")
	refused(t, 413, h.do(t, "POST", h.URL("tickets")+"/api/tickets", padded(limit+1)), "too_large")

	t.Run("of unknown length", func(t *testing.T) {
		for status, length := range map[int]int{201: 1000, 413: limit + 1} {
			req, err := http.NewRequest("POST", h.GatewayURL()+"/api/tickets", io.MultiReader(bytes.NewReader([]byte(padded(length)))))
			require.NoError(t, err)
			req.Header.Set("Authorization", "Bearer "+somebody.token)
			req.Header.Set("Content-Type", "application/json")
			res, err := h.client.Do(req)
			require.NoError(t, err)
			require.NoError(t, res.Body.Close())
			require.Equal(t, status, res.StatusCode)
		}
	})
	t.Run("headers", func(t *testing.T) {
		r := somebody.do(t, "GET", "/api/tickets", nil, "X-Padding", strings.Repeat("x", 32<<10))
		refused(t, 431, r, "headers_too_large")
	})
}

func TestEdge_AnswersTellBrowsersToMakeNothingOfThem(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	somebody := h.signUp(t)

	for name, r := range map[string]reply{
		"a success": h.do(t, "GET", "/api/tickets", nil),
		"a change":  somebody.do(t, "POST", "/api/tickets", offer{Title: "Concert", Price: 100}),
		"a refusal": h.do(t, "GET", "/api/orders", nil),
		"nothing":   h.do(t, "GET", "/nothing", nil),
		"too much":  h.do(t, "POST", "/api/users/signup", strings.Repeat("x", 1<<20)),
	} {
		if name != "too much" { // what is refused while it is read never reaches a route
			require.Equal(t, "no-store", r.header.Get("Cache-Control"), name)
			require.Equal(t, "DENY", r.header.Get("X-Frame-Options"), name)
			require.Equal(t, "no-referrer", r.header.Get("Referrer-Policy"), name)
			require.Contains(t, r.header.Get("Content-Security-Policy"), "default-src 'none'", name)
			require.Equal(t, "nosniff", r.header.Get("X-Content-Type-Options"), name)
		}
		require.Empty(t, r.header.Get("Server"), name)
		require.Empty(t, r.header.Get("Access-Control-Allow-Origin"), name)
	}
}

func TestEdge_RequestIDGoesThroughAndBack(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)

	r := h.do(t, "GET", "/api/tickets", nil, "X-Request-Id", "my-request:1")
	require.Equal(t, "my-request:1", r.header.Get("X-Request-Id"))
	r = h.do(t, "GET", "/api/orders", nil, "X-Request-Id", "my-request:2")
	require.Equal(t, "my-request:2", refused(t, 401, r).RequestID, "given by the service, not by the gateway")

	seen := map[string]bool{}
	for _, sent := range []string{"", "two words", "<script>", strings.Repeat("x", 129), "ü"} {
		r := h.do(t, "GET", "/api/tickets", nil, "X-Request-Id", sent)
		made := r.header.Get("X-Request-Id")
		require.Regexp(t, "^[0-9a-f-]{36}$", made, "%q is replaced", sent)
		require.False(t, seen[made])
		seen[made] = true
	}
	for _, name := range []string{"gateway", "tickets"} {
		eventually(t, "the request is in the log of "+name, func() bool {
			return strings.Contains(strings.Join(h.Process(name).Log(), "\n"), "requestId=my-request:1")
		})
	}
}

func TestEdge_HealthReadinessAndMetricsOfAll(t *testing.T) {
	t.Parallel()
	h := sharedHouse(t)
	h.do(t, "GET", "/api/tickets", nil)
	type readiness struct {
		Status string            `json:"status"`
		Checks map[string]string `json:"checks"`
	}
	for _, name := range services() {
		r := h.do(t, "GET", h.URL(name)+"/healthz", nil)
		require.Equal(t, 200, r.status, name)
		require.JSONEq(t, `{"status":"ok"}`, string(r.body), name)

		r = h.do(t, "GET", h.URL(name)+"/readyz", nil)
		require.Equal(t, 200, r.status, "%s: %s", name, r.body)
		ready := as[readiness](t, r)
		require.Equal(t, "ready", ready.Status, name)
		require.Equal(t, "ok", ready.Checks["sidecar"], name)
		switch name {
		case "gateway":
			for _, behind := range []string{"auth", "tickets", "orders", "payments", "expiration"} {
				require.Equal(t, "ok", ready.Checks[behind], behind)
			}
			require.Len(t, ready.Checks, 6, "the sidecar, and no store")
		default:
			require.Equal(t, "ok", ready.Checks["store"], name)
		}

		refused(t, 404, h.do(t, "GET", h.URL(name)+"/metrics", nil))
		require.Equal(t, 404, h.do(t, "GET", strings.TrimSuffix(h.AppMetrics(name), "/metrics")+"/readyz", nil).status, "nothing but metrics there")
		r = h.do(t, "GET", h.AppMetrics(name), nil)
		require.Equal(t, 200, r.status, name)
		require.Contains(t, string(r.body), "\ngo_goroutines ", name)
		require.Contains(t, string(r.body), "boxoffice_http_request_duration_seconds_count{", name)
	}
	r := h.do(t, "GET", h.AppMetrics("tickets"), nil)
	require.Contains(t, string(r.body), `boxoffice_http_request_duration_seconds_count{method="GET",route="/api/tickets/",status="200"}`)
}
