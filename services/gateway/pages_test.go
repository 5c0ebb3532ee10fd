package main

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

const html = "text/html,application/xhtml+xml"

func TestPages_AreMadeOfTheCatalogueAndHaveTheirPolicy(t *testing.T) {
	var mu sync.Mutex
	var seen []*http.Request
	service := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen = append(seen, r)
		mu.Unlock()
		fmt.Fprint(w, `{"shows":[],"total":0,"facets":{}}`)
	})
	address := gateway(t, service)
	res := do(t, "GET", address+"/?q=a", "", "Accept", html, "Cookie", "jwt=secret", "X-Request-Id", "request-1", "Authorization", "Bearer secret")
	require.Equal(t, 200, res.status)
	require.Contains(t, res.body, "<main")
	require.Len(t, seen, 1)
	require.Equal(t, "/api/catalogue/shows?limit=24&q=a", seen[0].URL.String())
	require.Equal(t, "request-1", seen[0].Header.Get("X-Request-Id"))
	require.Equal(t, "127.0.0.1", seen[0].Header.Get("X-Forwarded-For"))
	require.NotEmpty(t, seen[0].Header.Get("Traceparent"))
	require.Empty(t, seen[0].Header.Get("Cookie"), "the catalogue needs to know nobody")
	require.Empty(t, seen[0].Header.Get("Authorization"))

	require.Contains(t, res.header.Get("Content-Security-Policy"), "default-src 'none'; script-src 'self';")
	require.Contains(t, res.header.Get("Content-Security-Policy"), "trusted-types 'none'")
	require.Contains(t, res.header.Get("Permissions-Policy"), "camera=()")
	require.Equal(t, "same-origin", res.header.Get("Cross-Origin-Opener-Policy"))
	require.Equal(t, "nosniff", res.header.Get("X-Content-Type-Options"))
	require.Equal(t, "DENY", res.header.Get("X-Frame-Options"))
	require.NotEmpty(t, res.header.Get("X-Request-Id"))

	answer := do(t, "GET", address+"/api/orders", "")
	require.Equal(t, "default-src 'none'; frame-ancestors 'none'", answer.header.Get("Content-Security-Policy"), "answers of the API are no pages")
	require.Empty(t, answer.header.Get("Permissions-Policy"))
}

func TestPages_ShowWhetherSomebodyIsSignedIn(t *testing.T) {
	address := gateway(t, unreachable(t))
	signedIn := do(t, "GET", address+"/signin", "", "Accept", html, "Authorization", "Bearer of-ada")
	require.Contains(t, signedIn.body, `data-signed-in="true"`)
	nobody := do(t, "GET", address+"/signin", "", "Accept", html, "Authorization", "Bearer forged")
	require.Contains(t, nobody.body, `data-signed-in="false"`)
}

func TestPages_GoToAReplicaThatAnswers(t *testing.T) {
	service := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"shows":[],"total":0,"facets":{}}`) })
	address := gateway(t, unreachable(t)+","+service)
	for range 4 {
		require.Equal(t, 200, do(t, "GET", address+"/", "", "Accept", html).status)
	}
}

func TestPages_WithoutTheCatalogueAre503(t *testing.T) {
	res := do(t, "GET", gateway(t, unreachable(t))+"/", "", "Accept", html)
	require.Equal(t, 503, res.status)
	require.Equal(t, "text/html; charset=utf-8", res.header.Get("Content-Type"))
}

func TestPages_CanBeTurnedOff(t *testing.T) {
	address := gateway(t, unreachable(t), func(c *config) { c.Storefront = "off" })
	for _, path := range []string{"/", "/signin", "/favicon.svg"} {
		res := do(t, "GET", address+path, "", "Accept", html)
		require.Equal(t, 404, res.status)
		require.Equal(t, "not_found", res.code(t))
	}
}
