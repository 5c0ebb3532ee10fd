package stack

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// RunFile is a multi-app run file of Dapr, version 1, as Dapr's CLI reads it: paths are absolute, and the settings under common are
// merged into the apps.
type RunFile struct {
	Path string
	Apps []App
}

// App is one app of a run file, with the sidecar beside it.
type App struct {
	settings
	ID           string
	Name         string   // of the process: ID, or ID-2 and so on for further replicas
	Dir          string   // both the app and its sidecar run here
	Command      []string // the app; empty: only a sidecar
	Port         int      // the app listens there for its sidecar
	HTTPPort     int
	GRPCPort     int
	InternalPort int
	MetricsPort  int
}

// settings may be under common and in an app. Those of the app override.
type settings struct {
	Env             map[string]string `yaml:"env"`
	ResourcesPaths  []string          `yaml:"resourcesPaths"`
	ConfigFile      string            `yaml:"configFilePath"`
	Protocol        string            `yaml:"appProtocol"`
	ListenAddresses string            `yaml:"apiListenAddresses"`
	LogLevel        string            `yaml:"logLevel"`
	MaxConcurrency  int               `yaml:"appMaxConcurrency"`
	MaxBodySize     string            `yaml:"maxBodySize"`
	HealthCheck     bool              `yaml:"enableAppHealthCheck"`
	HealthPath      string            `yaml:"appHealthCheckPath"`
	HealthInterval  int               `yaml:"appHealthProbeInterval"` // seconds
	HealthTimeout   int               `yaml:"appHealthProbeTimeout"`  // milliseconds
	HealthThreshold int               `yaml:"appHealthThreshold"`
	APILogging      bool              `yaml:"enableApiLogging"`
	SidecarLog      LogDestination    `yaml:"daprdLogDestination"`
	AppLog          LogDestination    `yaml:"appLogDestination"`
}

// LogDestination is where the lines of a process are written.
type LogDestination string

// The destinations of Dapr. A stack always writes the file; with the first and the last it also shows the lines.
const (
	LogConsole        LogDestination = "console"
	LogFile           LogDestination = "file"
	LogFileAndConsole LogDestination = "fileAndConsole"
)

func (d LogDestination) shown() bool { return d == LogConsole || d == LogFileAndConsole }

// document is the content of the file.
type document struct {
	Version int      `yaml:"version"`
	Name    string   `yaml:"name"`
	Common  settings `yaml:"common"`
	Apps    []struct {
		settings     `yaml:",inline"`
		ID           string   `yaml:"appID"`
		Dir          string   `yaml:"appDirPath"`
		Command      []string `yaml:"command"`
		Port         int      `yaml:"appPort"`
		HTTPPort     int      `yaml:"daprHTTPPort"`
		GRPCPort     int      `yaml:"daprGRPCPort"`
		InternalPort int      `yaml:"daprInternalGRPCPort"`
		MetricsPort  int      `yaml:"metricsPort"`
	} `yaml:"apps"`
}

// FindRunFile returns the path of the dapr.yaml in folder or the nearest one above it.
func FindRunFile(folder string) (string, error) {
	start, err := filepath.Abs(folder)
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		path := filepath.Join(dir, "dapr.yaml")
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no dapr.yaml in %s or above it", start)
		}
	}
}

// ReadRunFile reads a run file. A key that this package does not use is an error, because a setting must not work under
// `dapr run -f .` and silently have no effect under `make run`.
func ReadRunFile(path string) (*RunFile, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read run file: %w", err)
	}
	var doc document
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("it is empty")
		}
		return nil, fmt.Errorf("run file %s: %w", path, explain(err))
	}
	run := &RunFile{Path: path}
	if err := run.fill(&doc, filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("run file %s: %w", path, err)
	}
	return run, nil
}

var unknownField = regexp.MustCompile(`^line (\d+): field (\S+) not found in type .*$`)

