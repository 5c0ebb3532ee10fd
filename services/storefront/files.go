package storefront

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"path"

	"github.com/gofiber/fiber/v2"

	"boxoffice/services/internal/rest"
)

//go:embed files
var siteFiles embed.FS

//go:embed third_party/*/LICENSE
var licenceFiles embed.FS

// siteCaching is for files whose name stays the same when they change.
const siteCaching = "public, max-age=3600"

// registerFiles adds the files that browsers and search engines ask for by their names.
func registerFiles(app *fiber.App) {
	for name, contentType := range map[string]string{
		"favicon.svg":      "image/svg+xml",
		"robots.txt":       "text/plain; charset=utf-8",
		"site.webmanifest": "application/manifest+json",
	} {
		content, err := siteFiles.ReadFile("files/" + name)
		if err != nil {
			panic(err) // it is embedded
		}
		addFile(app, "/"+name, contentType, content)
	}
	addFile(app, "/licences.txt", "text/plain; charset=utf-8", licences())
}

func addFile(app *fiber.App, path, contentType string, content []byte) {
	f, etag := file{contentType, zip(content)}, etagOf(content)
	app.Get(path, func(c *fiber.Ctx) error {
		c.Set(fiber.HeaderCacheControl, siteCaching)
		c.Set(fiber.HeaderETag, "W/"+etag)
		if rest.IsCurrent(c, etag) {
			return c.SendStatus(fiber.StatusNotModified)
		}
		return f.serve(c)
	})
}

// licences are those of the packages in the scripts, which must go with them.
func licences() []byte {
	var all bytes.Buffer
	names, err := fs.Glob(licenceFiles, "third_party/*/LICENSE")
	if err != nil {
		panic(err) // the pattern is right
	}
	for _, name := range names {
		content, err := licenceFiles.ReadFile(name)
		if err != nil {
			panic(err) // it is embedded
		}
		fmt.Fprintf(&all, "%s\n\n%s\n\n", path.Base(path.Dir(name)), content)
	}
	return all.Bytes()
}
