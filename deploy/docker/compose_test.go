// Package docker holds what there is to test of docker-compose.yaml without a container engine.
package docker

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"
)

type composeFile struct {
	Services map[string]struct {
		Image       string
		Entrypoint  []string
		Command     []string
		Environment map[string]string
		EnvFile     []struct {
			Path     string
			Required bool
		} `yaml:"env_file"`
		NetworkMode string `yaml:"network_mode"`
		ReadOnly    bool   `yaml:"read_only"`
		MemLimit    string `yaml:"mem_limit"`
		Networks    map[string]struct{ Aliases []string }
		Volumes     []string
		Ports       []string
	}
}

type runFile struct {
	Common struct {
		AppHealthCheckPath     string `yaml:"appHealthCheckPath"`
		AppHealthProbeInterval int    `yaml:"appHealthProbeInterval"`
		AppHealthProbeTimeout  int    `yaml:"appHealthProbeTimeout"`
		AppHealthThreshold     int    `yaml:"appHealthThreshold"`
	}
	Apps []struct {
		ID      string `yaml:"appID"`
		Command []string
	}
}

func read(t *testing.T, path string, into any) {
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(text, into))
}

func TestCompose_GivesEveryAppOfTheRunFileItsSidecar(t *testing.T) {
	var compose composeFile
	var run runFile
	read(t, "../../docker-compose.yaml", &compose)
	read(t, "../../dapr.yaml", &run)
	require.NotEmpty(t, run.Apps)
	text, err := os.ReadFile("Dockerfile")
	require.NoError(t, err)
	dockerfile := string(text)

	var sidecars []string
	for name := range compose.Services {
		if strings.HasSuffix(name, "-dapr") {
			sidecars = append(sidecars, name)
		}
	}
	require.Len(t, sidecars, len(run.Apps))

	for _, app := range run.Apps {
		service, sidecar, pod := compose.Services[app.ID], compose.Services[app.ID+"-dapr"], compose.Services[app.ID+"-pod"]
		require.Contains(t, service.Image, "/"+app.ID+":", app.ID)
		require.True(t, service.ReadOnly && sidecar.ReadOnly, app.ID)
		require.Equal(t, "service:"+app.ID+"-pod", service.NetworkMode, app.ID)
		require.Equal(t, service.NetworkMode, sidecar.NetworkMode, app.ID)
		require.Equal(t, []string{app.ID}, pod.Networks["default"].Aliases, app.ID)
		// Tokens that no other service knows, and users of its own at the servers, which its sidecar alone knows.
		own := strings.ToUpper(strings.ReplaceAll(app.ID, "-", "_"))
		for _, token := range []string{"APP_API_TOKEN", "DAPR_API_TOKEN"} {
			require.Contains(t, sidecar.Environment[token], "${"+token+"_"+own+":?", app.ID)
			require.Equal(t, "${"+token+"_"+own+"}", service.Environment[token], app.ID)
		}
		if app.ID == "gateway" {
			require.NotContains(t, sidecar.Environment, "STATE_CONNECTION", "the gateway keeps nothing")
			require.NotContains(t, sidecar.Environment, "NATS_URL", "and publishes nothing")
		} else {
			require.Contains(t, sidecar.Environment["STATE_CONNECTION"], "/boxoffice_"+app.ID+"?", app.ID)
			require.Equal(t, "nats://"+app.ID+":${NATS_PASSWORD_"+own+"}@nats:4222", sidecar.Environment["NATS_URL"])
			require.Equal(t, "${REDIS_PASSWORD_"+own+"}", sidecar.Environment["REDIS_PASSWORD"])
			require.Contains(t, compose.Services["nats"].Environment, "NATS_PASSWORD_"+own)
			require.Contains(t, compose.Services["redis"].Environment, "REDIS_PASSWORD_"+own)
		}
		// It proves who it is with a token that it alone sees.
		require.Equal(t, "/identities/apps/"+app.ID+"/token", sidecar.Environment["DAPR_SENTRY_TOKEN_FILE"])
		require.Contains(t, sidecar.Volumes, "identity-"+app.ID+":/identities/apps/"+app.ID+":ro")
		require.Contains(t, compose.Services["identities"].Command, "--app="+app.ID)
		require.Contains(t, compose.Services["identities"].Volumes, "identity-"+app.ID+":/identities/apps/"+app.ID)
		require.Regexp(t, `mkdir -p /identities/apps/\$app`, dockerfile)
		require.Regexp(t, `for app in .*\b`+app.ID+`\b.*; do mkdir -p /identities/apps`, dockerfile, "a new volume takes its owner from the image")
		for _, volume := range sidecar.Volumes {
			require.True(t, !strings.HasPrefix(volume, "identity-") || strings.HasPrefix(volume, "identity-"+app.ID+":"), "%s sees %s", app.ID, volume)
		}
		require.Empty(t, service.Volumes, app.ID)
		require.Equal(t, ":9091", service.Environment["METRICS_ADDRESS"])
		for variable, of := range map[string]string{"auth": "ORDERS_URL", "tickets": "AUTH_URL", "orders": "AUTH_URL", "payments": "AUTH_URL", "catalogue": "AUTH_URL"} {
			if variable == app.ID {
				require.Equal(t, "http://"+strings.ToLower(strings.TrimSuffix(of, "_URL"))+":8080", service.Environment[of])
			}
		}
		require.True(t, slices.Contains(sidecar.Volumes, "./components/events:/components/events:ro"), app.ID)
		for _, flag := range []string{
			"--app-id=" + app.ID,
			"--app-port=" + service.Environment["APP_PORT"],
			"--dapr-grpc-port=" + service.Environment["DAPR_GRPC_PORT"],
			"--resources-path=/components/events",
			"--enable-mtls",
			"--sentry-address=sentry:50003",
			"--dapr-internal-grpc-listen-address=127.0.0.1",
			"--dapr-listen-addresses=127.0.0.1",
			"--app-health-check-path=" + run.Common.AppHealthCheckPath,
			"--app-health-probe-interval=" + strconv.Itoa(run.Common.AppHealthProbeInterval),
			"--app-health-probe-timeout=" + strconv.Itoa(run.Common.AppHealthProbeTimeout),
			"--app-health-threshold=" + strconv.Itoa(run.Common.AppHealthThreshold),
		} {
			require.Contains(t, slices.Concat(sidecar.Entrypoint, sidecar.Command), flag, app.ID)
		}
	}
}

