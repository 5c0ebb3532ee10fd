package rest

import (
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"
)

// IsCurrent reports whether the client has the response already: one of the ETags in If-None-Match is the given one, or is "*". Proxies that
// compress mark ETags as weak.
func IsCurrent(c *fiber.Ctx, etag string) bool {
	for tag := range strings.SplitSeq(c.Get(fiber.HeaderIfNoneMatch), ",") {
		if tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/"); tag == etag || tag == "*" {
			return true
		}
	}
	return false
}

// AcceptsGzip reports whether Accept-Encoding names gzip, and does not refuse it with a weight of 0. Clients that send no such header, or
// only "*", often cannot decompress.
func AcceptsGzip(c *fiber.Ctx) bool {
	for coding := range strings.SplitSeq(c.Get(fiber.HeaderAcceptEncoding), ",") {
		name, parameters, _ := strings.Cut(coding, ";")
		if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
			continue
		}
		weight, found := strings.CutPrefix(strings.ReplaceAll(parameters, " ", ""), "q=")
		if !found {
			return true
		}
		q, err := strconv.ParseFloat(weight, 64)
		return err == nil && q > 0
	}
	return false
}
