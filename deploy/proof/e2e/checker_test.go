package e2e

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/local/stack/stacktest"
	"boxoffice/deploy/proof/chaos"
	"boxoffice/deploy/proof/check"
	"boxoffice/deploy/proof/mutants"
)

// A check that cannot fail proves nothing. Here a service is built with a fault in it, one that somebody could make (the
// patches of deploy/proof/mutants), and the checker must find it by what comes of it under load. Most faults need the help of
// others, of processes and networks, to show: `make check-the-check` looks for all of them, and takes longer.

func TestChecker_FindsDefects(t *testing.T) {
	t.Parallel()
	stacktest.SkipIfShort(t)
	onEmbedded(t, "a mistake of a service is the same on all sets")
	runFile, err := stack.FindRunFile(".")
	require.NoError(t, err)
	root := filepath.Dir(runFile)
	for _, c := range []struct {
		name    string
		promise int
		says    string // in one of the violations
	}{
		{"etag-dropped", 1, "live orders at once"},
		{"published-before-commit", 2, "there is no such thing"},
		{"money-before-order", 3, "before it was complete"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			fault, err := mutants.Find(root, c.name)
			require.NoError(t, err)
			programs, err := fault.Build(t.Context(), root, t.TempDir())
			require.NoError(t, err)
			out, err := chaos.Run(t.Context(), chaos.Options{
				Seed: 1, Time: 5 * time.Second, NoFaults: true, Settle: 3 * time.Second, Folder: t.TempDir(), Programs: programs,
			})
			require.NoError(t, err)
			require.True(t, slices.ContainsFunc(out.Report.Violations, func(v check.Violation) bool {
				return v.Promise == c.promise && strings.Contains(v.What, c.says) && len(v.History) > 0
			}), "%s", out)
		})
	}
}
