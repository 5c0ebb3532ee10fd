package domain

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The rules do no I/O: this package must not depend on a package that does.
func TestImports_RulesDoNoIO(t *testing.T) {
	imports, err := exec.Command("go", "list", "-f", `{{join .Imports "\n"}}`, ".").Output()
	if err != nil {
		t.Skipf("the list of imports is the go command's: %v", err)
	}
	allowed := []string{"boxoffice/services/internal/clock", "boxoffice/services/internal/events", "boxoffice/services/internal/id", "boxoffice/services/internal/problem"}
	for name := range strings.FieldsSeq(string(imports)) {
		isStandard := !strings.Contains(strings.Split(name, "/")[0], ".") && !strings.HasPrefix(name, "boxoffice/")
		if isStandard {
			require.NotContains(t, []string{"context", "net", "net/http", "os", "log/slog", "sync"}, name)
			continue
		}
		require.Contains(t, allowed, name)
	}
}

// Rules take the time as an argument.
func TestImports_RulesHaveNoClock(t *testing.T) {
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		source, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NotRegexp(t, `time\.(Now|Since|Until|After|Sleep)\(|clock\.(System|Clock)\b`, string(source), name)
	}
}
