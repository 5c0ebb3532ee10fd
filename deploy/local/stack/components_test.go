package stack_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"boxoffice/deploy/local/stack"
)

type rule struct{ Name, Version, Protocol string }

type configuration struct {
	Metadata struct{ Name string }
	Spec     struct {
		MTLS          struct{ Enabled bool } `yaml:"mtls"`
		AccessControl struct {
			DefaultAction string `yaml:"defaultAction"`
			Policies      []any
		} `yaml:"accessControl"`
		API  struct{ Allowed []rule }
		Rest map[string]any `yaml:",inline"`
	}
}

// Without one of these settings, a sidecar would accept calls that its service does not need.
func TestComponents_EveryConfigurationDeniesWhatIsNotNeeded(t *testing.T) {
	runFile, err := stack.FindRunFile(".")
	require.NoError(t, err)
	for _, set := range []string{stack.SetEmbedded, stack.SetNATS, stack.SetRedis} {
		var all [2]configuration
		for i, name := range []string{"config", "config-actors"} {
			text, err := os.ReadFile(filepath.Join(filepath.Dir(runFile), "components", set, name+".yaml"))
			require.NoError(t, err)
			require.NoError(t, yaml.Unmarshal(text, &all[i]))
			c := all[i]
			require.Equal(t, name, c.Metadata.Name)
			require.True(t, c.Spec.MTLS.Enabled, "%s of %s", name, set)
			require.Equal(t, "deny", c.Spec.AccessControl.DefaultAction, "%s of %s", name, set)
			require.Empty(t, c.Spec.AccessControl.Policies, "%s of %s", name, set)
			for _, allowed := range c.Spec.API.Allowed {
				require.NotContains(t, []string{"invoke", "shutdown", "bindings", "subscribe", "workflows", "configuration"}, allowed.Name)
			}
		}
		usual, actors := all[0].Spec, all[1].Spec
		require.Equal(t, usual.Rest, actors.Rest, "the two of %s differ", set)
		require.Equal(t, append(usual.API.Allowed, rule{"actors", "v1", "grpc"}, rule{"actors", "v1", "http"}), actors.API.Allowed, "the two of %s differ", set)
	}
	run, err := stack.ReadRunFile(runFile)
	require.NoError(t, err)
	for _, a := range run.Apps {
		want := "config.yaml"
		if a.ID == "expiration" {
			want = "config-actors.yaml"
		}
		require.Equal(t, want, filepath.Base(a.ConfigFile), a.ID)
		require.Equal(t, ".state/identities/apps/"+a.ID+"/token", a.Env["DAPR_SENTRY_TOKEN_FILE"], a.ID)
	}
}
