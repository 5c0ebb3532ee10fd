package main

import (
	"net/http"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOrigins_RefuseChangesThatOtherSitesAskFor(t *testing.T) {
	service := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("done")) })
	address := gateway(t, service, func(c *config) { c.PublicURL = "https://tickets.example.com" })
	host := address[len("http://"):]
	type headers = []string
	for _, tt := range []struct {
		name         string
		method, path string
		headers      headers
		refused      bool
	}{
		{"no browser", "POST", "/api/orders", nil, false},
		{"a page of this site", "POST", "/api/orders", headers{"Sec-Fetch-Site", "same-origin", "Origin", address}, false},
		{"the address bar", "POST", "/api/orders", headers{"Sec-Fetch-Site", "none"}, false},
		{"another site", "POST", "/api/orders", headers{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, true},
		{"another site of the same domain", "POST", "/api/orders", headers{"Sec-Fetch-Site", "same-site", "Origin", "https://www.example.com"}, true},
		{"another site that lies about its origin", "POST", "/api/orders", headers{"Sec-Fetch-Site", "cross-site", "Origin", address}, true},
		{"PUT", "PUT", "/api/tickets/7", headers{"Sec-Fetch-Site", "cross-site"}, true},
		{"DELETE", "DELETE", "/api/tickets/7", headers{"Sec-Fetch-Site", "cross-site"}, true},
		{"PATCH", "PATCH", "/api/tickets/7", headers{"Origin", "https://evil.example"}, true},
		{"an old browser, this site", "POST", "/api/orders", headers{"Origin", address}, false},
		{"an old browser, the public address", "POST", "/api/orders", headers{"Origin", "https://tickets.example.com"}, false},
		{"an old browser, another site", "POST", "/api/orders", headers{"Origin", "https://evil.example"}, true},
		{"an old browser, this host with another port", "POST", "/api/orders", headers{"Origin", "http://" + host + "1"}, true},
		{"a page without an origin", "POST", "/api/orders", headers{"Origin", "null"}, true},
		{"no URL", "POST", "/api/orders", headers{"Origin", "://"}, true},
		{"a forwarded host of a client that is no proxy", "POST", "/api/orders", headers{"Origin", "https://evil.example", "X-Forwarded-Host", "evil.example"}, true},
		{"reading", "GET", "/api/orders", headers{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, false},
		{"Stripe's webhook", "POST", "/api/payments/webhook", headers{"Sec-Fetch-Site", "cross-site"}, false},
		{"another path of payments", "POST", "/api/payments/webhook/x", headers{"Sec-Fetch-Site", "cross-site"}, true},
		{"a path that does not exist", "POST", "/api/nothing", headers{"Sec-Fetch-Site", "cross-site"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res := do(t, tt.method, address+tt.path, "", tt.headers...)
			if !tt.refused {
				require.Equal(t, 200, res.status, res.body)
				return
			}
			require.Equal(t, 403, res.status)
			require.Equal(t, "cross_origin", res.code(t))
		})
	}
}

func TestOrigins_OfATrustedProxyAreComparedWithTheHostThatItForwards(t *testing.T) {
	service := serve(t, func(w http.ResponseWriter, _ *http.Request) {})
	address := gateway(t, service, func(c *config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	forwarded := []string{"X-Forwarded-Host", "sale.example.com", "Origin"}
	require.Equal(t, 200, do(t, "POST", address+"/api/orders", "", append(forwarded, "https://sale.example.com")...).status)
	require.Equal(t, 403, do(t, "POST", address+"/api/orders", "", append(forwarded, address)...).status)
}
