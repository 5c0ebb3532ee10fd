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

// Paging reads which part of a list is wanted: at most limit entries, from cursor on ("" is the beginning). A
// limit above the highest allowed counts as that. The cursor is the list's own to read and to refuse.
func Paging(c *fiber.Ctx) (limit int, cursor string, err error) {
	limit = defaultLimit
	if raw := c.Query("limit"); raw != "" {
		if limit, err = strconv.Atoi(raw); err != nil || limit < 1 {
			return 0, "", problem.New(problem.Invalid, "Limit must be a whole number from 1 to %d.", maxLimit).
				WithField("limit").WithCode("invalid")
		}
	}
	cursor = c.Query("cursor")
	if len(cursor) > longestCursor {
		return 0, "", problem.New(problem.Invalid, "Cursor must be one that this list gave.").
			WithField("cursor").WithCode("invalid")
	}
	return min(limit, maxLimit), cursor, nil
}

// NextLink tells where the list goes on (RFC 8288), and nothing if cursor is "". The link is relative to the
// address that was asked, so it holds behind any proxy.
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
