package storefront

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// pagePaths has a path of each page, with what its HTML must have in English and in German.
var pagePaths = map[string][2]string{
	"/":                              {"What’s on", "Programm"},
	"/?q=nothing&city=Berlin":        {"Search", "Suchen"},
	"/shows/" + showID:               {"Reserve", "Reservieren"},
	"/orders":                        {"My tickets", "Meine Tickets"},
	"/orders/" + showID:              {"Your order", "Deine Bestellung"},
	"/orders/" + showID + "/pass":    {"Your pass", "Deine Eintrittskarte"},
	"/orders/" + showID + "/receipt": {"Receipt", "Beleg"},
	"/sell":                          {"Sell tickets", "Tickets verkaufen"},
	"/listings":                      {"My listings", "Meine Angebote"},
	"/signin":                        {"Sign in", "Anmelden"},
	"/signup":                        {"Create an account", "Konto erstellen"},
	"/account":                       {"Your account", "Dein Konto"},
	"/checkin":                       {"Check-in", "Einlass"},
	"/checkin/" + showID:             {"Check-in", "Einlass"},
	"/nowhere":                       {"There is nothing here", "Hier ist nichts"},
}

var (
	inlineScript = regexp.MustCompile(`(?s)<script[^>]*>.*?</script>`)
	inlineStyle  = regexp.MustCompile(`(?i)<style|\sstyle=|\son[a-z]+=|javascript:`)
	foreignURL   = regexp.MustCompile(`(?:src|href)="(?:https?:)?//`)
)

func TestPages_HaveNoInlineScriptsAndStylesAndAskNoOtherSite(t *testing.T) {
	for path, texts := range pagePaths {
		for i, language := range languages {
			t.Run(language+path, func(t *testing.T) {
				_, header, body := newSite(t).get(t, path, "Accept-Language", language)
				require.Contains(t, body, texts[i])
				require.Contains(t, body, `<html lang="`+language+`">`)
				require.Equal(t, "text/html; charset=utf-8", header["Content-Type"][0])
				require.NotRegexp(t, inlineStyle, body)
				for _, script := range inlineScript.FindAllString(body, -1) {
					require.Regexp(t, `^<script type="module" src="/assets/[\w.-]+"></script>$`, script)
				}
				own := strings.ReplaceAll(body, `<link rel="canonical" href="https://tickets.example.com/`, "")
				require.NotRegexp(t, foreignURL, own)
				require.Equal(t, 1, strings.Count(body, "<h1"), "a page has one heading of the first level")
				require.Equal(t, 1, strings.Count(body, "<main"))
			})
		}
	}
}

// What users write is text on each page, never HTML.
func TestPages_EscapeWhatUsersWrite(t *testing.T) {
	const evil = `<img src=x onerror=alert(1)>`
	asJSON := strings.NewReplacer(`Hamlet`, evil, "Schaubühne", evil, "Berlin", evil, "First.", evil, "Stalls", evil).Replace
	site := newSite(t)
	for path, body := range site.catalogue {
		site.catalogue[path] = asJSON(body)
	}
	for _, path := range []string{"/", "/?q=%3Cscript%3Ealert(1)%3C/script%3E", "/?city=%22%3E%3Cscript%3E", "/shows/" + showID, "/nowhere/%3Cscript%3E"} {
		_, _, body := site.get(t, path)
		require.NotContains(t, body, "<img src=x", path)
		require.NotContains(t, body, "<script>", path)
		if !strings.HasPrefix(path, "/nowhere") {
			require.Contains(t, body, "&lt;", path)
		}
	}
}

func TestPages_RequireThePolicyOfThePage(t *testing.T) {
	strict := policyOf("shows", "")
	require.Equal(t, "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; manifest-src 'self'; "+
		"base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'", strict.Content)
	require.Contains(t, strict.Permissions, "camera=()")
	require.Contains(t, policyOf("checkin", "").Permissions, "camera=(self)")

	withKey := policyOf("order", "pk_test_1")
	require.Contains(t, withKey.Content, "script-src 'self' https://js.stripe.com")
	require.Equal(t, strict.Content, policyOf("order", "").Content, "without a key the page asks no other site")
	for page := range pageNames() {
		if page != "order" {
			require.NotContains(t, policyOf(page, "pk_test_1").Content, "stripe", page)
		}
		require.NotContains(t, policyOf(page, "pk_test_1").Content, "unsafe", page)
	}
}

func pageNames() map[string]bool {
	names := map[string]bool{"shows": true, "show": true, "notfound": true, "failed": true}
	for _, name := range scriptPages {
		names[name] = true
	}
	return names
}

func TestPages_OfferTheStripeKeyToTheOrderAlone(t *testing.T) {
	site := newSite(t, func(o *Options) { o.StripeKey = "pk_test_1" })
	_, _, order := site.get(t, "/orders/"+showID)
	require.Contains(t, order, `data-stripe-key="pk_test_1"`)
	_, _, other := site.get(t, "/orders")
	require.NotContains(t, other, "pk_test_1")
}

func TestPages_AreCachedByTheirETag(t *testing.T) {
	site := newSite(t)
	status, header, body := site.get(t, "/")
	require.Equal(t, 200, status)
	require.Equal(t, "private, no-cache", header["Cache-Control"][0])
	require.Equal(t, "Accept-Language, Cookie, Accept-Encoding", header["Vary"][0])
	etag := header["Etag"][0]
	status, _, again := site.get(t, "/", "If-None-Match", etag)
	require.Equal(t, 304, status)
	require.Empty(t, again)

	_, header, zipped := site.get(t, "/", "Accept-Encoding", "gzip")
	require.Equal(t, "gzip", header["Content-Encoding"][0])
	require.Equal(t, body, unzipped(t, zipped))

	site.signedIn = true
	status, _, _ = site.get(t, "/", "If-None-Match", etag)
	require.Equal(t, 200, status, "the page of somebody who is signed in is another one")
}

