package storefront

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"boxoffice/services/internal/rest"
)

// distFiles are what bundle.sh wrote. Without it the folder has only a hidden file.
//
//go:embed all:dist
var distFiles embed.FS

// fileCaching is for files whose name has the hash of their content.
const fileCaching = "public, max-age=31536000, immutable"

// assets are the files that a page needs, as paths.
type assets struct {
	Style, Script string
	// Preload are the scripts that the page's script imports: the browser fetches them all at once.
	Preload []string
}

// bundle has the scripts and styles.
type bundle struct {
	files   map[string]*rest.File // by name
	style   string
	scripts map[string]scripts // by language
}

// scripts are those of one language.
type scripts struct {
	entry string
	// pages has the script of each page, with all that it imports.
	pages map[string][]string
}

// metafile is esbuild's description of what it wrote (https://esbuild.github.io/api/#metafile).
type metafile struct {
	Outputs map[string]struct {
		EntryPoint string
		Imports    []struct{ Path, Kind string }
	}
}

// readBundle reads what bundle.sh wrote. Without that the bundle is empty.
func readBundle(dist fs.FS) (*bundle, error) {
	b := &bundle{files: map[string]*rest.File{}, scripts: map[string]scripts{}}
	names, err := fs.Glob(dist, "dist/*.*")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		content, err := fs.ReadFile(dist, name)
		if err != nil {
			return nil, err
		}
		base := path.Base(name)
		switch path.Ext(base) {
		case ".js":
			b.files[base] = rest.NewFile("text/javascript; charset=utf-8", fileCaching, content)
		case ".css":
			b.files[base] = rest.NewFile("text/css; charset=utf-8", fileCaching, content)
		case ".json":
			var meta metafile
			if err := json.Unmarshal(content, &meta); err != nil {
				return nil, fmt.Errorf("read %s: %w", name, err)
			}
			b.add(strings.TrimSuffix(base, ".meta.json"), meta)
		}
	}
	return b, nil
}

// add notes which files a page needs. name is a language, or "styles".
func (b *bundle) add(name string, meta metafile) {
	if name == "styles" {
		for output := range meta.Outputs {
			b.style = path.Base(output)
		}
		return
	}
	of := scripts{pages: map[string][]string{}}
	for output, o := range meta.Outputs {
		switch page, isPage := strings.CutPrefix(o.EntryPoint, "src/pages/"); {
		case isPage:
			of.pages[strings.TrimSuffix(page, ".tsx")] = meta.imported(output)
		case o.EntryPoint == "src/main.tsx":
			of.entry = path.Base(output)
			of.pages[""] = meta.imported(output)
		}
	}
	b.scripts[name] = of
}

// imported returns an output and all that it imports before it runs, not what it imports later.
func (m metafile) imported(output string) []string {
	names := []string{path.Base(output)}
	for _, i := range m.Outputs[output].Imports {
		if i.Kind == "import-statement" {
			for _, name := range m.imported(i.Path) {
				if !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
		}
	}
	return names
}

// assetsOf returns the files of a page in a language.
func (b *bundle) assetsOf(language, page string) assets {
	of, ok := b.scripts[language]
	if !ok {
		return assets{}
	}
	a := assets{Style: assetPath(b.style), Script: assetPath(of.entry)}
	for _, name := range append(slices.Clone(of.pages[""]), of.pages[page]...) {
		if name = assetPath(name); name != a.Script && !slices.Contains(a.Preload, name) {
			a.Preload = append(a.Preload, name)
		}
	}
	return a
}

func assetPath(name string) string { return "/assets/" + name }

func (b *bundle) register(app *fiber.App) {
	app.Get("/assets/:name", func(c *fiber.Ctx) error {
		f, ok := b.files[c.Params("name")]
		if !ok {
			return fiber.ErrNotFound
		}
		return f.Serve(c)
	})
}
