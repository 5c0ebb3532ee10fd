package stack

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// planned is the plan of a stack of the real run file, on ports from 40001.
func planned(t *testing.T, opts Options, environ map[string]string) *plan {
	t.Helper()
	if opts.FixedPorts == nil {
		opts.Folder = "/folder"
	}
	port := 40000
	l, err := newLayout(opts, environ, func() (int, error) { port++; return port, nil }, runsHere)
	require.NoError(t, err)
	return newPlan(l, credentials{
		env: map[string]string{"DAPR_API_TOKEN": "api", "APP_API_TOKEN": "app"}, passwords: passwords{[]byte("key")},
		certificates: certificatesIn("/folder/certs"), anchors: "anchors",
	})
}

func (p *plan) program(t *testing.T, name string) program {
	t.Helper()
	for _, program := range p.programs {
		if program.name == name {
			return program
		}
	}
	require.FailNow(t, "no such program", name)
	return program{}
}

func (p *plan) file(t *testing.T, name string) string {
	t.Helper()
	for _, file := range p.files {
		if filepath.Base(file.path) == name {
			return file.text
		}
	}
	require.FailNow(t, "no such file", name)
	return ""
}

func TestPlan_IsTheSameForTheSameInput(t *testing.T) {
	for _, set := range []string{SetEmbedded, SetNATS, SetRedis} {
		opts := Options{Set: set, Replicas: 2, Profiles: true, Cuttable: true}
		require.Equal(t, planned(t, opts, nil), planned(t, opts, nil))
	}
}

func TestPlan_HasAProgramForEachServerAppAndSidecar(t *testing.T) {
	for set, servers := range map[string][]string{SetEmbedded: {"nats"}, SetNATS: {"nats", "postgres"}, SetRedis: {"redis", "postgres"}} {
		t.Run(set, func(t *testing.T) {
			p := planned(t, Options{Set: set}, nil)
			want := append(servers, "sentry", "placement", "scheduler", "sandbox")
			runFile, err := FindRunFile(".")
			require.NoError(t, err)
			run, err := ReadRunFile(runFile)
			require.NoError(t, err)
			for _, app := range run.Apps {
				want = append(want, app.ID, app.ID+"-dapr")
			}
			var names, stopped []string
			for _, program := range p.programs {
				names = append(names, program.name)
			}
			require.ElementsMatch(t, want, names)
			for _, group := range p.stopOrder() {
				stopped = append(stopped, group...)
			}
			require.Subset(t, stopped, names, "every program is stopped")
		})
	}
}

func TestPlan_StartsAndStopsInStages(t *testing.T) {
	p := planned(t, Options{Set: SetNATS, Replicas: 2}, nil)
	for name, want := range map[string]stage{
		"sentry": first, "nats": early, "postgres": early, "sandbox": early, "orders": early, "orders-2": early,
		"placement": controlPlane, "scheduler": controlPlane, "orders-dapr": sidecars, "orders-2-dapr": furtherSidecars,
	} {
		require.Equal(t, want, p.program(t, name).stage, name)
	}
	require.Equal(t, syscall.SIGINT, p.program(t, "postgres").stopSignal)
	require.True(t, p.program(t, "postgres").asPostgres)
	require.Equal(t, probe{publicPort(p.app("orders")), "/readyz"}, p.program(t, "orders").ready)

	order := p.stopOrder()
	require.Equal(t, []string{"gateway", "gateway-2"}, order[0])
	require.Contains(t, order[1], "payments-2")
	require.Contains(t, order[2], "gateway-2-dapr")
}

func TestPlan_WithoutAControlPlaneHasNoSentryAndNoMTLS(t *testing.T) {
	p := planned(t, Options{Apps: []string{"orders"}, Infra: []string{NATS}}, nil)
	require.Equal(t, []string{NATS}, p.infra)
	require.NotContains(t, p.program(t, "orders-dapr").args, "--enable-mtls")
	require.NotContains(t, p.program(t, "orders-dapr").env, "DAPR_TRUST_ANCHORS")

	p = planned(t, Options{Apps: []string{"orders"}, Infra: []string{NATS, Placement}}, nil)
	require.Equal(t, []string{Sentry, NATS, Placement}, p.infra, "placement needs sentry")
	require.Contains(t, p.program(t, "orders-dapr").args, "--enable-mtls")
	require.Equal(t, "anchors", p.program(t, "orders-dapr").env["DAPR_TRUST_ANCHORS"])
	require.Equal(t, "/folder/.state/identities/apps/dapr-placement/token", p.program(t, "placement").env["DAPR_SENTRY_TOKEN_FILE"])
	require.NotContains(t, p.program(t, "orders").env, "DAPR_SENTRY_TOKEN_FILE")
}

