package stack_test

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/local/stack/stacktest"
)

// On a cluster the runtime makes the streams (nats-streams), here the stack does: they are the same.
func TestStreams_AreThoseThatTheRuntimeMakes(t *testing.T) {
	s := stacktest.Start(t, stack.Options{
		Folder: t.TempDir(), Sidecars: []stack.Sidecar{{ID: "orders"}}, Infra: []string{stack.NATS, stack.Placement, stack.Scheduler},
	})
	conn, err := nats.Connect(s.NATSURL())
	require.NoError(t, err)
	defer conn.Close()
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	configs := func() map[string]jetstream.StreamConfig {
		all := map[string]jetstream.StreamConfig{}
		streams := js.ListStreams(t.Context())
		for stream := range streams.Info() {
			all[stream.Config.Name] = stream.Config
		}
		require.NoError(t, streams.Err())
		return all
	}
	made := configs()
	require.Len(t, made, 2)
	for name := range made {
		require.NoError(t, js.DeleteStream(t.Context(), name))
	}

	out, err := exec.Command(filepath.Join(filepath.Dir(house(t)), ".build", "runtime"), "nats-streams", "--server="+s.NATSURL()).CombinedOutput()
	require.NoError(t, err, string(out))

	again := configs()
	for name := range again {
		made, remade := made[name], again[name]
		made.Metadata, remade.Metadata = nil, nil
		require.Equal(t, made, remade)
	}
	require.Len(t, again, 2)
}

func TestRuntime_IsTheProgramWhoseNameItIsCalledBy(t *testing.T) {
	runtime, err := filepath.Abs(filepath.Join(filepath.Dir(house(t)), ".build", "runtime"))
	require.NoError(t, err)
	link := filepath.Join(t.TempDir(), "nats-server")
	require.NoError(t, exec.Command("ln", "-s", runtime, link).Run())
	out, err := exec.Command(link, "--version").CombinedOutput()
	require.NoError(t, err)
	require.Contains(t, string(out), "nats-server: v2")
}