// The files that the README names really pass the settings on.
func TestCompose_SettingsComeFromTheFilesThatTheREADMENames(t *testing.T) {
	var compose composeFile
	var run runFile
	read(t, "../../docker-compose.yaml", &compose)
	read(t, "../../dapr.yaml", &run)
	passed := map[string]bool{"STRIPE_SECRET_KEY": true} // by payments/stripe.env
	for _, app := range run.Apps {
		service := compose.Services[app.ID]
		require.NotEmpty(t, service.EnvFile, app.ID)
		require.Equal(t, "settings.env", service.EnvFile[0].Path, app.ID)
		require.False(t, service.EnvFile[0].Required, app.ID)
		for name, value := range service.Environment {
			if strings.HasPrefix(value, "${"+name+"}") || strings.HasPrefix(value, "${"+name+":") {
				passed[name] = true
			}
		}
	}
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	_, list, found := strings.Cut(string(text), "- **`.env`** has those that the compose file names:")
	require.True(t, found)
	list, _, _ = strings.Cut(list, ". In `settings.env`")
	named := map[string]bool{}
	for _, name := range regexp.MustCompile("`([A-Z_]+)`").FindAllStringSubmatch(list, -1) {
		named[name[1]] = true
	}
	require.Equal(t, passed, named)
}

// Go's collector must run before the kernel ends the process, and need not much earlier.
func TestCompose_GoKnowsTheMemoryLimit(t *testing.T) {
	var compose composeFile
	var run runFile
	read(t, "../../docker-compose.yaml", &compose)
	read(t, "../../dapr.yaml", &run)
	number := regexp.MustCompile(`\d+`)
	mebibytes := func(text string) float64 {
		n, err := strconv.Atoi(number.FindString(text))
		require.NoError(t, err, text)
		return float64(n)
	}
	limited := 0
	for name, service := range compose.Services {
		if service.MemLimit == "" {
			continue
		}
		limited++
		require.InDelta(t, 0.86, mebibytes(service.Environment["GOMEMLIMIT"])/mebibytes(service.MemLimit), 0.04, name)
	}
	require.Equal(t, 2*len(run.Apps)+1, limited, "the services, their sidecars, NATS")
}

