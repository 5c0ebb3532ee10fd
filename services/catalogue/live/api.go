package live

import (
	"net"
	"slices"

	"github.com/gofiber/fiber/v2"

	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/rest"
)

// maxShows is how many shows one stream may follow.
const maxShows = 20

// maxAfter is how many positions a client may name: one for each show and one more list.
const maxAfter = maxShows + 1

// Register adds GET /api/catalogue/live.
func (h *Hub) Register(app *fiber.App) {
	app.Get("/api/catalogue/live", h.live)
}

func (h *Hub) live(c *fiber.Ctx) error {
	shows, err := showsOf(c)
	if err != nil {
		return err
	}
	if c.Method() == fiber.MethodHead {
		setHeaders(c)
		return nil
	}
	after, err := afterOf(c)
	if err != nil {
		return err
	}
	s, err := h.open(shows, after)
	if err != nil {
		return err
	}
	setHeaders(c)
	rest.Stream(c, func(conn net.Conn) { s.serve(conn) })
	return nil
}

func setHeaders(c *fiber.Ctx) {
	c.Set(fiber.HeaderContentType, "text/event-stream")
	c.Set(fiber.HeaderCacheControl, "no-store")
	c.Set("X-Accel-Buffering", "no") // nginx must pass each event on at once
}

// afterOf reads where a client continues: after the last event that it has got or, without one, after each of the pages that it has read.
// A browser that connects again sends the same query with a Last-Event-ID, so that counts more.
func afterOf(c *fiber.Ctx) ([]string, error) {
	if lastEventID := c.Get("Last-Event-ID"); lastEventID != "" {
		return []string{lastEventID}, nil
	}
	texts := c.Context().QueryArgs().PeekMulti("after")
	if len(texts) > maxAfter {
		return nil, problem.New(problem.Invalid, "max", "Name at most %d positions.", maxAfter).WithField("after")
	}
	after := make([]string, len(texts))
	for i, text := range texts {
		after[i] = string(text)
	}
	return after, nil
}

// showsOf reads the shows that a client wants to follow.
func showsOf(c *fiber.Ctx) ([]id.Show, error) {
	texts := c.Context().QueryArgs().PeekMulti("show")
	switch {
	case len(texts) == 0:
		return nil, problem.New(problem.Invalid, "required", "Name the shows to follow: ?show=ID&show=ID.").WithField("show")
	case len(texts) > maxShows:
		return nil, problem.New(problem.Invalid, "max", "A stream follows at most %d shows.", maxShows).WithField("show")
	}
	shows := make([]id.Show, 0, len(texts))
	for _, text := range texts {
		show, err := id.Parse[id.Show](string(text))
		if err != nil {
			return nil, problem.New(problem.Invalid, "uuid", "show must be the id of a show.").WithField("show")
		}
		if !slices.Contains(shows, show) {
			shows = append(shows, show)
		}
	}
	return shows, nil
}
