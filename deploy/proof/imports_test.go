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

// The services and the proof share no code. Go's internal rule keeps services/internal out of the proof, and this test keeps the proof out of
// the services and their tests.
func TestServices_DoNotImportTheProof(t *testing.T) {
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
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			require.NoError(t, err)
			require.False(t, strings.HasPrefix(imported, "boxoffice/deploy/proof"), "%s imports %s", path, imported)
		}
		return nil
	}))
	require.NotZero(t, files)
}
