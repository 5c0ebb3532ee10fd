package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"

	"boxoffice/services/contracts"
)

// getDocument requests a path of the gateway's own documents.
func getDocument(t *testing.T, path string, header ...string) (*http.Response, string) {
	t.Helper()
	app := fiber.New()
	app.Use(secure)
	newDocuments().register(app)
	request := httptest.NewRequest(http.MethodGet, path, nil)
	request.Header.Set("Accept-Encoding", "identity")
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := app.Test(request, -1)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response, string(body)
}

func TestSchemas_AreServedWhereEventsNameThem(t *testing.T) {
	for _, name := range contracts.Schemas() {
		response, body := getDocument(t, name.Path())
		require.Equal(t, 200, response.StatusCode, name.Path())
		require.Equal(t, "application/schema+json", response.Header.Get("Content-Type"))
		schema, _ := contracts.Schema(name)
		require.Equal(t, string(schema), body)
		require.NotEmpty(t, response.Header.Get("Cache-Control"))
		again, _ := getDocument(t, name.Path(), "If-None-Match", response.Header.Get("ETag"))
		require.Equal(t, 304, again.StatusCode)
	}
	for _, path := range []string{"/api/schemas/order.created/99", "/api/schemas/order.forgotten/1", "/api/schemas/order.created"} {
		response, _ := getDocument(t, path)
		require.Equal(t, 404, response.StatusCode, path)
	}
	response, body := getDocument(t, "/api/asyncapi.json")
	require.Equal(t, 200, response.StatusCode)
	require.JSONEq(t, string(contracts.AsyncAPI()), body)
}

func TestEventsPage_ShowsEveryTopicAndMember(t *testing.T) {
	response, body := getDocument(t, "/api/docs/events")
	require.Equal(t, 200, response.StatusCode)
	require.NotContains(t, response.Header.Get("Content-Security-Policy"), "unsafe")
	require.NotContains(t, body, "<script")
	require.NotContains(t, body, " style=")
	require.NotContains(t, body, "<style")
	require.NotContains(t, body, "**", "Markdown that was not read")
	for _, text := range []string{"events.orders", "dead.{service}", "dapr-api-token", "entryId", "What a subscriber owes", "sellerId", "ticket.price", "orders[].expiresAt", "republished"} {
		require.Contains(t, body, text)
	}
	ids := map[string]bool{}
	for _, match := range regexp.MustCompile(` id="([^"]+)"`).FindAllStringSubmatch(body, -1) {
		require.False(t, ids[match[1]], "two parts have the id %s", match[1])
		ids[match[1]] = true
	}
	for _, match := range regexp.MustCompile(` href="#([^"]+)"`).FindAllStringSubmatch(body, -1) {
		require.True(t, ids[match[1]], "a link to #%s", match[1])
	}
	for _, name := range contracts.Schemas() {
		require.Contains(t, body, `href="`+name.Path()+`"`)
	}
	styles, _ := getDocument(t, "/api/docs/events.css")
	require.Equal(t, 200, styles.StatusCode)
}

func TestDocuments_AreCompressedOnlyForThoseWhoAsk(t *testing.T) {
	plain, body := getDocument(t, "/api/openapi.json", "Accept-Encoding", "")
	require.Empty(t, plain.Header.Get("Content-Encoding"))
	require.JSONEq(t, string(contracts.OpenAPI()), body)
	zipped, body := getDocument(t, "/api/openapi.json", "Accept-Encoding", "br, gzip")
	require.Equal(t, "gzip", zipped.Header.Get("Content-Encoding"))
	require.Less(t, len(body), len(contracts.OpenAPI())/3)
	anything, _ := getDocument(t, "/api/openapi.json", "Accept-Encoding", "*")
	require.Empty(t, anything.Header.Get("Content-Encoding"))
	for _, response := range []*http.Response{plain, zipped} {
		require.Equal(t, "Accept-Encoding", response.Header.Get("Vary"))
	}
}
