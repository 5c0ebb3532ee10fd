package sources

import (
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The shared packages belong to the product: they do not depend on how it is deployed or on a single service. Only tests that
// start real sidecars import deploy/local/stack.
func TestImports_OfSharedPackagesAreNeitherDeployNorAService(t *testing.T) {
	Each(t, "internal", func(path string, source []byte) {
		file, err := parser.ParseFile(token.NewFileSet(), path, source, parser.ImportsOnly)
		require.NoError(t, err)
		for _, imported := range file.Imports {
			name, err := strconv.Unquote(imported.Path.Value)
			require.NoError(t, err)
			if strings.HasPrefix(name, "boxoffice/") {
				require.True(t, strings.HasPrefix(name, "boxoffice/services/internal/"), "%s imports %s", path, name)
			}
		}
	})
}
