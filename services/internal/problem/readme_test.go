package problem

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// notAnswered are codes that no client gets.
var notAnswered = map[string]string{
	"order_not_live": "orders tries such a change again, and answers a conflict without a code if that does not help",
}

// The table of services/api.md has each code of the source, and none that the source does not have.
func TestCodes_AreThoseOfTheAPIPage(t *testing.T) {
	text, err := os.ReadFile("../../api.md")
	require.NoError(t, err)
	_, table, found := strings.Cut(string(text), "\n### Codes\n")
	require.True(t, found)
	table, _, _ = strings.Cut(table, "\n### ")
	documented := map[string]bool{}
	for _, row := range regexp.MustCompile(`(?m)^\| \d+ \| ([^|]+) \|`).FindAllStringSubmatch(table, -1) {
		if strings.Contains(row[1], " as `") {
			continue // examples of codes of Stripe and of banks
		}
		for _, code := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(row[1], -1) {
			documented[code[1]] = true
		}
	}

	used := map[string]bool{}
	withCode := regexp.MustCompile(`WithCode\("(\w+)"\)`)
	rules := regexp.MustCompile(`json:"[^"]*" validate:"([^"]*)"`) // the rule that a field breaks is the code
	require.NoError(t, filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, code := range withCode.FindAllStringSubmatch(string(source), -1) {
			used[code[1]] = true
		}
		for _, field := range rules.FindAllStringSubmatch(string(source), -1) {
			for _, rule := range strings.Split(field[1], ",") {
				if code, _, _ := strings.Cut(rule, "="); code != "omitempty" {
					used[code] = true
				}
			}
		}
		return err
	}))
	for code := range notAnswered {
		require.True(t, used[code], "%s is gone", code)
		delete(used, code)
	}
	require.Equal(t, used, documented)
}
