// Package storefront serves the pages on which people buy and sell tickets. The gateway has it at its root.
//
// Each address is a page of its own, written by the server from templates: what is on and a show with their contents, the others as a frame that
// a script fills. Read pages.go for the addresses, shows.go and show.go for those contents, bundle.go for scripts and styles, texts.go and
// format.go for languages, policy.go for what browsers may do.
package storefront

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"time"

	"github.com/gofiber/fiber/v2"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/valyala/fasthttp"

	"boxoffice/services/internal/rest"
)

//go:embed templates
var templateFiles embed.FS

const (
	htmlType = "text/html; charset=utf-8"
	// pageCaching lets a browser keep a page and ask each time whether it is current. Pages differ by who is signed in, so proxies do not keep them.
	pageCaching = "private, no-cache"
	// Bodies from zipFrom bytes on are compressed, if the client accepts it. The last zippedPages are kept.
	zipFrom     = 1024
	zippedPages = 256
)

// Options are what the storefront needs from the gateway.
type Options struct {
	// Read sends a GET request for a path with query to the catalogue. An error means that there was no response.
	Read func(c *fiber.Ctx, path string) (Response, error)
	// SignedIn reports whether the request has a valid token.
	SignedIn func(c *fiber.Ctx) bool
	// PublicURL is where clients reach the gateway, without a slash at the end.
	PublicURL string
	// StripeKey is Stripe's publishable key; "" in the sandbox.
	StripeKey string
	// Currency is that of every price, as an ISO 4217 code in lower case. The forms of sellers show it.
	Currency string
}

// Response is a response of the catalogue. Link is the header of that name.
type Response struct {
	Status int
	Body   []byte
	Link   string
}

// Storefront are the pages with their scripts, styles and texts.
type Storefront struct {
	options   Options
	bundle    *bundle
	templates map[string]*template.Template // by language
	zipped    *lru.Cache[string, []byte]    // pages by ETag
	now       func() time.Time
}

// New reads the embedded files. An error is a defect of them.
func New(o Options) (*Storefront, error) {
	b, err := readBundle(distFiles)
	if err != nil {
		return nil, err
	}
	zipped, err := lru.New[string, []byte](zippedPages)
	if err != nil {
		return nil, err
	}
	s := &Storefront{options: o, bundle: b, templates: map[string]*template.Template{}, zipped: zipped, now: time.Now}
	for _, language := range languages {
		s.templates[language], err = template.New("").Funcs(functions(texts[language])).ParseFS(templateFiles, "templates/*.html")
		if err != nil {
			return nil, fmt.Errorf("read the templates: %w", err)
		}
	}
	return s, nil
}

// Register adds the pages and files to the gateway's app. Its last route has all GET requests that no other route takes, so the routes of the
// API must be registered before.
func (s *Storefront) Register(app *fiber.App) {
	s.bundle.register(app)
	registerFiles(app)
	s.registerPages(app)
}

// view is what the templates of a page get.
type view struct {
	Language  string
	Name      string // of the page: data-page, and the mark in the navigation
	ID        string // of the aggregate that the page shows; "" for none
	Title     string
	Text      string // a description for search engines
	Path      string // of this page, with its query
	SignedIn  bool
	PublicURL string
	Image     *picture // of what the page shows, for links to it; nil for none
	StripeKey string
	Currency  string
	Assets    assets
	Content   any
}

// page is a response with a page.
type page struct {
	template string
	status   int
	view     view
}

// respond writes the page, or 304 if the client has it.
func (s *Storefront) respond(c *fiber.Ctx, p page) error {
	v := &p.view
	v.Language = languageOf(c)
	v.Path = string(c.Request().URI().RequestURI())
	v.SignedIn = s.options.SignedIn(c)
	v.PublicURL = s.options.PublicURL
	v.Currency = s.options.Currency
	v.Assets = s.bundle.assetsOf(v.Language, v.Name)
	if v.Name == "order" {
		v.StripeKey = s.options.StripeKey
	}
	var buffer bytes.Buffer
	if err := s.templates[v.Language].ExecuteTemplate(&buffer, p.template, v); err != nil {
		return fmt.Errorf("write the page %s: %w", p.template, err)
	}
	rest.SetPolicy(c, policyOf(v.Name, v.StripeKey))
	c.Set(fiber.HeaderContentType, htmlType)
	c.Set(fiber.HeaderContentLanguage, v.Language)
	c.Vary(fiber.HeaderAcceptLanguage, fiber.HeaderCookie, fiber.HeaderAcceptEncoding)
	if p.status != http.StatusOK {
		c.Set(fiber.HeaderCacheControl, "no-store")
		return c.Status(p.status).Send(buffer.Bytes())
	}
	etag := rest.ETagOf(buffer.Bytes())
	c.Set(fiber.HeaderCacheControl, pageCaching)
	c.Set(fiber.HeaderETag, "W/"+etag) // weak: it is the same for the compressed body
	if rest.IsCurrent(c, etag) {
		return c.SendStatus(http.StatusNotModified)
	}
	if len(buffer.Bytes()) < zipFrom || !rest.AcceptsGzip(c) {
		return c.Send(buffer.Bytes())
	}
	zipped, ok := s.zipped.Get(etag)
	if !ok {
		zipped = fasthttp.AppendGzipBytesLevel(nil, buffer.Bytes(), fasthttp.CompressBestSpeed)
		s.zipped.Add(etag, zipped)
	}
	c.Set(fiber.HeaderContentEncoding, "gzip")
	return c.Send(zipped)
}
