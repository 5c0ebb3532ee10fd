package rest

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http/httptest"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"
)

func TestFile_IsServedInTheFormThatTheClientTakes(t *testing.T) {
	content := bytes.Repeat([]byte("a long text "), 100)
	app := fiber.New()
	app.Get("/plain", NewFile("text/plain", "public, max-age=60", content).Serve)
	app.Get("/zipped", NewZippedFile("text/plain", "public, max-age=60", zip(content)).Serve)
	for _, path := range []string{"/plain", "/zipped"} {
		for _, encoding := range []string{"", "gzip"} {
			request := httptest.NewRequest("GET", path, nil)
			request.Header.Set("Accept-Encoding", encoding)
			response, err := app.Test(request)
			require.NoError(t, err)
			require.Equal(t, encoding, response.Header.Get("Content-Encoding"))
			require.Equal(t, []string{"text/plain", "public, max-age=60", "Accept-Encoding"},
				[]string{response.Header.Get("Content-Type"), response.Header.Get("Cache-Control"), response.Header.Get("Vary")})
			body := io.Reader(response.Body)
			if encoding == "gzip" {
				body, err = gzip.NewReader(body)
				require.NoError(t, err)
			}
			got, err := io.ReadAll(body)
			require.NoError(t, err)
			require.Equal(t, content, got)

			request.Header.Set("If-None-Match", response.Header.Get("ETag"))
			again, err := app.Test(request)
			require.NoError(t, err)
			require.Equal(t, fiber.StatusNotModified, again.StatusCode, "%s, %q", path, encoding)
		}
	}
	require.NotEqual(t, ETagOf(content), ETagOf(content[1:]))
}
