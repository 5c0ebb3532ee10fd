package service

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/sources"
)

func TestSettings_EachIsDocumented(t *testing.T) {
	documented := map[string]bool{}
	settings := sources.Section(t, sources.Page(t, "settings.md"), "## Settings")
	for _, row := range regexp.MustCompile(`(?m)^\| ([^|]+) \|`).FindAllStringSubmatch(settings, -1) {
		for _, name := range regexp.MustCompile("`([A-Z_]+)`").FindAllStringSubmatch(row[1], -1) {
			documented[name[1]] = true
		}
	}

	tag := regexp.MustCompile(`\benv:"(\w+)`)
	read := 0
	sources.Each(t, "", func(path string, source []byte) {
		for _, variable := range tag.FindAllSubmatch(source, -1) {
			read++
			require.True(t, documented[string(variable[1])], "%s reads %s, which is not in services/settings.md", path, variable[1])
		}
	})
	require.Greater(t, read, 40)
}
