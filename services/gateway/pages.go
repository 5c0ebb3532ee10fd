package main

import (
	"errors"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
	"go.opentelemetry.io/otel/propagation"

	"boxoffice/services/internal/rest"
	"boxoffice/services/storefront"
)

// longestRead bounds what the storefront reads for one page.
const longestRead = 8 << 20

var errLongRead = errors.New("the response is longer than a page needs")

// read sends a GET request for a path with query to the service, for the storefront. It is a request of its own with the client's address, trace and
// request id, and none of its cookies.
func (u *upstream) read(c *fiber.Ctx, path string) (storefront.Response, error) {
	req, res := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(res)
	req.SetRequestURI("http://" + u.name + path)
	req.Header.Set(fiber.HeaderXRequestID, rest.RequestID(c))
	req.Header.Set(fiber.HeaderXForwardedFor, rest.Client(c).String())
	propagation.TraceContext{}.Inject(rest.Context(c), carrier{&req.Header})
	req.SetTimeout(u.timeout)
	if err := u.send(req, res); err != nil {
		return storefront.Response{}, u.unavailable(fiber.MethodGet, err)
	}
	if len(res.Body()) > longestRead {
		return storefront.Response{}, errLongRead
	}
	return storefront.Response{
		Status: res.StatusCode(), Body: append([]byte(nil), res.Body()...), Link: string(res.Header.Peek(fiber.HeaderLink)),
	}, nil
}
