package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack/stacktest"
	"boxoffice/deploy/proof/chaos"
	"boxoffice/deploy/proof/check"
	"boxoffice/deploy/proof/mutants"
)

// A checker that cannot fail proves nothing. Services are built with a defect (a patch in deploy/proof/mutants), and the checker must find
// its effects under load. Here are the defects that show without further faults. `make test-mutants` runs all of them, and takes longer.

// runsOfDefect is how many runs the checker has to find a defect.
const runsOfDefect = 5

func TestChecker_FindsDefects(t *testing.T) {
	t.Parallel()
	stacktest.SkipIfShort(t)
	onEmbedded(t, "a defect of a service is the same on all sets")
	root := root(t)
	for _, c := range []struct {
		name    string
		promise int
		what    string // part of a violation
	}{
		{"etag-dropped", 1, "live orders at once"},
		{"published-before-commit", 2, "the aggregate does not exist"},
		{"money-before-order", 3, "before it was complete"},
		{"place-not-unique", 1, "listings have it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			mutant, err := mutants.Find(root, c.name)
			require.NoError(t, err)
			programs, err := mutant.Build(t.Context(), root, t.TempDir())
			require.NoError(t, err)
			// Whether a few seconds of load meet the defect is chance, and on a busy machine there is less load in them.
			var out *chaos.Outcome
			for seed := uint64(1); seed <= runsOfDefect; seed++ {
				out, err = chaos.Run(t.Context(), chaos.Options{
					Seed: seed, Time: 5 * time.Second, NoFaults: true, Settle: 3 * time.Second, Folder: t.TempDir(), Programs: programs,
					Without: []string{"webhooks"}, // it has no part in these defects
				})
				require.NoError(t, err)
				if slices.ContainsFunc(out.Report.Violations, func(v check.Violation) bool {
					return v.Promise == c.promise && strings.Contains(v.What, c.what) && len(v.History) > 0
				}) {
					return
				}
			}
			require.Failf(t, "the checker has not found the defect", "%s", out)
		})
	}
}
