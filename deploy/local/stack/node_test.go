package stack

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// runsHere is a machine with everything that the apps need.
func runsHere(App) string { return "" }

func TestNode_WithoutItOrItsBundleAnAppCannotRun(t *testing.T) {
	folder := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(folder, ".build"), 0o700))
	app := func(command ...string) App { return App{ID: "webhooks", Dir: folder, Command: command} }
	version := func(text string) func(string) (string, error) {
		return func(string) (string, error) { return text, nil }
	}
	bundled := app("node", "--max-old-space-size=96", ".build/webhooks.mjs")

	require.Equal(t, "it needs Node 20.19 or later, which is not installed here. Install it, for example from https://nodejs.org, then: make build",
		bundled.cannotRun(func(string) (string, error) { return "", errors.New("not found") }))
	require.Equal(t, "it needs Node 20.19 or later, and node is v18.19.0 here. Install it, for example from https://nodejs.org, then: make build",
		bundled.cannotRun(version("v18.19.0")))
	for _, old := range []string{"v20.18.3", "v20.2.0", "v20", "unknown"} {
		require.Contains(t, bundled.cannotRun(version(old)), "it needs Node 20.19 or later, and node is "+old, old)
	}
	require.Equal(t, ".build/webhooks.mjs is not built, which needs Node and npm: make build", bundled.cannotRun(version("v20.19.0")))

	require.NoError(t, os.WriteFile(filepath.Join(folder, ".build", "webhooks.mjs"), nil, 0o600))
	for _, recent := range []string{"v20.19.0", "v22.1.0", "v24.0.0"} {
		require.Empty(t, bundled.cannotRun(version(recent)), recent)
	}

	goApp := app(".build/orders")
	require.Empty(t, goApp.cannotRun(version("")), "a program of Go that is not built ends the start instead")
	sidecarAlone := app()
	require.Empty(t, sidecarAlone.cannotRun(version("")))
}

// nothingOfNode is a machine without Node.
func nothingOfNode(a App) string {
	if a.ofNode() {
		return "no Node"
	}
	return ""
}

func layoutOf(t *testing.T, opts Options, cannotRun func(App) string) (*layout, error) {
	t.Helper()
	opts.Folder = "/folder"
	port := 40000
	return newLayout(opts, nil, func() (int, error) { port++; return port, nil }, cannotRun)
}

func startedNames(l *layout) (names []string) {
	for _, a := range l.started {
		names = append(names, a.Name)
	}
	return names
}

func TestOmit_AnAppThatCannotRunHasNoAddress(t *testing.T) {
	with, err := layoutOf(t, Options{Replicas: 2}, runsHere)
	require.NoError(t, err)
	require.Subset(t, startedNames(with), []string{"webhooks", "webhooks-2"})
	require.NotEmpty(t, with.app("gateway-2").Env["WEBHOOKS_URL"])
	require.Empty(t, with.omissions)

	l, err := layoutOf(t, Options{Replicas: 2}, nothingOfNode)
	require.NoError(t, err)
	require.NotContains(t, startedNames(l), "webhooks")
	require.NotContains(t, startedNames(l), "webhooks-2")
	require.Contains(t, startedNames(l), "orders-2")
	for _, gateway := range []string{"gateway", "gateway-2"} {
		require.NotContains(t, l.app(gateway).Env, "WEBHOOKS_URL")
		require.Contains(t, l.app(gateway).Env, "ORDERS_URL")
	}
	require.Equal(t, []Omission{{"webhooks", "no Node"}}, l.omissions)
	require.Equal(t, "without webhooks: no Node", l.omissions[0].String())
	require.Contains(t, l.appIDs(), "webhooks", "it keeps its users and rights at the servers")
}

func TestOmit_AStackMayBeWithoutAnApp(t *testing.T) {
	l, err := layoutOf(t, Options{Without: []string{"webhooks", "an app of a later release"}}, runsHere)
	require.NoError(t, err)
	require.NotContains(t, startedNames(l), "webhooks")
	require.NotContains(t, l.app("gateway").Env, "WEBHOOKS_URL")
	require.Empty(t, l.omissions, "it could run")
}

// A stack of some apps has no address of an app of Node that it does not start: the gateway would never be ready.
func TestOmit_AStackOfSomeAppsNamesThoseOfNode(t *testing.T) {
	l, err := layoutOf(t, Options{Apps: []string{"gateway", "auth"}}, runsHere)
	require.NoError(t, err)
	require.NotContains(t, l.app("gateway").Env, "WEBHOOKS_URL")

	_, err = layoutOf(t, Options{Apps: []string{"webhooks"}}, nothingOfNode)
	require.EqualError(t, err, "webhooks cannot run: no Node")
}

func TestOmit_SettingsOfGoAreNotForNode(t *testing.T) {
	p := planned(t, Options{Profiles: true}, nil)
	require.Empty(t, p.program(t, "webhooks").env["GOGC"])
	require.NotEmpty(t, p.program(t, "webhooks-dapr").env["GOGC"])
	require.Zero(t, p.profiles["webhooks"], "it has no profiles of Go")
	require.Equal(t, "node", p.program(t, "webhooks").args[0])
	require.True(t, filepath.IsAbs(p.program(t, "webhooks").args[len(p.program(t, "webhooks").args)-1]))
}
