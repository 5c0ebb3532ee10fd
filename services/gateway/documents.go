package main

import (
	"embed"

	"github.com/gofiber/fiber/v2"
	"github.com/swaggest/swgui/v5/static"

	"boxoffice/services/contracts"
	"boxoffice/services/internal/rest"
)

//go:embed docs
var pageFiles embed.FS

const (
	htmlType   = "text/html; charset=utf-8"
	scriptType = "text/javascript; charset=utf-8"
	styleType  = "text/css; charset=utf-8"

	// documentAge is how long a browser may show a document without asking whether it is current: an update of the gateway changes it.
	documentAge = "public, max-age=300"

	// pagePolicy is the Content-Security-Policy of pages. They have no inline scripts and no inline styles, and send requests to this origin
	// alone. Swagger UI's styles have images as data: URLs.
	pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

// documents are the contracts as files, and pages to read them. All that a page needs comes from the gateway.
type documents struct{ byPath map[string]fiber.Handler }

func newDocuments() *documents {
	d := &documents{map[string]fiber.Handler{
		"/api/openapi.json":              document(fiber.MIMEApplicationJSON, contracts.OpenAPI()),
		"/api/docs":                      pageDocument(embedded("index.html")),
		"/api/docs/page.js":              document(scriptType, embedded("page.js")),
		"/api/docs/page.css":             document(styleType, embedded("page.css")),
		"/api/docs/swagger-ui.css":       assetDocument(styleType, "swagger-ui.css"),
		"/api/docs/swagger-ui-bundle.js": assetDocument(scriptType, "swagger-ui-bundle.js"),
	}}
	d.addEvents()
	return d
}

// document returns the handler of a document that is no page.
func document(contentType string, content []byte) fiber.Handler {
	return rest.NewFile(contentType, documentAge, content).Serve
}

// pageDocument returns the handler of a document that browsers show.
func pageDocument(content []byte) fiber.Handler {
	file := rest.NewFile(htmlType, documentAge, content)
	return func(c *fiber.Ctx) error {
		rest.SetPolicy(c, rest.Policy{Content: pagePolicy})
		return file.Serve(c)
	}
}

// assetDocument returns the handler of a file of Swagger UI, which the module has zipped.
func assetDocument(contentType, file string) fiber.Handler {
	zipped, err := static.FS.ReadFile(file + ".gz")
	if err != nil {
		panic(err) // it is embedded
	}
	return rest.NewZippedFile(contentType, documentAge, zipped).Serve
}

// embedded returns a file of the folder docs.
func embedded(file string) []byte {
	content, err := pageFiles.ReadFile("docs/" + file)
	if err != nil {
		panic(err) // it is embedded
	}
	return content
}

func (d *documents) register(app *fiber.App) {
	for path, handle := range d.byPath {
		app.Get(path, handle)
	}
}
