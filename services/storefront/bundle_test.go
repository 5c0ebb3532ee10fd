package storefront

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/rest"
)

// largestScripts bounds the scripts of a page, compressed: they must arrive soon on a slow line.
const largestScripts = 60_000

func TestBundle_OfEachPageIsSmall(t *testing.T) {
	site := newSite(t)
	b := site.storefront.bundle
	if len(b.files) == 0 {
		t.Skip("there is no bundle: make build-storefront")
	}
	zipped := func(path string) string {
		status, header, body := site.get(t, path, "Accept-Encoding", "gzip")
		require.Equal(t, 200, status, path)
		require.Equal(t, "gzip", header["Content-Encoding"][0])
		return body
	}
	for _, language := range languages {
		require.NotEmpty(t, b.scripts[language].entry, language)
		for page := range b.scripts[language].pages {
			a, size := b.assetsOf(language, page), 0
			for _, name := range append(a.Preload, a.Script) {
				size += len(zipped(name))
			}
			t.Logf("%s %s: %d bytes", language, page, size)
			require.Less(t, size, largestScripts, "the scripts of the page %q in %s", page, language)
		}
	}
	require.NotEmpty(t, zipped(b.assetsOf("en", "").Style))
}

func TestBundle_HasAScriptForEachPage(t *testing.T) {
	b, err := readBundle(distFiles)
	require.NoError(t, err)
	if len(b.files) == 0 {
		t.Skip("there is no bundle: make build-storefront")
	}
	for _, page := range scriptPages {
		require.Contains(t, b.scripts["de"].pages, page)
	}
}

func TestBundle_PreloadsWhatThePageImports(t *testing.T) {
	b, err := readBundle(fstest.MapFS{
		"dist/en-1.js": {Data: []byte("entry")}, "dist/styles-1.css": {Data: []byte("css")},
		"dist/styles.meta.json": {Data: []byte(`{"outputs":{"../tmp/styles-1.css":{"entryPoint":"styles/main.css"}}}`)},
		"dist/en.meta.json": {Data: []byte(`{"outputs":{
			"../tmp/en-1.js":{"entryPoint":"src/main.tsx","imports":[{"path":"../tmp/en-chunk-2.js","kind":"import-statement"},{"path":"../tmp/en-order-3.js","kind":"dynamic-import"}]},
			"../tmp/en-chunk-2.js":{"imports":[]},
			"../tmp/en-order-3.js":{"entryPoint":"src/pages/order.tsx","imports":[{"path":"../tmp/en-chunk-2.js","kind":"import-statement"},{"path":"../tmp/en-late-4.js","kind":"dynamic-import"}]},
			"../tmp/en-late-4.js":{"imports":[]}}}`)},
	})
	require.NoError(t, err)
	require.Equal(t, assets{Style: "/assets/styles-1.css", Script: "/assets/en-1.js", Preload: []string{"/assets/en-chunk-2.js", "/assets/en-order-3.js"}}, b.assetsOf("en", "order"))
	require.Equal(t, []string{"/assets/en-chunk-2.js"}, b.assetsOf("en", "shows").Preload)
}

func TestBundle_WithoutFilesShowsWhatToDo(t *testing.T) {
	b, err := readBundle(fstest.MapFS{"dist/.gitignore": {}})
	require.NoError(t, err)
	require.Empty(t, b.assetsOf("en", "order"))
	site := newSite(t)
	site.storefront.bundle = b
	_, _, body := site.get(t, "/")
	require.Contains(t, body, "make build")
}

func TestAssets_AreKeptForEver(t *testing.T) {
	site := newSite(t)
	site.storefront.bundle.files["x-1.js"] = rest.NewFile("text/javascript; charset=utf-8", fileCaching, []byte("script"))
	status, header, body := site.get(t, "/assets/x-1.js")
	require.Equal(t, 200, status)
	require.Equal(t, "script", body)
	require.Equal(t, "public, max-age=31536000, immutable", header["Cache-Control"][0])
	_, header, body = site.get(t, "/assets/x-1.js", "Accept-Encoding", "gzip")
	require.Equal(t, "gzip", header["Content-Encoding"][0])
	require.Equal(t, "script", unzipped(t, body))
}
