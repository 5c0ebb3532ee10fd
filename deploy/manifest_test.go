// Package deploy_test compares dapr.yaml, the list of services, with every other place that lists them.
package deploy_test

import (
	"bytes"
	"fmt"
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

// A place is a list of services: all matches of pattern in a part of a file. The first group of a match is the service's name,
// in lower case or as in the name of a variable (DEAD_LETTERS).
type place struct {
	file    string
	part    string // the part begins behind the first match of this pattern; "" is the whole file
	end     string // and ends before the next match of this one; "" is the end of the file
	pattern string
	want    []string // the services that must be there; all of them if nil
	others  []string // what may be there beside them
}

// The groups of services. A new service belongs to every group, unless it is named here.
type groups struct {
	all         []string // the apps of dapr.yaml
	withStore   []string // those with a state store and a user of the broker
	subscribers []string // those that handle events
	served      []string // those whose REST API is behind the gateway
	node        []string // those that are programs of Node, and not of Go
}

func readGroups(t *testing.T) groups {
	t.Helper()
	var run struct {
		Apps []struct {
			ID      string `yaml:"appID"`
			Command []string
			Env     map[string]string
		}
	}
	require.NoError(t, yaml.Unmarshal([]byte(readFile(t, "dapr.yaml")), &run))
	var g groups
	gateway := map[string]string{}
	for _, app := range run.Apps {
		g.all = append(g.all, app.ID)
		if app.ID != "gateway" { // it keeps nothing and publishes nothing
			g.withStore = append(g.withStore, app.ID)
		} else {
			gateway = app.Env
		}
		for _, file := range []string{"subscriptions.go", "src/subscriptions.ts"} {
			if _, err := os.Stat(filepath.Join("..", "services", app.ID, file)); err == nil {
				g.subscribers = append(g.subscribers, app.ID)
			}
		}
		if len(app.Command) > 0 && app.Command[0] == "node" {
			g.node = append(g.node, app.ID)
		}
	}
	for _, id := range g.all {
		if _, is := gateway[strings.ToUpper(strings.ReplaceAll(id, "-", "_"))+"_URL"]; is {
			g.served = append(g.served, id)
		}
	}
	require.NotEmpty(t, g.served)
	require.NotEmpty(t, g.subscribers)
	return g
}

// places are all lists of services that people or programs read, except the tables of tests.
func places(g groups) []place {
	const (
		item     = `(?m)^ +- ([a-z-]+)$` // of a list in YAML
		document = `(?m)^---`
		scopes   = `(?m)^scopes:`
	)
	all := []place{
		{file: "dapr.yaml", pattern: `command: \[(?:"node", .*)?"\.build/([a-z-]+)(?:\.mjs)?"\]`},
		{file: "dapr.yaml", pattern: `\.state/identities/apps/([a-z-]+)/token`},
		{file: "services/README.md", part: `(?m)^# The services$`, end: `(?m)^## `, pattern: "(?m)^\\| `([a-z-]+)` \\| .*\\|$",
			others: strings.Fields("service state events identity peer rest problem idempotency reconcile clock id")},
		{file: "dev.sh", part: `Which service \(`, end: `\)`, pattern: `([a-z-]+)`},
		{file: ".github/workflows/images.yml", part: `matrix:\n +name: \[`, end: `\]`, pattern: `([a-z-]+)`, others: []string{"daprd", "migrate", "stripe"}},

		{file: "components/events/subscriptions.yaml", pattern: `(?m)^  - ([a-z-]+)$`, want: g.subscribers},
		{file: "components/events/resiliency.yaml", part: scopes, pattern: item, want: g.subscribers},

		{file: "docker-compose.yaml", part: `(?m)^services:`, end: `(?m)^networks:|^volumes:`, pattern: `(?m)^  ([a-z-]+)-pod:$`},
		{file: "docker-compose.yaml", pattern: `(?m)^  ([a-z-]+)-dapr:$`},
		{file: "docker-compose.yaml", pattern: `(?m)^    image: \$\{REGISTRY:-boxoffice\}/([a-z-]+):`, others: []string{"daprd", "migrate", "stripe"}},
		{file: "docker-compose.yaml", pattern: `--app-id=([a-z-]+)`},
		{file: "docker-compose.yaml", part: `(?m)^  identities:`, end: `(?m)^  [a-z]`, pattern: `--app=([a-z-]+)`},
		{file: "docker-compose.yaml", part: `(?m)^  identities:`, end: `(?m)^  [a-z]`, pattern: `:/identities/apps/([a-z-]+)`, others: []string{"dapr-placement", "dapr-scheduler"}},
		{file: "docker-compose.yaml", part: `(?m)^volumes:`, pattern: `(?m)^  identity-([a-z-]+):`, others: []string{"sentry", "dapr-placement", "dapr-scheduler"}},
		{file: "docker-compose.yaml", pattern: `APP_API_TOKEN: \$\{APP_API_TOKEN_([A-Z_]+)\}`},
		{file: "docker-compose.yaml", pattern: `DAPR_API_TOKEN: \$\{DAPR_API_TOKEN_([A-Z_]+)\}`},
		{file: "docker-compose.yaml", pattern: `STATE_CONNECTION: postgres://boxoffice_([a-z-]+):`, want: g.withStore},
		{file: "docker-compose.yaml", pattern: ` NATS_URL: nats://([a-z-]+):`, want: g.withStore},
		{file: "docker-compose.yaml", pattern: `(?m)^      REDIS_PASSWORD: \$\{REDIS_PASSWORD_([A-Z_]+)\}`, want: g.withStore},
		{file: "docker-compose.yaml", pattern: `(?m)^      POSTGRES_PASSWORD_([A-Z_]+):`, want: g.withStore, others: []string{"reporting"}},
		{file: "docker-compose.yaml", pattern: `(?m)^      NATS_PASSWORD_([A-Z_]+):`, want: g.withStore, others: []string{"admin"}},
		{file: "docker-compose.yaml", pattern: `(?m)^      REDIS_PASSWORD_([A-Z_]+):`, want: g.withStore, others: []string{"admin"}},
		{file: "deploy/docker/Dockerfile", part: `for app in `, end: `;`, pattern: `([a-z-]+)`, others: []string{"dapr-placement", "dapr-scheduler"}},
		{file: "deploy/docker/secrets.sh", part: `for app in `, end: `;`, pattern: `([A-Z_]+)`},
		{file: "deploy/docker/prometheus.yml", part: `job_name: services`, end: `job_name:`, pattern: `"([a-z-]+):9091"`},
		{file: "deploy/docker/prometheus.yml", part: `job_name: sidecars`, end: `job_name:`, pattern: `"([a-z-]+):9090"`},
		{file: "deploy/docker/README.md", part: "`make dev-auth`", end: ` run one service`, pattern: "`dev-([a-z-]+)`", want: slices.DeleteFunc(slices.Clone(g.all), func(id string) bool { return id == "auth" })},

		{file: "deploy/postgres/layout.go", part: `var services = \[\]string\{`, end: `\}`, pattern: `"([a-z-]+)"`, want: g.withStore},
		{file: "deploy/k8s/secrets/main.go", part: `keepers += \[\]string\{`, end: `\}`, pattern: `"([a-z-]+)"`, want: g.withStore},
		{file: "deploy/k8s/README.md", part: `3\. Images, where the cluster finds them: `, end: `\(the program`, pattern: "`(?:boxoffice/)?([a-z-]+)`"},

		{file: "deploy/k8s/base/kustomization.yaml", part: `resources:`, end: `labels:`, pattern: item, others: []string{"dapr"}},
		{file: "deploy/k8s/base/dapr/components.yaml", part: `type: state\.postgresql`, end: document, pattern: `(?m)^  - ([a-z-]+)$`, want: g.withStore},
		{file: "deploy/k8s/base/dapr/components.yaml", part: `type: pubsub\.`, end: document, pattern: `(?m)^  - ([a-z-]+)$`, want: g.withStore},
		{file: "deploy/k8s/base/network.yaml", part: `  name: to-dapr\n`, end: document, pattern: item},
		{file: "deploy/k8s/base/network.yaml", part: `  name: to-services\n`, end: document, pattern: item, want: g.served},
		{file: "deploy/k8s/infrastructure/postgres/backup.sh", part: `databases="`, end: `"`, pattern: `boxoffice_([a-z-]+)`, want: g.withStore},
		{file: "deploy/k8s/infrastructure/postgres/restore.sh", part: `databases="`, end: `"`, pattern: `boxoffice_([a-z-]+)`, want: g.withStore},
		{file: "deploy/postgres/main.go", part: `DATABASE_URL  `, end: `Flags:`, pattern: `(?:POSTGRES_PASSWORD| )_([A-Z_]+)`, want: g.withStore, others: []string{"reporting"}},
		{file: "deploy/k8s/infrastructure/postgres/databases.yaml", pattern: `name: POSTGRES_PASSWORD_([A-Z_]+)`, want: g.withStore, others: []string{"reporting"}},
		{file: "deploy/k8s/overlays/dev/kustomization.yaml", pattern: `name: app-api-token-([a-z-]+)`},
		{file: "deploy/k8s/overlays/dev/kustomization.yaml", pattern: `name: dapr-api-token-([a-z-]+)`},
		{file: "deploy/k8s/overlays/dev/kustomization.yaml", pattern: `NATS_PASSWORD_([A-Z_]+)=`, want: g.withStore, others: []string{"admin"}},
		{file: "deploy/k8s/overlays/dev/kustomization.yaml", pattern: `name: broker-([a-z-]+)`, want: g.withStore},
		{file: "deploy/k8s/overlays/dev/kustomization.yaml", pattern: `(?m)^  - name: postgres-([a-z-]+)`, want: g.withStore, others: []string{"admin", "tls", "reporting"}},
		{file: "deploy/k8s/overlays/dev/kustomization.yaml", pattern: `name: tls-([a-z-]+)`, want: g.served},
		{file: "deploy/k8s/parts/tls/services.yaml", pattern: `secretName: tls-([a-z-]+)`, want: g.served},
		{file: "deploy/k8s/parts/tls/services.yaml", part: `(?m)^  name: gateway`, pattern: `value: https://([a-z-]+):8080`, want: g.served},
		{file: "deploy/k8s/base/gateway/gateway.yaml", pattern: `value: http://([a-z-]+):8080`, want: g.served},
	}
	for _, set := range []string{"embedded", "nats", "redis"} {
		all = append(all,
			place{file: "components/" + set + "/state.yaml", part: scopes, pattern: item, want: g.withStore, others: []string{"bare"}},
			place{file: "components/" + set + "/pubsub.yaml", part: scopes, pattern: item, want: g.withStore},
		)
	}
	for _, file := range []string{"shared/state.yaml", "nats/pubsub.yaml", "redis/pubsub.yaml"} {
		all = append(all, place{file: "deploy/docker/components/" + file, part: scopes, pattern: item, want: g.withStore})
	}
	for _, file := range []string{
		"components/embedded/pubsub.yaml", "components/nats/pubsub.yaml", "components/redis/pubsub.yaml",
		"deploy/docker/components/nats/pubsub.yaml", "deploy/docker/components/redis/pubsub.yaml",
		"deploy/k8s/base/dapr/components.yaml", "deploy/k8s/infrastructure/redis/pubsub.yaml",
	} {
		for _, setting := range []string{"publishingScopes", "subscriptionScopes"} {
			all = append(all, place{file: file, part: `(?m)name: ` + setting + `\n`, end: `(?m)^ +- name:|^scopes:|^auth:`, pattern: `(?m)([a-z-]+)=`})
		}
	}
	for _, file := range []string{"deploy/docker/nats-users.conf", "deploy/k8s/infrastructure/nats/users.conf"} {
		all = append(all, place{file: file, pattern: `\{user: "([a-z-]+)"`, want: g.withStore, others: []string{"admin"}})
	}
	for _, file := range []string{"deploy/docker/redis-users.conf", "deploy/k8s/infrastructure/redis/users.conf"} {
		all = append(all, place{file: file, pattern: `(?m)^user ([a-z-]+) `, want: g.withStore, others: []string{"admin", "default"}})
	}
	for _, policy := range []struct {
		file, name string
		others     []string
	}{
		{"deploy/k8s/infrastructure/nats/network.yaml", "nats", []string{"nats-streams"}},
		{"deploy/k8s/infrastructure/nats/network.yaml", "to-nats", []string{"nats-streams", "nats"}},
		{"deploy/k8s/infrastructure/postgres/network.yaml", "postgres", []string{"postgres-databases", "postgres-backup", "postgres-restore"}},
		{"deploy/k8s/infrastructure/postgres/network.yaml", "to-postgres", []string{"postgres-databases", "postgres-backup", "postgres-restore", "postgres"}},
		{"deploy/k8s/infrastructure/redis/redis.yaml", "redis", nil},
		{"deploy/k8s/infrastructure/redis/redis.yaml", "to-redis", []string{"redis"}},
	} {
		all = append(all, place{file: policy.file, part: `kind: NetworkPolicy\nmetadata:\n  name: ` + policy.name + `\n`, end: document, pattern: `(?m)^ +- ([a-z-]+)$`,
			want: g.withStore, others: policy.others})
	}
	for _, overlay := range []string{"staging", "production"} {
		all = append(all, place{file: "deploy/k8s/overlays/" + overlay + "/kustomization.yaml", part: `(?m)^images:`, end: `(?m)^[a-z]+:$`, pattern: `name: boxoffice/([a-z-]+)`,
			others: []string{"daprd", "migrate", "stripe"}})
	}
	for _, service := range g.all {
		folder := "deploy/k8s/base/" + service
		all = append(all,
			place{file: folder + "/kustomization.yaml", pattern: `app\.kubernetes\.io/name: ([a-z-]+)`, want: []string{service}},
			place{file: folder + "/kustomization.yaml", pattern: `newName: boxoffice/([a-z-]+)`, want: []string{service}},
			place{file: folder + "/kustomization.yaml", pattern: `value: app-api-token-([a-z-]+)`, want: []string{service}},
			place{file: folder + "/kustomization.yaml", pattern: `value: dapr-api-token-([a-z-]+)`, want: []string{service}},
		)
	}
	return all
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", name))
	require.NoError(t, err)
	return string(text)
}

// check returns what is wrong with a place, one text for each service, with the file and the line.
func (p place) check(text string, all []string) (wrong []string) {
	want := p.want
	if want == nil {
		want = all
	}
	begin, end := 0, len(text)
	if p.part != "" {
		found := regexp.MustCompile(p.part).FindStringIndex(text)
		if found == nil {
			return []string{fmt.Sprintf("%s: nothing matches %s, where services are listed", p.file, p.part)}
		}
		begin = found[1]
	}
	if p.end != "" {
		if found := regexp.MustCompile(p.end).FindStringIndex(text[begin:]); found != nil {
			end = begin + found[0]
		}
	}
	line := func(offset int) int { return 1 + strings.Count(text[:offset], "\n") }
	at := line(begin) // the last item, or where the list begins
	var seen []string
	for _, match := range regexp.MustCompile(p.pattern).FindAllStringSubmatchIndex(text[begin:end], -1) {
		name := strings.ToLower(strings.ReplaceAll(text[begin+match[2]:begin+match[3]], "_", "-"))
		number := line(begin + match[2])
		if slices.Contains(want, name) {
			seen = append(seen, name)
			at = number
		} else if !slices.Contains(p.others, name) {
			wrong = append(wrong, fmt.Sprintf("%s:%d: %s is not a service of dapr.yaml that belongs here (%s)", p.file, number, name, p.pattern))
		}
	}
	for _, name := range want {
		if !slices.Contains(seen, name) {
			wrong = append(wrong, fmt.Sprintf("%s:%d: the service %s of dapr.yaml is missing here (%s)", p.file, at, name, p.pattern))
		}
	}
	return wrong
}

func TestManifest_EveryListHasTheServicesOfTheRunFile(t *testing.T) {
	g := readGroups(t)
	for _, p := range places(g) {
		text, err := os.ReadFile(filepath.Join("..", p.file))
		if err != nil {
			t.Errorf("a service of dapr.yaml has no file: %v", err)
			continue
		}
		for _, wrong := range p.check(string(text), g.all) {
			t.Error(wrong)
		}
	}
}

// One name is an app's everywhere: in Dapr, and of its folder and program. The Makefile finds services by their folders.
func TestManifest_AnAppIsNamedLikeItsFolder(t *testing.T) {
	programs, err := filepath.Glob("../services/*/main.go")
	require.NoError(t, err)
	for i, program := range programs {
		programs[i] = filepath.Base(filepath.Dir(program))
	}
	g := readGroups(t)
	packages, err := filepath.Glob("../services/*/src/main.ts")
	require.NoError(t, err)
	var ofNode []string
	for _, file := range packages {
		ofNode = append(ofNode, filepath.Base(filepath.Dir(filepath.Dir(file))))
	}
	require.ElementsMatch(t, g.node, ofNode, "the programs of Node in dapr.yaml, and the folders with a src/main.ts under services")
	require.ElementsMatch(t, g.all, slices.Concat(programs, ofNode), "dapr.yaml, and the folders with a main.go or a src/main.ts under services")
	require.Contains(t, readFile(t, "Makefile"), "$(wildcard services/*/main.go)")
}

// notLists name several services for reasons of their own, and need no line for a new one.
var notLists = regexp.MustCompile(`^(` + strings.Join([]string{
	`services/.*`, `deploy/proof/.*`, `.*_test\.go`, `.*\.md`, // programs and texts about particular services
	`deploy/docker/(alerts|grafana)\.ya?ml`, `deploy/k8s/parts/alerts/rules\.yaml`, // about metrics
	`deploy/k8s/base/(auth|orders|tickets|payments|expiration)/.*`, // which services may call this one
	`deploy/k8s/base/dapr/configurations\.yaml`,                    // what particular sidecars may do
	`deploy/postgres/migrations/.*`,                                // never change once they were applied
	`deploy/local/stack/.*`, `deploy/stripe/.*`,
	`Makefile`, // it finds the services by their folders
}, "|") + `)$`)

// A list that places does not have would be forgotten with the next service.
func TestManifest_EveryFileThatListsServicesIsCompared(t *testing.T) {
	files, err := exec.Command("git", "-C", "..", "ls-files").Output()
	if err != nil {
		t.Skipf("the list of files is git's: %v", err)
	}
	g := readGroups(t)
	var compared []string
	for _, p := range places(g) {
		compared = append(compared, p.file)
	}
	names := map[string]*regexp.Regexp{}
	for _, service := range g.all {
		names[service] = regexp.MustCompile(`(?i)(^|[^a-z])` + strings.ReplaceAll(service, "-", "[-_]") + `([^a-z]|$)`)
	}
	for name := range strings.Lines(string(files)) {
		name = strings.TrimSpace(name)
		if notLists.MatchString(name) || slices.Contains(compared, name) {
			continue
		}
		text, err := os.ReadFile(filepath.Join("..", name))
		if err != nil || bytes.IndexByte(text, 0) >= 0 {
			continue // deleted in the work tree, or not a text
		}
		var named []string
		for _, service := range g.all {
			if names[service].Match(text) {
				named = append(named, service)
			}
		}
		if len(named) >= 4 {
			t.Errorf("%s names the services %v: compare its list in places(), or add the file to notLists", name, named)
		}
	}
}

// The check itself: it names what is missing and what is too much, each with its line.
// An endpoint that the service webhooks takes must also be one that it may connect to, and the API's description must name its ports.
func TestManifest_TheNetworkPolicyLetsOutWhatAnEndpointMayHave(t *testing.T) {
	found := regexp.MustCompile(`const lowestPort = (\d+);`).FindStringSubmatch(readFile(t, "services/webhooks/src/network.ts"))
	require.NotNil(t, found)
	_, policy, _ := strings.Cut(readFile(t, "deploy/k8s/base/network.yaml"), "name: to-endpoints\n")
	policy, _, _ = strings.Cut(policy, "\n---")
	_, ports, _ := strings.Cut(policy, "ports:\n")
	require.Equal(t, "- protocol: TCP\nport: 443\n- protocol: TCP\nport: "+found[1]+"\nendPort: 65535", strings.TrimSpace(regexp.MustCompile(`(?m)^ +`).ReplaceAllString(ports, "")))
	for file, text := range map[string]string{
		"services/contracts/openapi.yaml": "at port 443 or one from " + found[1] + " on",
		"services/webhooks/README.md":     "Port 443, or one from " + found[1] + " on",
		"deploy/k8s/README.md":            "443, and " + found[1] + " to 65535",
	} {
		require.Contains(t, readFile(t, file), text, file)
	}
}

func TestPlace_NamesFileAndLine(t *testing.T) {
	p := place{file: "list.yaml", part: `scopes:`, pattern: `(?m)^  - ([a-zA-Z_-]+)$`, others: []string{"admin"}}
	const text = "kind: x\nscopes:\n  - auth\n  - admin\n  - DEAD_LETTERS\n  - gone\n"
	require.Equal(t, []string{
		"list.yaml:6: gone is not a service of dapr.yaml that belongs here ((?m)^  - ([a-zA-Z_-]+)$)",
		"list.yaml:5: the service orders of dapr.yaml is missing here ((?m)^  - ([a-zA-Z_-]+)$)",
	}, p.check(text, []string{"auth", "dead-letters", "orders"}))
	p.part = `nowhere`
	require.Len(t, p.check(text, nil), 1)
}
