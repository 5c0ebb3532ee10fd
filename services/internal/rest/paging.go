package rest

import (
	"errors"
	"net/url"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"

	"boxoffice/services/internal/problem"
)

const (
	defaultLimit  = 50
	maxLimit      = 200
	longestCursor = 256
)

// Paging parses which part of a list is requested: at most limit entries, from cursor on ("" is the beginning). The problem of a limit
// below 1 has the code "min", of one above maxLimit "max", and of one that is not a whole number "wrong_type". The list parses the
// cursor, and may refuse it.
func Paging(c *fiber.Ctx) (limit int, cursor string, err error) {
	return PagingUpTo(c, defaultLimit, maxLimit)
}

// PagingUpTo is Paging with another default and another highest limit.
func PagingUpTo(c *fiber.Ctx, byDefault, most int) (limit int, cursor string, err error) {
	limit = byDefault
	if c.Context().QueryArgs().Has("limit") {
		var code string
		if limit, code = parseLimit(c.Query("limit"), most); code != "" {
			return 0, "", problem.New(problem.Invalid, code, "Limit must be a whole number from 1 to %d.", most).WithField("limit")
		}
	}
	cursor = c.Query("cursor")
	if len(cursor) > longestCursor {
		return 0, "", problem.New(problem.Invalid, "invalid", "Cursor must be one that this list gave.").
			WithField("cursor")
	}
	return limit, cursor, nil
}

// parseLimit returns the code of what is wrong with a limit, or "".
func parseLimit(raw string, most int) (limit int, wrong string) {
	limit, err := strconv.Atoi(raw) // a number that is too great for an int becomes the greatest one
	switch {
	case err != nil && !errors.Is(err, strconv.ErrRange), strings.HasPrefix(raw, "+"):
		return 0, "wrong_type"
	case limit < 1:
		return 0, "min"
	case limit > most:
		return 0, "max"
	}
	return limit, ""
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

// SendPage responds with a part of a list: each item as responseOf makes it, and the link to the next part.
func SendPage[Item, Response any](c *fiber.Ctx, items []Item, next string, responseOf func(Item) Response) error {
	responses := make([]Response, len(items))
	for i, item := range items {
		responses[i] = responseOf(item)
	}
	NextLink(c, next)
	return c.JSON(responses)
}
