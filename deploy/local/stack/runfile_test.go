package stack_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
)

func TestReadRunFile_MergesCommonIntoApps(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, `
version: 1
common:
  logLevel: warn
  env: {SHARED: common, OWN: common}
apps:
  - appID: one
    appDirPath: .
    command: [./one]
    appPort: 1
    daprHTTPPort: 2
    daprGRPCPort: 3
    daprInternalGRPCPort: 4
    metricsPort: 5
    logLevel: debug
    env: {OWN: app, PORT: 8080}
`)

	run, err := stack.ReadRunFile(path)

	require.NoError(t, err)
	app := run.Apps[0]
	require.Equal(t, "debug", app.LogLevel)
	require.Equal(t, map[string]string{"SHARED": "common", "OWN": "app", "PORT": "8080"}, app.Env)
	require.Equal(t, dir, app.Dir)
	require.Equal(t, "http", app.Protocol)
	require.Equal(t, stack.LogFile, app.SidecarLog)
}

func TestReadRunFile_ReadsTheRealOne(t *testing.T) {
	path, err := stack.FindRunFile(".")
	require.NoError(t, err)

	run, err := stack.ReadRunFile(path)

	require.NoError(t, err)
	var ids []string
	for _, app := range run.Apps {
		ids = append(ids, app.ID)
		require.NotEmpty(t, app.Env["PORT"])
		// Dapr's CLI starts a sidecar in its app's folder, and the paths in components/ are relative.
		require.Equal(t, filepath.Dir(path), app.Dir)
	}
	programs, err := filepath.Glob(filepath.Join(filepath.Dir(path), "services/*/main.go"))
	require.NoError(t, err)
	for i, program := range programs {
		programs[i] = filepath.Base(filepath.Dir(program))
	}
	packages, err := filepath.Glob(filepath.Join(filepath.Dir(path), "services/*/src/main.ts")) // the programs of Node
	require.NoError(t, err)
	for _, program := range packages {
		programs = append(programs, filepath.Base(filepath.Dir(filepath.Dir(program))))
	}
	require.ElementsMatch(t, programs, ids)
}

func TestReadRunFile_NamesWhatIsWrong(t *testing.T) {
	const ports = "appPort: 1, daprHTTPPort: 2, daprGRPCPort: 3, daprInternalGRPCPort: 4, metricsPort: 5"
	for name, c := range map[string]struct{ text, want string }{
		"empty":           {"", "it is empty"},
		"no YAML":         {"version: [", "yaml"},
		"version":         {"version: 2\napps: [{appID: a, appDirPath: .}]", "version is 2, this reads version 1"},
		"no apps":         {"version: 1", "there are no apps"},
		"unknown key":     {"version: 1\napps:\n  - appID: a\n    appDirPath: .\n    appPrt: 7", `line 5: the launcher has no key "appPrt"`},
		"unknown common":  {"version: 1\ncommon: {logLvl: warn}", `has no key "logLvl"`},
		"no folder":       {"version: 1\napps: [{appID: a}]", "apps[0] (a): appDirPath is missing"},
		"missing folder":  {"version: 1\napps: [{appID: a, appDirPath: nowhere, " + ports + "}]", "nowhere: no such file or directory"},
		"missing port":    {"version: 1\napps: [{appID: a, appDirPath: ., appPort: 1, daprHTTPPort: 2, daprGRPCPort: 3, metricsPort: 5}]", "apps[0] (a): daprInternalGRPCPort is missing"},
		"no app port":     {"version: 1\napps: [{appID: a, appDirPath: ., command: [x], daprHTTPPort: 2, daprGRPCPort: 3, daprInternalGRPCPort: 4, metricsPort: 5}]", "appPort is missing"},
		"log destination": {"version: 1\napps: [{appID: a, appDirPath: ., appLogDestination: printer, " + ports + "}]", `appLogDestination is "printer"`},
		"resources":       {"version: 1\napps: [{appID: a, appDirPath: ., resourcesPaths: [none], " + ports + "}]", "none: no such file or directory"},
		"twice":           {"version: 1\napps: [{appID: a, appDirPath: ., " + ports + "}, {appID: a, appDirPath: ., " + ports + "}]", `the appID "a" is there twice`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := stack.ReadRunFile(write(t, t.TempDir(), c.text))
			require.ErrorContains(t, err, c.want)
		})
	}
}
