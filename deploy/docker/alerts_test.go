package docker

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"
)

type rules struct {
	Groups []struct {
		Name  string
		Rules []struct {
			Alert, Expr, For    string
			Labels, Annotations map[string]string
		}
	}
}

type prometheusRule struct{ Spec rules }

// ofOthers are metrics of Prometheus itself, Dapr, kubelet and kube-state-metrics.
var ofOthers = map[string]bool{
	"up": true, "dapr_sentry_issuercert_expiry_timestamp": true,
	"kubelet_volume_stats_available_bytes": true, "kubelet_volume_stats_capacity_bytes": true,
	"kube_cronjob_status_last_successful_time": true, "kube_pod_container_status_restarts_total": true,
}

// registered are the names of our own metrics, as they stand in the code.
func registered(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	name := regexp.MustCompile(`(?:[Nn]ame:\s*|NewDesc\(|computed\(\s*|counter\(|gauge\()"(boxoffice_\w+)"|# TYPE (boxoffice_\w+)`)
	for _, place := range []string{"../../services", "../runtime"} {
		require.NoError(t, filepath.WalkDir(place, func(path string, entry fs.DirEntry, err error) error {
			switch {
			case err == nil && entry.Name() == "node_modules":
				return filepath.SkipDir
			case err != nil || entry.IsDir() || !slices.Contains([]string{".go", ".ts"}, filepath.Ext(path)) || strings.HasSuffix(path, "_test.go"):
				return err
			}
			text, err := os.ReadFile(path)
			for _, match := range name.FindAllStringSubmatch(string(text), -1) {
				names[match[1]+match[2]] = true
			}
			return err
		}))
	}
	require.True(t, names["boxoffice_dead_letters"])
	return names
}

// Each of our metrics is described in a page under services or in deploy/operations.md, by its whole name.
func TestMetrics_EachIsDocumented(t *testing.T) {
	var readmes strings.Builder
	for _, place := range []string{"../../services", "../operations.md"} {
		require.NoError(t, filepath.WalkDir(place, func(path string, entry fs.DirEntry, err error) error {
			switch {
			case err == nil && entry.Name() == "node_modules":
				return filepath.SkipDir
			case err != nil || entry.IsDir() || filepath.Ext(path) != ".md":
				return err
			}
			text, err := os.ReadFile(path)
			readmes.Write(text)
			return err
		}))
	}
	described := map[string]bool{}
	for _, name := range regexp.MustCompile("`(boxoffice_\\w+)").FindAllStringSubmatch(readmes.String(), -1) {
		described[name[1]] = true
	}
	require.Equal(t, registered(t), described)
}

// metrics are the names in an expression: words that are neither functions, labels, nor the language's.
func metrics(expr string) []string {
	expr = regexp.MustCompile(`\{[^}]*\}|\[[^]]*\]|\b(by|without|on|ignoring)\s*\([^)]*\)|\b(or|unless|offset \w+)\b`).ReplaceAllString(expr, " ")
	var names []string
	for _, word := range regexp.MustCompile(`[a-zA-Z_:][\w:]*\s*\(?`).FindAllString(expr, -1) {
		if !strings.HasSuffix(word, "(") {
			names = append(names, strings.TrimSpace(word))
		}
	}
	return names
}

func TestAlerts_UseMetricsThatExistAndHaveARunbook(t *testing.T) {
	names := registered(t)
	var here rules
	var cluster prometheusRule
	read(t, "alerts.yml", &here)
	read(t, "../k8s/parts/alerts/cluster.yaml", &cluster)
	alerts := map[string]bool{}
	for _, group := range append(here.Groups, cluster.Spec.Groups...) {
		for _, rule := range group.Rules {
			require.NotEmpty(t, rule.Alert)
			require.False(t, alerts[rule.Alert], "%s twice", rule.Alert)
			alerts[rule.Alert] = true
			require.Contains(t, []string{"page", "ticket"}, rule.Labels["severity"], rule.Alert)
			require.NotEmpty(t, rule.Annotations["summary"], rule.Alert)
			require.NotEmpty(t, rule.Annotations["runbook"], rule.Alert)
			require.NotContains(t, rule.Annotations["runbook"], "\n", "%s: a line", rule.Alert)
			require.Equal(t, strings.Count(rule.Expr, "("), strings.Count(rule.Expr, ")"), rule.Alert)
			asked := metrics(rule.Expr)
			require.NotEmpty(t, asked, rule.Alert)
			for _, name := range asked {
				base := regexp.MustCompile(`_(bucket|count|sum)$`).ReplaceAllString(name, "")
				require.True(t, names[name] || names[base] || ofOthers[name], "%s asks for %s, which nobody exposes", rule.Alert, name)
			}
		}
	}
	require.Greater(t, len(alerts), 15)

	if promtool, err := exec.LookPath("promtool"); err == nil {
		out, err := exec.Command(promtool, "check", "rules", "alerts.yml").CombinedOutput()
		require.NoError(t, err, string(out))
	}
}

func TestAlerts_AreTheSameInKubernetes(t *testing.T) {
	const file = "../k8s/parts/alerts/rules.yaml"
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	if os.Getenv("UPDATE") != "" {
		here, err := os.ReadFile("alerts.yml")
		require.NoError(t, err)
		head, _, found := strings.Cut(string(text), "\nspec:\n")
		require.True(t, found)
		body := string(here)[strings.Index(string(here), "groups:"):]
		text = []byte(head + "\nspec:\n" + regexp.MustCompile(`(?m)^(.)`).ReplaceAllString(body, "  $1"))
		require.NoError(t, os.WriteFile(file, text, 0o644))
	}
	var here rules
	var there prometheusRule
	read(t, "alerts.yml", &here)
	require.NoError(t, yaml.Unmarshal(text, &there))
	require.Equal(t, here, there.Spec, "UPDATE=1 go test ./deploy/docker -run TestAlerts")
}
