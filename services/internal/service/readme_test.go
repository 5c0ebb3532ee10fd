package service

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whoever adds a variable to a configuration finds out here that it is not documented.
func TestSettings_EachIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../settings.md")
	require.NoError(t, err)
	_, settings, found := strings.Cut(string(text), "\n## Settings\n")
	require.True(t, found)
	settings, _, _ = strings.Cut(settings, "\n## ")
	documented := map[string]bool{}
	for _, row := range regexp.MustCompile(`(?m)^\| ([^|]+) \|`).FindAllStringSubmatch(settings, -1) {
		for _, name := range regexp.MustCompile("`([A-Z_]+)`").FindAllStringSubmatch(row[1], -1) {
			documented[name[1]] = true
		}
	}

	tag := regexp.MustCompile(`\benv:"(\w+)`)
	read := 0
	require.NoError(t, filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, variable := range tag.FindAllStringSubmatch(string(source), -1) {
			read++
			require.True(t, documented[variable[1]], "%s reads %s, which is not in services/settings.md", path, variable[1])
		}
		return err
	}))
	require.Greater(t, read, 40)
}
