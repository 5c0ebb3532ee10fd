package mutants

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
)

func root(t *testing.T) string {
	t.Helper()
	runFile, err := stack.FindRunFile(".")
	require.NoError(t, err)
	return filepath.Dir(runFile)
}

// A patch must be updated with the code that it changes; the nightly workflow would find that too late.
func TestMutants_Apply(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("it needs git")
	}
	all, err := All(root(t))
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(all), 10)
	inState := 0
	for _, m := range all {
		t.Run(m.Name, func(t *testing.T) {
			replace, err := m.Apply(t.Context(), root(t), filepath.Join(t.TempDir(), "sources"))
			require.NoError(t, err)
			require.NotEmpty(t, replace)
			for path := range replace {
				if filepath.Base(filepath.Dir(path)) == "state" {
					inState++
					break
				}
			}
		})
	}
	require.GreaterOrEqual(t, inState, 3)
}

// Each mutant has a row in the README's table, with its name and its defect, and there is no other row.
func TestMutants_AreThoseOfTheREADME(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root(t), "deploy", "proof", "README.md"))
	require.NoError(t, err)
	_, table, found := strings.Cut(string(text), "\n| mutant | defect |")
	require.True(t, found)
	table, _, found = strings.Cut(table, "\n| without a defect |")
	require.True(t, found)
	described := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([^|]+) \\|").FindAllStringSubmatch(table, -1) {
		described[row[1]] = row[2]
	}
	all, err := All(root(t))
	require.NoError(t, err)
	want := map[string]string{}
	for _, m := range all {
		want[m.Name] = m.Defect
	}
	require.Equal(t, want, described)
}

func TestMutant_ThatIsOutOfDateFails(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("it needs git")
	}
	repository := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(repository, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	write(Folder+"/mutant.patch", "A line is missing.\nServices: orders\n\ndiff --git a/file.go b/file.go\n--- a/file.go\n+++ b/file.go\n@@ -1,3 +1,2 @@\n one\n-two\n three\n")
	write("file.go", "one\ntwo\nthree\n")
	m, err := Find(repository, "mutant")
	require.NoError(t, err)
	require.Equal(t, []string{"orders"}, m.Services)
	require.Equal(t, "A line is missing.", m.Defect)
	replace, err := m.Apply(t.Context(), repository, filepath.Join(t.TempDir(), "sources"))
	require.NoError(t, err)
	text, err := os.ReadFile(replace[filepath.Join(repository, "file.go")])
	require.NoError(t, err)
	require.Equal(t, "one\nthree\n", string(text))

	write("file.go", "one\n2\nthree\n")
	_, err = m.Apply(t.Context(), repository, filepath.Join(t.TempDir(), "sources"))
	require.ErrorContains(t, err, "the patch mutant is out of date")
	write(Folder+"/nothing.patch", "Nothing.\n")
	_, err = All(repository)
	require.ErrorContains(t, err, "contains no patch")
}
