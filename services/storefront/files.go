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
		app.Get("/"+name, rest.NewFile(contentType, siteCaching, content).Serve)
	}
	app.Get("/licences.txt", rest.NewFile("text/plain; charset=utf-8", siteCaching, licences()).Serve)
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