func TestPlan_RefusesNamesThatDoNotExist(t *testing.T) {
	next := func() (int, error) { return 1, nil }
	_, err := newLayout(Options{Apps: []string{"pigeons"}}, nil, next, runsHere)
	require.ErrorContains(t, err, `dapr.yaml has no app "pigeons"`)
	_, err = newLayout(Options{Infra: []string{"pigeons"}}, nil, next, runsHere)
	require.ErrorContains(t, err, `no process is called "pigeons"`)
}

func TestPlan_EndsWithoutFreePorts(t *testing.T) {
	_, err := newLayout(Options{}, nil, func() (int, error) { return 0, syscall.EADDRINUSE }, runsHere)
	require.ErrorIs(t, err, syscall.EADDRINUSE)
}

func TestPlan_TakesTheSetFromTheOptionThenTheEnvironmentThenTheRunFile(t *testing.T) {
	require.Equal(t, SetEmbedded, planned(t, Options{}, nil).set.name)
	environ := map[string]string{"INFRA": SetRedis}
	require.Equal(t, SetRedis, planned(t, Options{}, environ).set.name)
	p := planned(t, Options{Set: SetNATS}, environ)
	require.Equal(t, SetNATS, p.set.name)
	require.Equal(t, "/folder/.state/set-nats", p.dataFolder())
	require.Contains(t, p.copies[0].from, "components/nats")
	require.Contains(t, p.program(t, "orders-dapr").args, p.copies[0].to)
	require.Equal(t, "/folder/certs/trusted", p.program(t, "orders-dapr").env["SSL_CERT_DIR"])
}

func TestPlan_OnTheUsualPortsSidecarsReadTheComponentsThemselves(t *testing.T) {
	usual := DefaultPorts()
	require.Empty(t, planned(t, Options{FixedPorts: &usual}, nil).copies)
	moved := DefaultPorts()
	moved.NATS++
	require.NotEmpty(t, planned(t, Options{FixedPorts: &moved}, nil).copies)
}

func TestPlan_SidecarsReachServersThroughTheProxy(t *testing.T) {
	for _, set := range []string{SetEmbedded, SetNATS} {
		p := planned(t, Options{Set: set, Cuttable: true}, nil)
		require.Contains(t, p.file(t, "orders.json"), local(p.proxies[NATS]))
		require.Contains(t, p.natsURLFor(administrator), local(p.ports.NATS), "administrators reach the server itself")
		require.Contains(t, p.natsConfig(), local(p.ports.NATS))
	}
	p := planned(t, Options{Set: SetRedis, Cuttable: true}, nil)
	require.Equal(t, p.proxies[Redis], p.moves[DefaultPorts().Redis], "components name the address of Redis")
	require.Equal(t, p.proxies[Postgres], p.moves[DefaultPorts().Postgres])
}

func TestPlan_EachUserOfTheBrokerHasItsRightsAndAPasswordOfItsOwn(t *testing.T) {
	config := planned(t, Options{}, nil).file(t, "nats.conf")
	require.Contains(t, config, `user: "orders"`)
	require.Contains(t, config, `"events.orders"`)
	redis := planned(t, Options{Set: SetRedis}, nil).file(t, "redis.conf")
	require.Contains(t, redis, "user orders on >")
	p := planned(t, Options{}, nil)
	require.NotEqual(t, p.passwords.of(NATS, "orders"), p.passwords.of(NATS, "payments"))
}

func TestPlan_EachAppHasTokensOfItsOwnUnlessDaprsCLIStartsThem(t *testing.T) {
	p := planned(t, Options{}, nil)
	orders, payments := p.program(t, "orders").env, p.program(t, "payments").env
	require.NotEqual(t, orders["DAPR_API_TOKEN"], payments["DAPR_API_TOKEN"])
	require.Equal(t, orders["DAPR_API_TOKEN"], p.program(t, "orders-dapr").env["DAPR_API_TOKEN"])
	require.Equal(t, orders["DAPR_API_TOKEN"], p.file(t, "orders"))
	require.NotContains(t, p.program(t, "nats").env, "DAPR_API_TOKEN")

	p = planned(t, Options{Apps: []string{}, Infra: []string{Servers}}, nil)
	require.Equal(t, "api", p.file(t, "orders"))
}

func TestPlan_ASidecarAloneHasTheSettingsOfTheFirstApp(t *testing.T) {
	p := planned(t, Options{Sidecars: []Sidecar{{ID: "orders", AppPort: 7, Resources: []string{"/mine"}}}, ExtraResources: []string{"/more"}, SidecarLogLevel: "debug"}, nil)
	require.Len(t, p.started, 1)
	args := strings.Join(p.program(t, "orders-dapr").args, " ")
	require.Contains(t, args, "--app-port 7 ")
	require.Contains(t, args, "--log-level debug")
	require.NotContains(t, args, "--enable-app-health-check")
	require.Equal(t, "/mine", p.copies[0].from)
	require.Equal(t, "/more", p.copies[1].from)
}

