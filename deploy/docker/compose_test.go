// Package docker holds what there is to test of docker-compose.yaml without a container engine.
package docker

import (
	"os"
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
		NetworkMode string `yaml:"network_mode"`
		ReadOnly    bool   `yaml:"read_only"`
		MemLimit    string `yaml:"mem_limit"`
		Networks    map[string]struct{ Aliases []string }
		Volumes     []string
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
		ID string `yaml:"appID"`
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

	var sidecars []string
	for name := range compose.Services {
		if strings.HasSuffix(name, "-dapr") {
			sidecars = append(sidecars, name)
		}
	}
	if !slices.Contains(sidecars, "dead-letters-dapr") { // it comes to compose with the next change
		run.Apps = slices.DeleteFunc(run.Apps, func(app struct {
			ID string `yaml:"appID"`
		}) bool {
			return app.ID == "dead-letters"
		})
	}
	require.Len(t, sidecars, len(run.Apps))

	for _, app := range run.Apps {
		service, sidecar, pod := compose.Services[app.ID], compose.Services[app.ID+"-dapr"], compose.Services[app.ID+"-pod"]
		require.Contains(t, service.Image, "/"+app.ID+":", app.ID)
		require.True(t, service.ReadOnly && sidecar.ReadOnly, app.ID)
		require.Equal(t, "service:"+app.ID+"-pod", service.NetworkMode, app.ID)
		require.Equal(t, service.NetworkMode, sidecar.NetworkMode, app.ID)
		require.Equal(t, []string{app.ID}, pod.Networks["default"].Aliases, app.ID)
		require.Equal(t, service.Environment["APP_API_TOKEN"], sidecar.Environment["APP_API_TOKEN"], app.ID)
		require.Contains(t, sidecar.Environment["STATE_CONNECTION"], "/boxoffice_"+app.ID+"?", app.ID)
		require.True(t, slices.Contains(sidecar.Volumes, "./components/events:/components/events:ro"), app.ID)
		for _, flag := range []string{
			"--app-id=" + app.ID,
			"--app-port=" + service.Environment["APP_PORT"],
			"--dapr-grpc-port=" + service.Environment["DAPR_GRPC_PORT"],
			"--resources-path=/components/events",
			"--app-health-check-path=" + run.Common.AppHealthCheckPath,
			"--app-health-probe-interval=" + strconv.Itoa(run.Common.AppHealthProbeInterval),
			"--app-health-probe-timeout=" + strconv.Itoa(run.Common.AppHealthProbeTimeout),
			"--app-health-threshold=" + strconv.Itoa(run.Common.AppHealthThreshold),
		} {
			require.Contains(t, slices.Concat(sidecar.Entrypoint, sidecar.Command), flag, app.ID)
		}
	}
}

// Go's collector must run before the kernel ends the process, and need not much earlier.
func TestCompose_GoKnowsTheMemoryLimit(t *testing.T) {
	var compose composeFile
	read(t, "../../docker-compose.yaml", &compose)
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
	require.Equal(t, 13, limited, "six services, their sidecars, NATS")
}
