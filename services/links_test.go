package services_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	link     = regexp.MustCompile(`\[[^\]]*\]\(([^)\s]+)\)`)
	fence    = regexp.MustCompile("(?ms)^```.*?^```")
	heading  = regexp.MustCompile(`(?m)^#+ (.*)$`)
	notInURL = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// Each relative link of a page leads to a file that is there, and to a heading of it.
func TestLinks_LeadSomewhere(t *testing.T) {
	files, err := exec.Command("git", "-C", "..", "ls-files", "--cached", "--others", "--exclude-standard", "*.md").Output()
	if err != nil {
		t.Skipf("the list of files is git's: %v", err)
	}
	checked := 0
	for page := range strings.Lines(string(files)) {
		page = strings.TrimSpace(page)
		content, err := os.ReadFile(filepath.Join("..", page))
		if err != nil {
			continue // deleted in the work tree
		}
		for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(string(content), ""), -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, ":") {
				continue // elsewhere
			}
			checked++
			path := page
			if target != "" {
				path = filepath.Join(filepath.Dir(page), target)
			}
			if _, err := os.Stat(filepath.Join("..", path)); err != nil {
				t.Errorf("%s: %s: there is no such file", page, m[1])
				continue
			}
			if anchor != "" && !anchorsOf(t, path)[anchor] {
				t.Errorf("%s: %s: %s has no such heading", page, m[1], path)
			}
		}
	}
	require.Greater(t, checked, 50)
}

// anchorsOf are the anchors that GitHub gives a page's headings.
func anchorsOf(t *testing.T, page string) map[string]bool {
	content, err := os.ReadFile(filepath.Join("..", page))
	require.NoError(t, err)
	anchors := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(string(content), ""), -1) {
		text := strings.ToLower(strings.TrimSpace(m[1]))
		anchors[strings.ReplaceAll(notInURL.ReplaceAllString(text, ""), " ", "-")] = true
	}
	return anchors
}
