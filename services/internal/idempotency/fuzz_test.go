package idempotency

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"boxoffice/services/internal/id"
	"boxoffice/services/internal/rest"
)

// Whatever is sent as a key names one document of the user's own, or is refused; it never is part of a name, and no
// key of one user or route is that of another.
func FuzzOf(f *testing.F) {
	f.Add("2f1c4b9e", []byte(`{"ticketId":"x"}`))
	f.Add("", []byte(nil))
	f.Add("/../other", []byte{0xff})
	f.Add(strings.Repeat("k", maxKeyLength), []byte(`{}`))
	f.Add(strings.Repeat("k", maxKeyLength+1), []byte(`{}`))
	f.Add("a\nb\x00", []byte(`{}`))
	app := rest.New(rest.Options{Name: "test", Log: slog.New(slog.DiscardHandler)})
	var request Request
	app.Post("/:route", func(c *fiber.Ctx) (err error) {
		request, err = Of(c, id.User(c.Get("User")))
		return err
	})
	handle := app.Handler()
	f.Fuzz(func(t *testing.T, key string, body []byte) {
		of := func(user, path string, body []byte) Request {
			var ctx fasthttp.RequestCtx
			ctx.Request.Header.SetMethod("POST")
			ctx.Request.SetRequestURI(path)
			ctx.Request.Header.Set(Header, key)
			ctx.Request.Header.Set("User", user)
			ctx.Request.SetBodyRaw(body)
			request = Request{}
			handle(&ctx)
			require.Contains(t, []int{200, 400}, ctx.Response.StatusCode())
			require.Equal(t, len(key) > maxKeyLength, ctx.Response.StatusCode() == 400)
			return request
		}
		one := of("ada", "/orders", body)
		require.Equal(t, one, of("ada", "/orders", body), "the same request is the same")
		if key == "" || len(key) > maxKeyLength {
			require.Zero(t, one)
			return
		}
		require.Regexp(t, `^idempotency/ada/[0-9a-f]{64}$`, one.document)
		other := of("ada", "/orders", append([]byte("x"), body...))
		require.Equal(t, one.document, other.document)
		require.NotEqual(t, one.fingerprint, other.fingerprint, "another body has another fingerprint")
		require.NotEqual(t, one.document, of("bob", "/orders", body).document)
		require.NotEqual(t, one.document, of("ada", "/payments", body).document)
	})
}