func unzipped(t *testing.T, zipped string) string {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader([]byte(zipped)))
	require.NoError(t, err)
	content, err := io.ReadAll(r)
	require.NoError(t, err)
	return string(content)
}

func TestPages_OfAnotherLanguageAreChosenByHeaderAndCookie(t *testing.T) {
	site := newSite(t)
	for _, tt := range []struct{ accept, cookie, language string }{
		{"", "", "en"}, {"de-AT,de;q=0.9,en;q=0.5", "", "de"}, {"fr,de;q=0.5", "", "de"}, {"fr", "", "en"}, {"de", "lang=en", "en"}, {"en", "lang=de", "de"}, {"de", "lang=xx", "de"},
	} {
		_, header, body := site.get(t, "/", "Accept-Language", tt.accept, "Cookie", tt.cookie)
		require.Contains(t, body, `<html lang="`+tt.language+`">`, tt)
		require.Equal(t, tt.language, header["Content-Language"][0])
	}
}

func TestLanguageLink_KeepsTheChoiceAndGoesBackToThePage(t *testing.T) {
	site := newSite(t)
	for path, target := range map[string]string{
		"/?lang=de": "/", "/?q=a&lang=de&city=Berlin": "/?city=Berlin&q=a", "/shows/" + showID + "?lang=de": "/shows/" + showID,
		"//evil.example.com/?lang=de": "/evil.example.com/", "/%5Cevil.example.com?lang=de": "/%5Cevil.example.com", `/\evil.example.com?lang=de`: "/evil.example.com", "/nowhere?lang=de": "/nowhere",
	} {
		status, header, _ := site.get(t, path)
		require.Equal(t, 303, status, path)
		require.Equal(t, target, header["Location"][0], path)
		require.Regexp(t, `^lang=de; max-age=\d+; path=/; HttpOnly; SameSite=Lax$`, header["Set-Cookie"][0])
	}
	status, header, _ := site.get(t, "/?lang=xx")
	require.Equal(t, 303, status)
	require.Empty(t, header["Set-Cookie"])
}

func TestPages_OfNoAddressAreNotFound(t *testing.T) {
	site := newSite(t)
	for _, path := range []string{"/nowhere", "/orders/7", "/shows/7", "/shows/01a21acd-7d21-7c08-9a55-000000000000", "/checkin/x", "/orders/" + showID + "/other"} {
		status, header, body := site.get(t, path)
		require.Equal(t, 404, status, path)
		require.Contains(t, body, "<main", path)
		require.Equal(t, "no-store", header["Cache-Control"][0])
	}
	for _, path := range []string{"/api/nothing", "/.well-known/nothing", "/assets/nothing.js"} {
		status, header, _ := site.get(t, path)
		require.Equal(t, 404, status, path)
		require.Equal(t, "application/problem+json", header["Content-Type"][0], path)
	}
	status, header, _ := site.get(t, "/nowhere", "Accept", "application/json")
	require.Equal(t, 404, status)
	require.Equal(t, "application/problem+json", header["Content-Type"][0], "programs get a problem")
}

func TestPages_AreUnavailableWithoutTheCatalogue(t *testing.T) {
	for _, path := range []string{"/", "/shows/" + showID} {
		site := newSite(t)
		site.err = errors.New("no connection")
		status, header, body := site.get(t, path)
		require.Equal(t, 503, status)
		require.Equal(t, "2", header["Retry-After"][0])
		require.Contains(t, body, "not available at the moment")
		require.NotContains(t, body, "no connection", "the cause is for the log")
	}
}

func TestPages_ThatFailAreStillPages(t *testing.T) {
	site := newSite(t)
	site.catalogue["/api/catalogue/shows"] = "no JSON"
	status, _, body := site.get(t, "/")
	require.Equal(t, 503, status)
	require.Contains(t, body, "<main")
}

func TestHeader_ShowsWhoIsSignedInWhereToGo(t *testing.T) {
	site := newSite(t)
	_, _, body := site.get(t, "/")
	require.Contains(t, body, `<li data-for="signed-in" hidden><a href="/orders"`)
	require.Contains(t, body, `<li class="account" data-for="signed-out"><a href="/signin"`)
	require.Contains(t, body, `<li data-for="signed-out"><a href="/signup">Sign up</a>`)
	site.signedIn = true
	_, _, body = site.get(t, "/")
	require.Contains(t, body, `<li data-for="signed-in"><a href="/orders"`)
	require.Contains(t, body, `<li class="account" data-for="signed-out" hidden><a href="/signin"`)
}

func TestFiles_AreServedUnderTheirNames(t *testing.T) {
	site := newSite(t)
	for path, contentType := range map[string]string{
		"/favicon.svg": "image/svg+xml", "/robots.txt": "text/plain; charset=utf-8", "/site.webmanifest": "application/manifest+json", "/licences.txt": "text/plain; charset=utf-8",
	} {
		status, header, body := site.get(t, path)
		require.Equal(t, 200, status, path)
		require.Equal(t, contentType, header["Content-Type"][0])
		require.NotEmpty(t, body)
		status, _, _ = site.get(t, path, "If-None-Match", header["Etag"][0])
		require.Equal(t, 304, status, path)
	}
	_, _, licences := site.get(t, "/licences.txt")
	for _, name := range []string{"preact", "openapi-fetch", "MIT License"} {
		require.Contains(t, licences, name)
	}
}
