package chaos_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/proof/chaos"
)

func TestChaos_BreaksNoPromise(t *testing.T) {
	if testing.Short() {
		t.Skip("needs real sidecars")
	}
	out, err := chaos.Run(t.Context(), chaos.Options{Seed: 51, Time: 20 * time.Second, Folder: t.TempDir(), Log: t.Logf})
	require.NoError(t, err)
	t.Logf("\n%s", out)
	require.True(t, out.Right(), "%s", out)
	require.NotEmpty(t, out.Faults)
	require.NotZero(t, out.Report.Orders["complete"], "orders were paid")
	require.NotZero(t, out.Report.Orders["cancelled (expired)"], "orders expired")
}
