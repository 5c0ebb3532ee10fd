package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io"

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

// policyKey is the local with the Content-Security-Policy of a response that is a page.
type policyKey struct{}

// document is a file that the gateway itself serves. It does not change while the process runs.
type document struct {
	contentType string
	policy      string // of a page; "" for all else
	etag        string
	zipped      []byte
}

// newDocument zips a document once.
func newDocument(contentType, policy string, content []byte) document {
	var zipped bytes.Buffer
	w, _ := gzip.NewWriterLevel(&zipped, gzip.BestCompression) // fails for an unknown level only
	_, _ = w.Write(content)                                    // a buffer takes everything
	_ = w.Close()
	return zippedDocument(contentType, policy, zipped.Bytes())
}

func zippedDocument(contentType, policy string, zipped []byte) document {
	sum := sha256.Sum256(append([]byte(contentType+policy), zipped...))
	return document{contentType, policy, `"` + hex.EncodeToString(sum[:8]) + `"`, zipped}
}

// serve responds with the document, or with 304 if the client has it.
func (d document) serve(c *fiber.Ctx) error {
	c.Set(fiber.HeaderETag, d.etag)
	c.Set(fiber.HeaderCacheControl, documentAge)
	c.Vary(fiber.HeaderAcceptEncoding)
	if d.policy != "" {
		c.Locals(policyKey{}, d.policy)
	}
	if rest.IsCurrent(c, d.etag) {
		return c.SendStatus(fiber.StatusNotModified)
	}
	c.Set(fiber.HeaderContentType, d.contentType)
	if rest.AcceptsGzip(c) {
		c.Set(fiber.HeaderContentEncoding, "gzip")
		return c.Send(d.zipped)
	}
	r, err := gzip.NewReader(bytes.NewReader(d.zipped))
	if err != nil {
		return fmt.Errorf("unzip a document: %w", err)
	}
	content, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("unzip a document: %w", err)
	}
	return c.Send(content)
}

// documents are the contracts as files, and pages to read them. All that a page needs comes from the gateway.
type documents struct{ byPath map[string]document }

func newDocuments() *documents {
	d := &documents{map[string]document{
		"/api/openapi.json": newDocument(fiber.MIMEApplicationJSON, "", contracts.OpenAPI()),
	}}
	d.addPage("/api/docs", "index.html", htmlType, pagePolicy)
	d.addPage("/api/docs/page.js", "page.js", scriptType, "")
	d.addPage("/api/docs/page.css", "page.css", styleType, "")
	d.addAsset("swagger-ui-bundle.js", scriptType)
	d.addAsset("swagger-ui.css", styleType)
	d.addEvents()
	return d
}

func (d *documents) addPage(path, file, contentType, policy string) {
	content, err := pageFiles.ReadFile("docs/" + file)
	if err != nil {
		panic(err) // it is embedded
	}
	d.byPath[path] = newDocument(contentType, policy, content)
}

// addAsset adds a file of Swagger UI, which the module has zipped.
func (d *documents) addAsset(file, contentType string) {
	zipped, err := static.FS.ReadFile(file + ".gz")
	if err != nil {
		panic(err) // it is embedded
	}
	d.byPath["/api/docs/"+file] = zippedDocument(contentType, "", zipped)
}

func (d *documents) register(app *fiber.App) {
	for path, document := range d.byPath {
		app.Get(path, document.serve)
	}
}
