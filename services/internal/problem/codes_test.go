package problem

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/sources"
)

// notSent are codes that no client gets.
var notSent = map[string]string{
	"window_open": "orders handles the event again later",
}

func TestCodes_AreThoseOfTheAPIPage(t *testing.T) {
	documented := map[string]bool{}
	table := sources.Section(t, sources.Page(t, "api.md"), "### Codes")
	for _, row := range regexp.MustCompile(`(?m)^\| \d+ \| ([^|]+) \|`).FindAllStringSubmatch(table, -1) {
		if strings.Contains(row[1], " as `") {
			continue // examples of codes of Stripe and of banks
		}
		for _, code := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(row[1], -1) {
			documented[code[1]] = true
		}
	}

	used := map[string]bool{}
	newProblem := regexp.MustCompile(`problem\.New\(problem\.\w+, "(\w+)"`)
	rules := regexp.MustCompile(`json:"[^"]*" validate:"([^"]*)"`) // the code is the rule that a field breaks
	sources.Each(t, "", func(_ string, source []byte) {
		for _, code := range newProblem.FindAllSubmatch(source, -1) {
			used[string(code[1])] = true
		}
		for _, field := range rules.FindAllSubmatch(source, -1) {
			for rule := range strings.SplitSeq(string(field[1]), ",") {
				if code, _, _ := strings.Cut(rule, "="); code != "omitempty" {
					used[code] = true
				}
			}
		}
	})
	for code := range notSent {
		require.True(t, used[code], "no source has the code %s", code)
		delete(used, code)
	}
	require.Equal(t, used, documented)
}
