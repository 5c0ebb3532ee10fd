package rest

import (
	"net/url"
	"strconv"

	"github.com/gofiber/fiber/v2"

	"boxoffice/services/internal/problem"
)

const (
	defaultLimit  = 50
	maxLimit      = 200
	longestCursor = 256
)

// Paging parses which part of a list is requested: at most limit entries, from cursor on ("" is the beginning). A limit above
// maxLimit counts as maxLimit. The list parses the cursor, and may refuse it.
func Paging(c *fiber.Ctx) (limit int, cursor string, err error) {
	limit = defaultLimit
	if raw := c.Query("limit"); raw != "" {
		if limit, err = strconv.Atoi(raw); err != nil || limit < 1 {
			return 0, "", problem.New(problem.Invalid, "invalid", "Limit must be a whole number from 1 to %d.", maxLimit).
				WithField("limit")
		}
	}
	cursor = c.Query("cursor")
	if len(cursor) > longestCursor {
		return 0, "", problem.New(problem.Invalid, "invalid", "Cursor must be one that this list gave.").
			WithField("cursor")
	}
	return min(limit, maxLimit), cursor, nil
}

// NextLink sets the Link header to the next part of the list (RFC 8288), if cursor is not "". The link is relative to the requested
// path, so it is valid behind any proxy.
func NextLink(c *fiber.Ctx, cursor string) {
	if cursor == "" {
		return
	}
	query := url.Values{}
	for name, value := range c.Queries() {
		query.Set(name, value)
	}
	query.Set("cursor", cursor)
	c.Set(fiber.HeaderLink, "<"+c.Path()+"?"+query.Encode()+`>; rel="next"`)
}