// explain replaces Go types in an error of the YAML package by keys of the file.
func explain(err error) error {
	var typed *yaml.TypeError
	if !errors.As(err, &typed) {
		return err
	}
	lines := make([]string, len(typed.Errors))
	for i, line := range typed.Errors {
		lines[i] = unknownField.ReplaceAllString(line, `line $1: the launcher has no key "$2"`)
	}
	return errors.New(strings.Join(lines, "; "))
}

func (r *RunFile) fill(doc *document, dir string) error {
	if doc.Version != 1 {
		return fmt.Errorf("version is %d, this reads version 1", doc.Version)
	}
	if len(doc.Apps) == 0 {
		return errors.New("there are no apps")
	}
	doc.Common.resolve(dir)
	for i, a := range doc.Apps {
		if a.Dir == "" {
			return fmt.Errorf("apps[%d] (%s): appDirPath is missing", i, a.ID)
		}
		a.Dir = within(dir, a.Dir)
		// Dapr's CLI takes an app's own relative paths from its appDirPath, those under common from the file.
		a.resolve(a.Dir)
		a.merge(&doc.Common)
		app := App{
			settings: a.settings, ID: a.ID, Dir: a.Dir, Command: a.Command, Port: a.Port,
			HTTPPort: a.HTTPPort, GRPCPort: a.GRPCPort, InternalPort: a.InternalPort, MetricsPort: a.MetricsPort,
		}
		if app.ID == "" {
			app.ID = filepath.Base(app.Dir)
		}
		if slices.ContainsFunc(r.Apps, func(other App) bool { return other.ID == app.ID }) {
			return fmt.Errorf("apps[%d]: the appID %q is there twice", i, app.ID)
		}
		app.Name = app.ID
		if err := app.check(); err != nil {
			return fmt.Errorf("apps[%d] (%s): %w", i, app.ID, err)
		}
		r.Apps = append(r.Apps, app)
	}
	return nil
}

func within(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

func (s *settings) resolve(dir string) {
	s.ConfigFile = within(dir, s.ConfigFile)
	for i, path := range s.ResourcesPaths {
		s.ResourcesPaths[i] = within(dir, path)
	}
}

// merge adds the settings of common that the app lacks. Environments are merged by variable.
func (s *settings) merge(common *settings) {
	env := make(map[string]string, len(s.Env)+len(common.Env))
	maps.Copy(env, common.Env)
	maps.Copy(env, s.Env)
	own, shared := reflect.ValueOf(s).Elem(), reflect.ValueOf(common).Elem()
	for i := range own.NumField() {
		if own.Field(i).IsZero() {
			own.Field(i).Set(shared.Field(i))
		}
	}
	s.Env = env
	if s.Protocol == "" {
		s.Protocol = "http"
	}
	if s.SidecarLog == "" {
		s.SidecarLog = LogFile
	}
	if s.AppLog == "" {
		s.AppLog = LogFileAndConsole
	}
}

// check refuses what Dapr's CLI would refuse, and an app without fixed ports: a stack needs the ports before it starts.
func (a *App) check() error {
	for name, port := range map[string]int{
		"daprHTTPPort": a.HTTPPort, "daprGRPCPort": a.GRPCPort,
		"daprInternalGRPCPort": a.InternalPort, "metricsPort": a.MetricsPort,
	} {
		if port < 1 || port > 65535 {
			return fmt.Errorf("%s is missing or not a port", name)
		}
	}
	if len(a.Command) > 0 && a.Port == 0 {
		return errors.New("appPort is missing")
	}
	for name, destination := range map[string]LogDestination{"daprdLogDestination": a.SidecarLog, "appLogDestination": a.AppLog} {
		if !slices.Contains([]LogDestination{LogConsole, LogFile, LogFileAndConsole}, destination) {
			return fmt.Errorf("%s is %q, not console, file or fileAndConsole", name, destination)
		}
	}
	for _, path := range append(slices.Clone(a.ResourcesPaths), a.ConfigFile, a.Dir) {
		if _, err := os.Stat(path); path != "" && err != nil {
			return err
		}
	}
	return nil
}
