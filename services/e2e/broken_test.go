package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/chaos"
	"boxoffice/deploy/local/check"
	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/local/stack/stacktest"
)

// A check that cannot fail proves nothing. Here a service is built with a mistake in it, one that somebody could make,
// and the checker must find it by what comes of it under load.

// mistake is a change of a source file, told by what stands there now.
type mistake struct {
	file, right, wrong string
}

// build builds a service with mistakes in it, and returns the path of the program.
func build(t *testing.T, service string, mistakes ...mistake) string {
	t.Helper()
	runFile, err := stack.FindRunFile(".")
	require.NoError(t, err)
	root, folder := filepath.Dir(runFile), t.TempDir()
	replace := map[string]string{}
	for _, m := range mistakes {
		path := filepath.Join(root, m.file)
		before := path
		if replace[path] != "" {
			before = replace[path] // another mistake in the same file
		}
		source, err := os.ReadFile(before)
		require.NoError(t, err)
		require.Equal(t, 1, strings.Count(string(source), m.right), "%s has changed; bring the mistake up to date: %s", m.file, m.right)
		replace[path] = filepath.Join(folder, filepath.Base(m.file))
		require.NoError(t, os.WriteFile(replace[path], []byte(strings.Replace(string(source), m.right, m.wrong, 1)), 0o600))
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "overlay.json"), overlay, 0o600))
	program := filepath.Join(folder, service)
	command := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-overlay", filepath.Join(folder, "overlay.json"), "-o", program, "./services/"+service)
	command.Dir, command.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	said, err := command.CombinedOutput()
	require.NoError(t, err, "%s", said)
	return program
}

func TestChecker_FindsMistakes(t *testing.T) {
	t.Parallel()
	stacktest.SkipIfShort(t)
	onEmbedded(t, "a mistake of a service is the same on all sets")
	const writer, change, payment = "services/internal/state/writer.go", "services/internal/state/change.go", "services/payments/payment.go"
	for _, c := range []struct {
		name, service string
		mistakes      []mistake
		promise       int
		says          string // in one of the violations
	}{
		{"the ETag condition dropped", "orders", []mistake{{change,
			"	if w.etag != \"\" {\n\t\top.Item.Etag = &client.ETag{Value: w.etag}\n\t}\n",
			"	if w.etag != \"\" && w.key[:5] != \"ticke\" {\n\t\top.Item.Etag = &client.ETag{Value: w.etag}\n\t} else if w.etag != \"\" {\n\t\top.Item.Options = nil\n\t}\n",
		}}, 1, "live orders at once"},
		{"events published before the commit", "orders", []mistake{
			{writer, "\tcause := w.store.execute(ctx, tx.ops)\n", "\te.publish()\n\tcause := w.store.execute(ctx, tx.ops)\n"},
			{writer, "\t\te.publish()\n\tcase result.lost:\n", "\tcase result.lost:\n"},
		}, 2, "there is no such thing"},
		{"the money taken before the order is complete", "payments", []mistake{{payment,
			"	case o.Status == OrderComplete && payment == Authorized:\n",
			"	case o.Status != OrderCancelled && payment == Authorized:\n",
		}}, 3, "before it was complete"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			out, err := chaos.Run(t.Context(), chaos.Options{
				Seed: 1, Time: 5 * time.Second, NoFaults: true, Settle: 3 * time.Second, Folder: t.TempDir(),
				Programs: map[string]string{c.service: build(t, c.service, c.mistakes...)},
			})
			require.NoError(t, err)
			require.True(t, slices.ContainsFunc(out.Report.Violations, func(v check.Violation) bool {
				return v.Promise == c.promise && strings.Contains(v.What, c.says) && len(v.History) > 0
			}), "%s", out)
		})
	}
}