// The control plane takes nobody without a certificate, and sentry nobody without a token.
func TestCompose_TheControlPlaneKnowsWhoAsks(t *testing.T) {
	var compose composeFile
	read(t, "../../docker-compose.yaml", &compose)
	for _, name := range []string{"placement", "scheduler"} {
		service := compose.Services[name]
		require.Contains(t, service.Command, "--tls-enabled")
		require.Contains(t, service.Command, "--sentry-address=sentry:50003")
		require.Contains(t, service.Command, "--trust-anchors-file=/identities/apps/dapr-"+name+"/ca.crt")
		require.Equal(t, "/identities/apps/dapr-"+name+"/token", service.Environment["DAPR_SENTRY_TOKEN_FILE"])
		require.Contains(t, service.Volumes, "identity-dapr-"+name+":/identities/apps/dapr-"+name+":ro")
	}
	require.Contains(t, compose.Services["sentry"].Command, "--config=/identities/sentry/config.yaml")
	for name, service := range compose.Services {
		for _, volume := range service.Volumes {
			if strings.HasPrefix(volume, "identities:") || strings.HasPrefix(volume, "identity-sentry:") {
				require.Contains(t, []string{"identities", "sentry"}, name, "%s sees keys that are not its own", name)
			}
		}
		// What the sidecars' host ports would be good for nobody needs.
		require.True(t, len(service.Ports) == 0 || slices.Contains([]string{"gateway-pod", "sandbox", "prometheus", "grafana"}, name), name)
		require.True(t, name != "sandbox" || strings.HasPrefix(service.Ports[0], "127.0.0.1:"), "its calls need no password")
	}
}

func TestCompose_ConfigurationsAllowWhatTheServicesNeed(t *testing.T) {
	type configuration struct {
		Spec struct {
			AccessControl map[string]any `yaml:"accessControl"`
			API           struct {
				Allowed []struct{ Name, Version, Protocol string }
			}
		}
	}
	var here, actors, local, localActors configuration
	read(t, "components/shared/config.yaml", &here)
	read(t, "components/shared/config-actors.yaml", &actors)
	read(t, "../../components/nats/config.yaml", &local)
	read(t, "../../components/nats/config-actors.yaml", &localActors)
	require.Equal(t, "deny", here.Spec.AccessControl["defaultAction"])
	require.NotEmpty(t, here.Spec.API.Allowed)
	require.Equal(t, local, here, "as on one machine")
	require.Equal(t, localActors, actors)
	var compose composeFile
	read(t, "../../docker-compose.yaml", &compose)
	for name, service := range compose.Services {
		if app, found := strings.CutSuffix(name, "-dapr"); found {
			want := "--config=/components/compose/shared/config.yaml"
			if app == "expiration" {
				want = "--config=/components/compose/shared/config-actors.yaml"
			}
			require.Contains(t, service.Command, want, app)
		}
	}
}

// The secret store is the environment of a sidecar, so each key is in the environment of one sidecar alone.
func TestCompose_ASigningKeyIsInOneSidecarAlone(t *testing.T) {
	var compose composeFile
	read(t, "../../docker-compose.yaml", &compose)
	var component struct{ Scopes []string }
	read(t, "components/shared/secrets.yaml", &component)
	require.ElementsMatch(t, []string{"auth", "orders"}, component.Scopes)
	for app, name := range map[string]string{"auth": "jwt-signing-key", "orders": "pass-signing-key"} {
		for service, one := range compose.Services {
			_, found := one.Environment[name]
			require.Equal(t, service == app+"-dapr", found, "%s in %s", name, service)
		}
	}
}

// Compose refuses to start until PAYMENTS is chosen, and needs nothing else but what secrets.sh makes.
func TestCompose_StartsWithWhatSecretsMakesAndAWayToPay(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	folder := checkout(t)
	require.NoError(t, os.WriteFile(filepath.Join(folder, ".env"), []byte("POSTGRES_PASSWORD=as-it-was\nNATS_TOKEN=of-a-release-before\n"), 0o600))
	out, err := run(folder, "deploy/docker/secrets.sh")
	require.NoError(t, err, out)
	require.Contains(t, out, "PAYMENTS=sandbox")
	text, err := os.ReadFile("../../docker-compose.yaml")
	require.NoError(t, err)
	env := func() map[string]string {
		all := map[string]string{}
		lines, err := os.ReadFile(filepath.Join(folder, ".env"))
		require.NoError(t, err)
		for _, line := range strings.Split(string(lines), "\n") {
			if name, value, found := strings.Cut(line, "="); found {
				require.NotContains(t, all, name, "twice in .env")
				all[name] = value
			}
		}
		return all
	}
	made := env()
	require.Equal(t, "as-it-was", made["POSTGRES_PASSWORD"])
	require.NotEqual(t, made["DAPR_API_TOKEN_AUTH"], made["DAPR_API_TOKEN_ORDERS"])

	_, err = interpolate(string(text), made)
	require.EqualError(t, err, "PAYMENTS: set PAYMENTS in .env, to stripe (and STRIPE_SECRET_KEY) or to sandbox (moves no money)")
	// Compose fills in the file of the chosen way as well.
	way := func(env map[string]string) (string, error) {
		text, err := os.ReadFile("payments/" + env["PAYMENTS"] + ".env")
		require.NoError(t, err)
		return interpolate(string(text), env)
	}
	made["PAYMENTS"] = "sandbox"
	filled, err := interpolate(string(text), made)
	require.NoError(t, err)
	require.Contains(t, filled, "path: deploy/docker/payments/sandbox.env\n")
	chosen, err := way(made)
	require.NoError(t, err)
	require.Contains(t, chosen, "\nSTRIPE_SANDBOX_URL=http://sandbox:12112\n")
	made["PAYMENTS"] = "stripe"
	_, err = way(made)
	require.EqualError(t, err, "STRIPE_SECRET_KEY: PAYMENTS=stripe needs it in .env")
	made["STRIPE_SECRET_KEY"] = "sk_test_1"
	filled, err = interpolate(string(text), made)
	require.NoError(t, err)
	chosen, err = way(made)
	require.NoError(t, err)
	require.NotContains(t, filled+chosen, "STRIPE_SANDBOX_URL", "with a key there is no way to the sandbox")
	require.Equal(t, 1, strings.Count(filled+chosen, "sk_test_1"), "the key has one name")

	again, err := run(folder, "deploy/docker/secrets.sh")
	require.NoError(t, err, again)
	delete(made, "STRIPE_SECRET_KEY")
	delete(made, "PAYMENTS")
	require.Equal(t, made, env(), "what is there stays")
}

