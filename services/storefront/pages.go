package storefront

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/gofiber/fiber/v2"

	"boxoffice/services/internal/id"
	"boxoffice/services/internal/rest"
)

// scriptPages are the pages that a script fills, by path, with the page's name (src/pages/NAME.tsx). Their titles are the texts NAME.title.
var scriptPages = map[string]string{
	"/orders":             "orders",
	"/orders/:id":         "order",
	"/orders/:id/pass":    "pass",
	"/orders/:id/receipt": "receipt",
	"/sell":               "sell",
	"/listings":           "listings",
	"/signin":             "signin",
	"/signup":             "signup",
	"/account":            "account",
	"/checkin":            "checkin",
	"/checkin/:id":        "checkin",
}

func (s *Storefront) registerPages(app *fiber.App) {
	get := func(path string, handle fiber.Handler) {
		app.Get(path, chooseLanguage, func(c *fiber.Ctx) error { // fiber answers HEAD with it, too
			if err := handle(c); err != nil {
				return s.broken(c, err)
			}
			return nil
		})
	}
	get("/", s.shows)
	get("/shows/:id", s.show)
	for path, name := range scriptPages {
		get(path, func(c *fiber.Ctx) error { return s.scriptPage(c, name) })
	}
	// Every other path. It is no route: else another method than GET would be 405 on any path, also below /api.
	app.Use(func(c *fiber.Ctx) error {
		isRead := c.Method() == fiber.MethodGet || c.Method() == fiber.MethodHead
		switch {
		case !isRead || !acceptsHTML(c) || isForPrograms(c.Path()):
			return c.Next()
		case c.Query("lang") != "":
			return chooseLanguage(c)
		}
		if err := s.notFound(c, "notfound.title"); err != nil {
			return s.broken(c, err)
		}
		return nil
	})
}

// isForPrograms reports whether a path belongs to the REST API, whose errors are never pages.
func isForPrograms(path string) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return first == "api" || first == ".well-known"
}

// acceptsHTML reports whether the client is a browser that opens a page.
func acceptsHTML(c *fiber.Ctx) bool {
	return strings.Contains(c.Get(fiber.HeaderAccept), fiber.MIMETextHTML)
}

// chooseLanguage keeps the language in ?lang= as a cookie, and goes to the same page without it.
func chooseLanguage(c *fiber.Ctx) error {
	chosen := c.Query("lang")
	if chosen == "" {
		return c.Next()
	}
	if isLanguage(chosen) {
		c.Cookie(&fiber.Cookie{
			Name: languageCookie, Value: chosen, Path: "/", MaxAge: int(languageAge.Seconds()), SameSite: fiber.CookieSameSiteLaxMode, HTTPOnly: true,
		})
	}
	query, err := url.ParseQuery(string(c.Request().URI().QueryString()))
	if err != nil {
		query = nil
	}
	query.Del("lang")
	// One slash at the beginning: two are the address of another host.
	target := "/" + strings.TrimLeft(c.Path(), "/\\")
	if others := query.Encode(); others != "" {
		target += "?" + others
	}
	return c.Redirect(target, http.StatusSeeOther)
}

// languageLink is a link to the same page in a language.
type languageLink struct {
	Path, Language, Name string
	Current              bool
}

func languageLinks(path, current string) ([]languageLink, error) {
	address, err := url.Parse(path)
	if err != nil {
		address = &url.URL{Path: "/"}
	}
	links := make([]languageLink, len(languages))
	for i, language := range languages {
		query := address.Query()
		query.Set("lang", language)
		links[i] = languageLink{"?" + query.Encode(), language, texts[language]["language.name"], language == current}
	}
	return links, nil
}

// scriptPage writes the frame of a page that a script fills. The id in its path, if there is one, is that of an order or of a show.
func (s *Storefront) scriptPage(c *fiber.Ctx, name string) error {
	of := c.Params("id")
	if of != "" {
		parsed, err := id.Parse[string](of)
		if err != nil {
			return s.notFound(c, "notfound.title")
		}
		of = parsed
	}
	return s.respond(c, page{template: "app.html", status: http.StatusOK, view: view{Name: name, ID: of, Title: s.text(c, name+".title")}})
}

func (s *Storefront) notFound(c *fiber.Ctx, title string) error {
	return s.respond(c, page{
		template: "message.html", status: http.StatusNotFound,
		view: view{Name: "notfound", Title: s.text(c, title), Content: s.text(c, "notfound.text")},
	})
}

// failed writes the page for a service that did not respond. The log has the cause.
func (s *Storefront) failed(c *fiber.Ctx, cause error) error {
	if cause != nil {
		rest.Annotate(c, slog.Any("error", cause))
	}
	c.Set(fiber.HeaderRetryAfter, "2")
	return s.respond(c, page{
		template: "message.html", status: http.StatusServiceUnavailable,
		view: view{Name: "failed", Title: s.text(c, "shows.unavailable"), Content: s.text(c, "shows.unavailable.text")},
	})
}

// broken writes the page for a defect. The log has the error.
func (s *Storefront) broken(c *fiber.Ctx, cause error) error {
	rest.Annotate(c, slog.Any("error", cause))
	return s.respond(c, page{
		template: "message.html", status: http.StatusInternalServerError,
		view: view{Name: "failed", Title: s.text(c, "failed.title"), Content: s.text(c, "failed.text")},
	})
}

// text returns a text in the request's language. The key exists: a test reads all of them.
func (*Storefront) text(c *fiber.Ctx, key string) string { return texts[languageOf(c)][key] }

// read reads a path of the catalogue, if the status is 200.
func (s *Storefront) read(c *fiber.Ctx, path string, into any) (Response, error) {
	response, err := s.options.Read(c, path)
	if err != nil || response.Status != http.StatusOK {
		return response, err
	}
	if err := json.Unmarshal(response.Body, into); err != nil {
		return Response{}, fmt.Errorf("read %s: %w", path, err)
	}
	return response, nil
}

// nextPage matches a link to the next page (RFC 8288).
var nextPage = regexp.MustCompile(`<([^>]*)>\s*;\s*rel="next"`)

// nextCursor returns the cursor of the next page, or "" on the last one.
func (r Response) nextCursor() string {
	match := nextPage.FindStringSubmatch(r.Link)
	if match == nil {
		return ""
	}
	address, err := url.Parse(match[1])
	if err != nil {
		return ""
	}
	return address.Query().Get("cursor")
}
