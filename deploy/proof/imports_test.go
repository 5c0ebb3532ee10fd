package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The services and the proof share no code. Go's internal rule keeps services/internal out of the proof; this test keeps the proof out of
// the services, and all of deploy out of their programs.
func TestServices_DoNotImportTheProof(t *testing.T) {
	const module = "boxoffice/"
	files := 0
	require.NoError(t, filepath.WalkDir("../../services", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" {
			return err
		}
		files++
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		forbidden := module + "deploy/"
		if strings.HasSuffix(path, "_test.go") {
			forbidden = module + "deploy/proof"
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			require.NoError(t, err)
			require.False(t, strings.HasPrefix(imported, forbidden), "%s imports %s", path, imported)
		}
		return nil
	}))
	require.NotZero(t, files)
}
