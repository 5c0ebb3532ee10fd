package stack

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// planned is a stack that is prepared and not started.
func planned(t *testing.T, opts Options) *Stack {
	t.Helper()
	if opts.FixedPorts == nil {
		opts.Folder = t.TempDir()
	}
	path, err := FindRunFile(".")
	require.NoError(t, err)
	run, err := ReadRunFile(path)
	require.NoError(t, err)
	opts.RunFile = path
	s := &Stack{opts: opts, root: filepath.Dir(path), folder: opts.Folder, moves: moves{}, secrets: map[string]string{}}
	t.Cleanup(s.release)
	require.NoError(t, s.assignPorts(run))
	require.NoError(t, s.choose(run))
	return s
}

func TestReplicas_HaveTheAppsIDAndPortsOfTheirOwn(t *testing.T) {
	s := planned(t, Options{Replicas: 3, Apps: []string{"orders"}})
	var names []string
	used := map[int]bool{}
	for _, a := range s.chosen {
		require.Equal(t, "orders", a.ID)
		names = append(names, a.Name)
		for _, port := range append(a.ports(), new(publicPort(a)), new(appMetricsPort(a))) {
			require.NotZero(t, *port)
			require.False(t, used[*port], "port %d twice", *port)
			used[*port] = true
		}
	}
	require.Equal(t, []string{"orders", "orders-2", "orders-3"}, names)
}

func TestReplicas_OnFixedPortsAreTenAboveTheOneBefore(t *testing.T) {
	ports := DefaultPorts()
	s := planned(t, Options{Replicas: 2, FixedPorts: &ports})
	require.Equal(t, "http://127.0.0.1:8103", s.URL("orders"))
	require.Equal(t, "http://127.0.0.1:8113", s.URL("orders-2"))
	require.Equal(t, "127.0.0.1:3613", s.SidecarGRPC("orders-2"))
	require.Equal(t, []string{"http://127.0.0.1:8080", "http://127.0.0.1:8090"}, s.GatewayURLs())
	require.Equal(t, "http://127.0.0.1:8103,http://127.0.0.1:8113", s.app("gateway").Env["ORDERS_URL"])
	require.Equal(t, "http://127.0.0.1:8303/metrics", s.AppMetrics("orders"))
	require.Equal(t, "http://127.0.0.1:8313/metrics", s.AppMetrics("orders-2"))
	require.Equal(t, "http://localhost:12112", s.app("payments-2").Env["STRIPE_SANDBOX_URL"], "what is no app's address stays")
}

func TestReplicas_OnFixedPortsTakeNoPortTwice(t *testing.T) {
	for name, ports := range map[string]Ports{"make run": DefaultPorts(), "dapr run": DaprPorts()} {
		t.Run(name, func(t *testing.T) {
			s := planned(t, Options{Replicas: MaxReplicas, FixedPorts: &ports})
			s.infra = []string{NATS, Postgres, Redis, Placement, Scheduler, Sandbox}
			seen := map[int]string{}
			for _, use := range s.fixedPorts() {
				require.Empty(t, seen[use.port], "port %d (%s)", use.port, use.what)
				seen[use.port] = use.what
			}
			require.Greater(t, len(seen), MaxReplicas*6*5)
		})
	}
}

func TestEnvironment_HasSettingsOfGoUnlessSomebodySetsThem(t *testing.T) {
	for _, name := range []string{"GOGC", "GOMEMLIMIT", "GOMAXPROCS"} {
		t.Setenv(name, "") // restored at the end
		require.NoError(t, os.Unsetenv(name))
	}
	t.Setenv("GOGC", "50")
	s := planned(t, Options{AppEnv: map[string]map[string]string{"tickets": {"GOMEMLIMIT": "1GiB"}}})
	tickets, auth := s.app("tickets"), s.app("auth")
	require.Equal(t, "50", s.environment(nil)["GOGC"], "the environment wins")
	require.Equal(t, memoryLimit, s.environment(nil)["GOMEMLIMIT"])
	require.Equal(t, "1GiB", s.environment(&tickets)["GOMEMLIMIT"], "and so do the options")
	require.NotEmpty(t, s.environment(&tickets)["GOMAXPROCS"])
	require.Empty(t, s.environment(&auth)["GOMAXPROCS"], "it hashes passwords on all cores")
	require.Equal(t, []int{1, 1, 2, 4}, []int{threads(1), threads(2), threads(4), threads(8)})
}

func TestReplicas_EnvironmentOfAllOrOfOne(t *testing.T) {
	s := planned(t, Options{Replicas: 2, AppEnv: map[string]map[string]string{
		"orders": {"A": "all", "B": "all"}, "orders-2": {"B": "second"},
	}})
	first, second := s.app("orders"), s.app("orders-2")
	require.Equal(t, "all", s.environment(&first)["B"])
	require.Equal(t, "all", s.environment(&second)["A"])
	require.Equal(t, "second", s.environment(&second)["B"])
}