func TestPlan_TheWebhookGoesToTheGatewayOrToPayments(t *testing.T) {
	all := planned(t, Options{}, nil)
	require.Contains(t, all.program(t, "sandbox").args, publicURL(all.app("gateway"))+"/api/payments/webhook")
	some := planned(t, Options{Apps: []string{"payments"}}, nil)
	require.Contains(t, some.program(t, "sandbox").args, publicURL(some.app("payments"))+"/api/payments/webhook")
}

func TestReplicas_HaveTheAppsIDAndPortsOfTheirOwn(t *testing.T) {
	p := planned(t, Options{Replicas: 3, Apps: []string{"orders"}}, nil)
	var names []string
	used := map[int]bool{}
	for _, a := range p.started {
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
	p := planned(t, Options{Replicas: 2, FixedPorts: &ports}, nil)
	s := &Stack{plan: p}
	require.Equal(t, "http://127.0.0.1:8103", s.URL("orders"))
	require.Equal(t, "http://127.0.0.1:8113", s.URL("orders-2"))
	require.Equal(t, "127.0.0.1:3613", s.SidecarGRPC("orders-2"))
	require.Equal(t, []string{"http://127.0.0.1:8080", "http://127.0.0.1:8090"}, s.GatewayURLs())
	require.Equal(t, "http://127.0.0.1:8103,http://127.0.0.1:8113", p.app("gateway").Env["ORDERS_URL"])
	require.Equal(t, "http://127.0.0.1:8303/metrics", s.AppMetrics("orders"))
	require.Equal(t, "http://127.0.0.1:8313/metrics", s.AppMetrics("orders-2"))
	require.Equal(t, "http://localhost:12112", p.app("payments-2").Env["STRIPE_SANDBOX_URL"], "an address that is no app's stays")
}

func TestReplicas_OnFixedPortsTakeNoPortTwice(t *testing.T) {
	for name, ports := range map[string]Ports{"make run": DefaultPorts(), "dapr run": DaprPorts()} {
		t.Run(name, func(t *testing.T) {
			p := planned(t, Options{Replicas: MaxReplicas, FixedPorts: &ports}, nil)
			p.infra = []string{NATS, Postgres, Redis, Sentry, Placement, Scheduler, Sandbox}
			seen := map[int]string{}
			for _, use := range p.fixedPorts() {
				require.Empty(t, seen[use.port], "port %d (%s)", use.port, use.what)
				seen[use.port] = use.what
			}
			require.Greater(t, len(seen), MaxReplicas*6*5)
		})
	}
}

func TestEnvironment_HasTheGatewaysAddressUnlessAnotherIsSet(t *testing.T) {
	p := planned(t, Options{}, nil)
	require.Equal(t, "http://localhost:"+p.program(t, gateway).env["PORT"], p.program(t, "tickets").env["PUBLIC_URL"])
	p = planned(t, Options{}, map[string]string{"PUBLIC_URL": "https://tickets.example.com"})
	require.Equal(t, "https://tickets.example.com", p.program(t, "tickets").env["PUBLIC_URL"])
}

func TestEnvironment_HasSettingsOfGoUnlessOthersAreSet(t *testing.T) {
	p := planned(t, Options{AppEnv: map[string]map[string]string{"tickets": {"GOMEMLIMIT": "1GiB"}}}, map[string]string{"GOGC": "50"})
	tickets, auth, catalogue := p.program(t, "tickets").env, p.program(t, "auth").env, p.program(t, "catalogue").env
	require.Equal(t, "50", p.environment(nil)["GOGC"], "the environment of the launcher overrides them")
	require.Equal(t, memoryLimit, p.environment(nil)["GOMEMLIMIT"])
	require.Equal(t, "1GiB", tickets["GOMEMLIMIT"], "and so do the options")
	require.NotEmpty(t, tickets["GOMAXPROCS"])
	require.Empty(t, auth["GOMAXPROCS"], "it hashes passwords on all cores")
	require.Empty(t, catalogue["GOMAXPROCS"], "and searches")
	require.Equal(t, []int{1, 1, 2, 4}, []int{threads(1), threads(2), threads(4), threads(8)})
}

func TestReplicas_EnvironmentOfAllOrOfOne(t *testing.T) {
	p := planned(t, Options{Replicas: 2, AppEnv: map[string]map[string]string{
		"orders": {"A": "all", "B": "all"}, "orders-2": {"B": "second"},
	}}, nil)
	require.Equal(t, "all", p.program(t, "orders").env["B"])
	require.Equal(t, "all", p.program(t, "orders-2").env["A"])
	require.Equal(t, "second", p.program(t, "orders-2").env["B"])
}
