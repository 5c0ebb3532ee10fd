package proof

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// `make k8s-delete` takes volumes along, so for staging and production it asks. kubectl is one that writes down what it is asked.
func TestDelete_OfStagingAndProductionIsAskedFor(t *testing.T) {
	folder := t.TempDir()
	done := filepath.Join(folder, "done")
	kubectl := filepath.Join(folder, "kubectl")
	require.NoError(t, os.WriteFile(kubectl, []byte("#!/bin/sh\n[ \"$1\" = config ] && { echo a-cluster; exit; }\necho \"$@\" >> "+done+"\n"), 0o755))
	for _, test := range []struct {
		overlay, answer, confirm string
		deleted                  bool
	}{
		{"dev", "", "", true},
		{"staging", "", "", false},
		{"staging", "yes\n", "", false},
		{"production", "staging\n", "", false},
		{"production", "production\n", "", true},
		{"production", "", "production", true},
		{"production", "", "staging", false},
	} {
		_ = os.Remove(done)
		cmd := exec.Command("make", "-s", "k8s-delete", "OVERLAY="+test.overlay, "CONFIRM="+test.confirm, "KUBECTL="+kubectl)
		cmd.Dir, cmd.Stdin = root, strings.NewReader(test.answer)
		out, err := cmd.CombinedOutput()
		if !test.deleted {
			require.Error(t, err, "%v: %s", test, out)
			require.Contains(t, string(out), "a-cluster", "it names the cluster")
			require.NoFileExists(t, done)
			continue
		}
		require.NoError(t, err, "%v: %s", test, out)
		asked, err := os.ReadFile(done)
		require.NoError(t, err)
		require.Equal(t, "delete --ignore-not-found -k deploy/k8s/overlays/"+test.overlay+"\n", string(asked))
	}
}