// Compose refuses every command without PAYMENTS, so each job that runs it sets PAYMENTS.
func TestWorkflow_JobsThatUseComposeSetPayments(t *testing.T) {
	var workflow struct {
		Jobs map[string]struct {
			Env   map[string]string
			Steps []struct{ Run string }
		}
	}
	read(t, "../../.github/workflows/checks.yml", &workflow)
	found := 0
	for name, job := range workflow.Jobs {
		for _, step := range job.Steps {
			if strings.Contains(step.Run, "docker compose ") {
				found++
				require.Equal(t, "sandbox", job.Env["PAYMENTS"], name)
				break
			}
		}
	}
	require.Equal(t, 2, found)
}

// interpolate fills in variables as compose does: ${NAME}, ${NAME:-default}, ${NAME:+instead}, ${NAME:?why}, one in the other, and
// $$ for a dollar.
func interpolate(text string, env map[string]string) (string, error) {
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case strings.HasPrefix(text[i:], "$$"):
			out.WriteByte('$')
			i++
		case strings.HasPrefix(text[i:], "${"):
			depth, end := 0, i+1
			for ; end < len(text); end++ {
				if text[end] == '{' {
					depth++
				} else if text[end] == '}' {
					if depth--; depth == 0 {
						break
					}
				}
			}
			name, operator, rest := text[i+2:end], "", ""
			if at := strings.Index(name, ":"); at >= 0 {
				name, operator, rest = name[:at], name[at:at+2], name[at+2:]
			}
			value := env[name]
			switch {
			case operator == ":?" && value == "":
				return "", fmt.Errorf("%s: %s", name, rest)
			case operator == ":-" && value == "", operator == ":+" && value != "":
				filled, err := interpolate(rest, env)
				if err != nil {
					return "", err
				}
				value = filled
			case operator == ":+":
				value = ""
			}
			out.WriteString(value)
			i = end
		default:
			out.WriteByte(text[i])
		}
	}
	return out.String(), nil
}

// The image of the gateway is built without Node and without what is in anybody's dist: the Dockerfile makes the bundle, by the same script
// as make build.
func TestDockerfile_BundlesTheStorefrontForTheGateway(t *testing.T) {
	text, err := os.ReadFile("Dockerfile")
	require.NoError(t, err)
	_, stage, found := strings.Cut(string(text), "AS build-service\n")
	require.True(t, found)
	stage, _, _ = strings.Cut(stage, "\nFROM ")
	bundle, build := strings.Index(stage, "services/storefront/bundle.sh /tmp/esbuild"), strings.Index(stage, `"./services/${SERVICE}"`)
	require.Greater(t, bundle, 0)
	require.Greater(t, build, bundle, "the bundle is there before Go embeds it")
	require.NotContains(t, stage, "npm")
	require.Contains(t, stage, "COPY deploy/local/tools/go.mod deploy/local/tools/go.sum tools/")
	makefile, err := os.ReadFile("../../Makefile")
	require.NoError(t, err)
	require.Contains(t, string(makefile), "services/storefront/bundle.sh $<")
	ignored, err := os.ReadFile("../../.dockerignore")
	require.NoError(t, err)
	require.Contains(t, string(ignored), "\n**/dist\n!services/storefront/third_party/**/dist\n")
}
