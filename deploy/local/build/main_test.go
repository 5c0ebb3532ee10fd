package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHashFiles_IsThatOfGitForTheirContents(t *testing.T) {
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("a.go", []byte("hel"), 0o600))
	require.NoError(t, os.WriteFile("b.go", []byte("lo\n"), 0o600))
	hash, err := hashFiles([]string{"*.go"})
	require.NoError(t, err)
	require.Equal(t, "ce013625030ba8dba906f756967f9e9ca394464a", hash, "printf 'hello\\n' | git hash-object --stdin")

	_, err = hashFiles([]string{"*.go", "go.mod"})
	require.ErrorContains(t, err, "there is no file go.mod")
}

func TestProduct_IsBuiltAgainIfAProgramOrTheHashDiffers(t *testing.T) {
	t.Chdir(t.TempDir())
	p := product{stamp: "stamp", steps: []step{{program: "one"}, {program: "two"}}}
	require.False(t, p.built("hash"))
	for _, name := range []string{"one", "two"} {
		require.NoError(t, os.WriteFile(name, nil, 0o600))
	}
	require.False(t, p.built("hash"))
	require.NoError(t, os.WriteFile("stamp", []byte("hash\n"), 0o600))
	require.True(t, p.built("hash"))
	require.False(t, p.built("another"))
	require.NoError(t, os.Remove("two"))
	require.False(t, p.built("hash"))
}

func TestStep_BuildsAProgramAndShowsErrors(t *testing.T) {
	root := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(root, "go.mod"), []byte("module example\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(root, "main.go"), []byte("package main\n\nfunc main() {}\n"), 0o600))
	require.NoError(t, step{".", ".", ".build/program"}.run(root))
	require.FileExists(t, filepath.Join(root, ".build", "program"))

	require.NoError(t, os.WriteFile(filepath.Join(root, "main.go"), []byte("package main\n\nfunc main() { x }\n"), 0o600))
	require.ErrorContains(t, step{".", ".", ".build/program"}.run(root), "build .build/program")
}

func TestShowProgress_CountsPackagesAndCopiesTheRest(t *testing.T) {
	var out strings.Builder
	showProgress(strings.NewReader(strings.Repeat("github.com/dapr/dapr/pkg\n", 250)+"# example\n./main.go:3:15: undefined: x\n"), &out, 1500)
	require.Equal(t, "  100 packages of 1500 at most\n  200 packages of 1500 at most\n# example\n./main.go:3:15: undefined: x\n", out.String())
}

func TestRun_RefusesWhatItDoesNotBuild(t *testing.T) {
	for _, args := range [][]string{nil, {"pigeons"}, {"release"}} {
		require.ErrorContains(t, run(args), "usage")
	}
}
