// Package sources reads the services' source code, for tests that compare it with what is written about it.
package sources

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Services returns the path of the folder services.
func Services(t testing.TB) string {
	t.Helper()
	_, file, _, found := runtime.Caller(0)
	require.True(t, found)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// Each calls visit with the path and the content of every Go file under a folder of services that is not a test. "" is all.
func Each(t testing.TB, folder string, visit func(path string, source []byte)) {
	t.Helper()
	read := 0
	require.NoError(t, filepath.WalkDir(filepath.Join(Services(t), folder), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		if err == nil {
			read++
			visit(path, source)
		}
		return err
	}))
	require.NotZero(t, read, "there is no source in %q", folder)
}

// Page returns the text of a page of services, for example "settings.md".
func Page(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(Services(t), name))
	require.NoError(t, err)
	return string(text)
}

// Section returns the part of a page below a heading, up to the next heading of the same level.
func Section(t testing.TB, page, heading string) string {
	t.Helper()
	_, section, found := strings.Cut(page, "\n"+heading+"\n")
	require.True(t, found, "there is no heading %q", heading)
	level, _, _ := strings.Cut(heading, " ")
	section, _, _ = strings.Cut(section, "\n"+level+" ")
	return section
}
