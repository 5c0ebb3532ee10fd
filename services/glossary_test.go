// Package services_test compares the code with the glossary of services/README.md.
package services_test

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/sources"
)

// Words that people replace with plain ones, beside those of the glossary's last column: they are no term's opposite.
var vagueWords = []string{"whoever", "look", "looks", "leave", "leaves"}

// Texts that are not ours to choose, names of CSS and SVG, names of the glossary itself, and "leavers": the name of a stored document.
var allowed = regexp.MustCompile(`(?i)box[ -]?office|border-box|box-(?:sizing|shadow)|viewBox|LookPath|"leavers"|` + "`till`")

// Files that are not written by us, that are generated from others, whose text is what somebody else sends, or that never change
// (migrations that were applied).
var foreign = regexp.MustCompile(`/testdata/|/third_party/|\.sum$|/package-lock\.json$|/generated/|^deploy/k8s/cluster/.*crd|^LICENSE$|^deploy/postgres/migrations/|\.pem$|\.png$|\.svg$`)

func TestGlossary_ReplacedWordsDoNotOccur(t *testing.T) {
	glossary := sources.Section(t, sources.Page(t, "README.md"), "## Glossary")
	replaced := replacedWords(t, glossary)
	files, err := exec.Command("git", "-C", "..", "ls-files").Output()
	if err != nil {
		t.Skipf("the list of files is git's: %v", err)
	}
	for name := range strings.Lines(string(files)) {
		name = strings.TrimSpace(name)
		if foreign.MatchString(name) || name == "services/glossary_test.go" {
			continue
		}
		content, err := os.ReadFile(filepath.Join("..", name))
		if err != nil || bytes.IndexByte(content, 0) >= 0 {
			continue // deleted in the work tree, or not a text
		}
		for _, word := range words(name) {
			if slices.Contains(replaced, word) {
				t.Errorf("%s: the file's name has the word %q", name, word)
			}
		}
		lines := bufio.NewScanner(bytes.NewReader(content))
		lines.Buffer(nil, 1<<20)
		for number := 1; lines.Scan(); number++ {
			if name == "services/README.md" && lines.Text() != "" && strings.Contains(glossary, lines.Text()) {
				continue
			}
			for _, word := range words(lines.Text()) {
				if slices.Contains(replaced, word) {
					t.Errorf("%s:%d: the word %q; services/README.md, Glossary, has another", name, number, word)
				}
			}
		}
	}
}

// replacedWords are those of the glossary's last column.
func replacedWords(t *testing.T, glossary string) []string {
	t.Helper()
	replaced := slices.Clone(vagueWords)
	terms := 0
	for line := range strings.Lines(glossary) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 3 {
			continue
		}
		terms++
		for word := range strings.SplitSeq(cells[2], ",") {
			if word = strings.TrimSpace(word); word != "" && word != "not" && word != "---" {
				replaced = append(replaced, word)
			}
		}
	}
	require.Greater(t, terms, 30, "the glossary was not found")
	return replaced
}

var (
	camel  = regexp.MustCompile(`([a-z0-9])([A-Z])`)
	letter = regexp.MustCompile(`[A-Za-z]+`)
)

// words splits a text into words in lower case; names of Go are split where the case changes.
func words(text string) []string {
	text = allowed.ReplaceAllString(text, "")
	text = camel.ReplaceAllString(text, "$1 $2")
	return letter.FindAllString(strings.ToLower(text), -1)
}
