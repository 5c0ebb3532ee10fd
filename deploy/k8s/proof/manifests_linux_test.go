package proof

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOverlays_EveryServiceHasAllThatBelongsToIt(t *testing.T) {
	each(t, func(t *testing.T, m manifests) {
		for _, service := range services {
			for _, kind := range []string{"Deployment", "Service", "ServiceAccount", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy"} {
				m.get(t, kind, service)
			}
			pod := m.get(t, "Deployment", service).in("spec", "template")
			own := map[string]any{"app.kubernetes.io/name": service}
			require.Empty(t, has(pod.at("metadata", "labels"), own, service))
			for what, selector := range map[string]any{
				"Deployment":          m.get(t, "Deployment", service).at("spec", "selector", "matchLabels"),
				"Service":             m.get(t, "Service", service).at("spec", "selector"),
				"PodDisruptionBudget": m.get(t, "PodDisruptionBudget", service).at("spec", "selector", "matchLabels"),
				"NetworkPolicy":       m.get(t, "NetworkPolicy", service).at("spec", "podSelector", "matchLabels"),
			} {
				require.Equal(t, own, selector, "%s of %s", what, service)
			}
			for _, spread := range pod.list("spec", "topologySpreadConstraints") {
				require.Equal(t, own, spread.at("labelSelector", "matchLabels"), "spread of %s", service)
			}
			require.Equal(t, service, m.get(t, "HorizontalPodAutoscaler", service).text("spec", "scaleTargetRef", "name"))
			require.Equal(t, service, pod.text("spec", "serviceAccountName"))

			annotations := pod.in("metadata", "annotations")
			require.Equal(t, service, annotations["dapr.io/app-id"])
			if slices.Contains(keepers, service) {
				require.Equal(t, "STATE_CONNECTION=postgres-"+service+":connection,BROKER_ACCESS=broker-"+service+":access", annotations["dapr.io/env-from-secret"],
					"a way to its own database alone, and into the broker as itself")
			} else {
				require.Nil(t, annotations["dapr.io/env-from-secret"])
			}
			container := named(pod.list("spec", "containers"), service)
			require.NotNil(t, container, "the container has the name of the service, which `kubectl exec -c` asks for")
			require.Regexp(t, `/`+service+`:`, container.text("image"))
			require.Equal(t, strings.Replace(container.text("image"), "/"+service+":", "/daprd:", 1), annotations["dapr.io/sidecar-image"],
				"the sidecar's image comes from where the service's comes from")
			require.Equal(t, []string{"http", "metrics"}, []string{container.list("ports")[0].text("name"), container.list("ports")[1].text("name")})
			require.Equal(t, ":9091", named(container.list("env"), "METRICS_ADDRESS").text("value"))
			// Tokens that no other service knows.
			for variable, name := range map[string]string{"APP_API_TOKEN": "app-api-token-" + service, "DAPR_API_TOKEN": "dapr-api-token-" + service} {
				ref := named(container.list("env"), variable).in("valueFrom", "secretKeyRef")
				require.Equal(t, object{"name": name, "key": "token"}, ref, service)
			}
			require.Equal(t, "app-api-token-"+service, annotations["dapr.io/app-token-secret"])
			require.Equal(t, "dapr-api-token-"+service, annotations["dapr.io/api-token-secret"])
			wantURLs := map[string]string{"auth": "ORDERS_URL", "tickets": "AUTH_URL", "orders": "AUTH_URL", "payments": "AUTH_URL", "catalogue": "AUTH_URL", "webhooks": "AUTH_URL"}
			if variable := wantURLs[service]; variable != "" {
				of := strings.ToLower(strings.TrimSuffix(variable, "_URL"))
				require.Equal(t, fmt.Sprintf("http://%s:8080,http://%[1]s-any:8080", of), named(container.list("env"), variable).text("value"), service)
			}
		}
	})
}

func TestOverlays_NoContainerMayDoWhatItNeedNot(t *testing.T) {
	each(t, func(t *testing.T, m manifests) {
		for from, pod := range m.pods() {
			spec := pod.in("spec")
			require.Equal(t, true, spec.at("securityContext", "runAsNonRoot"), from)
			require.NotZero(t, spec.at("securityContext", "runAsUser"), from)
			require.Equal(t, "RuntimeDefault", spec.text("securityContext", "seccompProfile", "type"), from)
			require.Equal(t, false, spec["automountServiceAccountToken"], from)
			for _, container := range spec.list("containers") {
				security := container.in("securityContext")
				require.Equal(t, true, security["readOnlyRootFilesystem"], from)
				require.Equal(t, false, security["allowPrivilegeEscalation"], from)
				require.Equal(t, []string{"ALL"}, security.texts("capabilities", "drop"), from)
				for _, resource := range []string{"cpu", "memory"} {
					require.NotEmpty(t, container.at("resources", "requests", resource), "%s: request of %s", from, resource)
					require.NotEmpty(t, container.at("resources", "limits", resource), "%s: limit of %s", from, resource)
				}
			}
		}
		for _, account := range m.of("ServiceAccount") {
			require.Equal(t, false, account["automountServiceAccountToken"], account.name())
		}
	})
}

// ofNode is the service that is a program of Node, and not of Go.
const ofNode = "webhooks"

// Node's heap fits into the memory limit too, with a third for what is outside of it.
func TestOverlays_NodesHeapFitsTheMemoryLimit(t *testing.T) {
	dockerfile, err := os.ReadFile(filepath.Join(root, "deploy", "docker", "Dockerfile"))
	require.NoError(t, err)
	heap := regexp.MustCompile(`"--max-old-space-size=(\d+)", "/webhooks\.mjs"`).FindStringSubmatch(string(dockerfile))
	require.NotNil(t, heap)
	mebibytes, err := strconv.Atoi(heap[1])
	require.NoError(t, err)
	each(t, func(t *testing.T, m manifests) {
		container := named(m.get(t, "Deployment", ofNode).list("spec", "template", "spec", "containers"), ofNode)
		limit, err := strconv.Atoi(strings.TrimSuffix(container.text("resources", "limits", "memory"), "Mi"))
		require.NoError(t, err)
		require.LessOrEqual(t, mebibytes, limit*2/3)
	})
}

// All pods that the autoscalers may start have their connections to PostgreSQL.
func TestOverlays_PostgreSQLHasAConnectionForEverySidecar(t *testing.T) {
	each(t, func(t *testing.T, m manifests) {
		server := m.pods()["StatefulSet postgres"]
		if server == nil {
			return
		}
		allowed := regexp.MustCompile(`max_connections=(\d+)`).FindStringSubmatch(strings.Join(server.list("spec", "containers")[0].texts("args"), " "))
		require.NotNil(t, allowed)
		most, err := strconv.Atoi(allowed[1])
		require.NoError(t, err)
		perSidecar, err := strconv.Atoi(named(m.get(t, "Component", "state").list("spec", "metadata"), "maxConns").text("value"))
		require.NoError(t, err)
		needed := 10.0 // administrators and jobs
		for _, service := range keepers {
			needed += float64(perSidecar) * m.get(t, "HorizontalPodAutoscaler", service).at("spec", "maxReplicas").(float64)
		}
		require.GreaterOrEqual(t, float64(most), needed)
	})
}

// Go's collector must run before the kernel ends the process, and need not much earlier.
func TestOverlays_GoKnowsTheMemoryLimit(t *testing.T) {
	mebibytes := func(text string) int {
		n, err := strconv.Atoi(strings.TrimRight(text, "MiB"))
		require.NoError(t, err, text)
		return n
	}
	fits := func(who, limit, goLimit string) {
		require.InDelta(t, 0.86, float64(mebibytes(goLimit))/float64(mebibytes(limit)), 0.04, "GOMEMLIMIT of %s beside its limit", who)
	}
	each(t, func(t *testing.T, m manifests) {
		for _, service := range services {
			pod := m.get(t, "Deployment", service).in("spec", "template")
			container := named(pod.list("spec", "containers"), service)
			annotations := pod.in("metadata", "annotations")
			_, limit, found := strings.Cut(annotations.text("dapr.io/env"), "GOMEMLIMIT=")
			require.True(t, found)
			fits("the sidecar of "+service, annotations.text("dapr.io/sidecar-memory-limit"), limit)
			if service == ofNode {
				for _, setting := range []string{"GOGC", "GOMEMLIMIT", "GOMAXPROCS"} {
					require.Nil(t, named(container.list("env"), setting), "Node does not read %s", setting)
				}
				continue
			}
			fits(service, container.text("resources", "limits", "memory"), named(container.list("env"), "GOMEMLIMIT").text("value"))
			require.Equal(t, "limits.cpu", named(container.list("env"), "GOMAXPROCS").text("valueFrom", "resourceFieldRef", "resource"))
		}
		if nats := m.pods()["StatefulSet nats"]; nats != nil {
			container := named(nats.list("spec", "containers"), "nats")
			fits("nats", container.text("resources", "limits", "memory"), named(container.list("env"), "GOMEMLIMIT").text("value"))
		}
	})
}

// sidecars are those of all services; keepersAnd are the services with a database, and a job.
func sidecars() string { return strings.Join(services, ",") }

func keepersAnd(others ...string) string {
	return strings.Join(append(slices.Clone(keepers), others...), ",")
}

func TestOverlays_NobodyWhoNeedNotComesIn(t *testing.T) {
	// Who may come to which port of whom. What is not here comes in nowhere.
	gateway := "http<-gateway"
	want := map[string][]string{
		"auth": {"http<-gateway,tickets,orders,payments,webhooks,catalogue"}, "webhooks": {gateway}, "catalogue": {gateway}, "orders": {"http<-gateway,auth"}, "tickets": {gateway}, "payments": {gateway},
		"expiration": {gateway, "dapr-internal<-expiration"},
		"gateway":    {"http<-namespace ingress-nginx"},
		"postgres":   {"postgres<-" + keepersAnd("postgres-databases", "postgres-backup")},
		"nats":       {"nats<-" + keepersAnd("nats-streams"), "routes<-nats"},
	}
	each(t, func(t *testing.T, m manifests) {
		want := maps.Clone(want)
		if _, dev := m.pods()["Deployment sandbox"]; dev {
			want["sandbox"] = []string{"http<-payments,namespace ingress-nginx"}
			want["gateway"] = []string{"http<-namespace ingress-nginx", "http<-sandbox"}
		}
		got := rules(t, m, "ingress", "from")
		delete(got, "everybody") // Prometheus, where there is one: see parts/observed
		for name := range want {
			require.ElementsMatch(t, want[name], got[name], "who comes in to %s", name)
		}
		require.ElementsMatch(t, slices.Collect(maps.Keys(want)), slices.Collect(maps.Keys(got)))
	})
}

func TestOverlays_NobodyGoesWhereNothingIsForThem(t *testing.T) {
	dapr := "6500->namespace dapr-system;50001->namespace dapr-system;50005->namespace dapr-system;50006->namespace dapr-system"
	each(t, func(t *testing.T, m manifests) {
		want := map[string][]string{}
		add := func(who string, to ...string) {
			for _, name := range strings.Split(who, ",") {
				want[name] = append(want[name], to...)
			}
		}
		add(sidecars(), strings.Split(dapr, ";")...)
		add("gateway", "http->auth,tickets,orders,payments,expiration,webhooks,catalogue")
		add("tickets,orders,payments,webhooks,catalogue", "http->auth")
		add("webhooks", "443->public addresses", "1024-65535->public addresses")
		add("auth", "http->orders")
		add("auth,orders", "443->private addresses", "6443->private addresses") // the API server: for the keys that sign
		add("expiration", "dapr-internal->expiration")
		add(keepersAnd("postgres-databases", "postgres-backup"), "postgres->postgres")
		add(keepersAnd("nats-streams"), "nats->nats")
		add("nats", "routes->nats")
		if _, dev := m.pods()["Deployment sandbox"]; dev {
			add("payments", "http->sandbox")
			add("sandbox", "http->gateway")
		} else {
			add("payments", "443->public addresses")
		}
		got := rules(t, m, "egress", "to")
		require.Equal(t, []string{"53->namespace kube-system", "53->namespace kube-system"}, got["all"], "names, and nothing else, for all")
		delete(got, "all")
		delete(got, "everybody") // the collector of traces, where there is one
		for name := range want {
			require.ElementsMatch(t, want[name], got[name], "where %s goes", name)
		}
		require.ElementsMatch(t, slices.Collect(maps.Keys(want)), slices.Collect(maps.Keys(got)))
	})
}

// rules are those of all policies in one direction, by whom they are for: "http<-gateway" or "http->auth".
func rules(t *testing.T, m manifests, direction, peers string) map[string][]string {
	t.Helper()
	got := map[string][]string{}
	closed := false
	for _, policy := range m.of("NetworkPolicy") {
		types := policy.texts("spec", "policyTypes")
		if !slices.Contains(types, strings.ToUpper(direction[:1])+direction[1:]) {
			require.Nil(t, policy.at("spec", direction), "%s has rules that count for nothing", policy.name())
			continue
		}
		if policy.at("spec", direction) == nil {
			if selector, _ := policy.at("spec", "podSelector").(map[string]any); len(selector) == 0 {
				closed = true
			}
			continue
		}
		for _, rule := range policy.list("spec", direction) {
			for _, name := range policiesFor(t, policy) {
				got[name] = append(got[name], peersOf(t, rule, peers)...)
			}
		}
	}
	require.True(t, closed, "nothing gets through unless a policy allows it")
	return got
}

// policiesFor are the names of the pods that a policy is for.
func policiesFor(t *testing.T, policy object) []string {
	t.Helper()
	selector := policy.in("spec", "podSelector")
	if len(selector) == 0 {
		return []string{"all"}
	}
	if expressions := selector.list("matchExpressions"); len(expressions) == 1 {
		require.Equal(t, "app.kubernetes.io/name", expressions[0]["key"], policy.name())
		return expressions[0].texts("values")
	}
	labels := selector.in("matchLabels")
	if labels["app.kubernetes.io/part-of"] != nil {
		return []string{"everybody"}
	}
	require.Len(t, labels, 1, policy.name())
	return []string{labels.text("app.kubernetes.io/name")}
}

func peersOf(t *testing.T, rule object, peers string) []string {
	t.Helper()
	var who []string
	for _, peer := range rule.list(peers) {
		if namespace := peer.text("namespaceSelector", "matchLabels", "kubernetes.io/metadata.name"); namespace != "" {
			who = append(who, "namespace "+namespace)
			continue
		}
		if block := peer.in("ipBlock"); block != nil {
			name := "private addresses"
			if block.text("cidr") == "0.0.0.0/0" {
				require.Subset(t, block.texts("except"), []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"})
				name = "public addresses"
			} else if block.text("cidr") == "2000::/3" { // without private, link-local and multicast addresses
				name = "public addresses"
			} else {
				require.Contains(t, []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"}, block.text("cidr"))
			}
			if !slices.Contains(who, name) {
				who = append(who, name)
			}
			continue
		}
		if name := peer.text("podSelector", "matchLabels", "app.kubernetes.io/name"); name != "" {
			who = append(who, name)
		}
		for _, expression := range peer.list("podSelector", "matchExpressions") {
			require.Equal(t, "app.kubernetes.io/name", expression["key"])
			who = append(who, expression.texts("values")...)
		}
	}
	require.NotEmpty(t, who, "an empty selector is everybody")
	arrow := "->"
	if peers == "from" {
		arrow = "<-"
	}
	var all []string
	for _, port := range rule.list("ports") {
		if peers == "from" {
			require.IsType(t, "", port["port"], "ports have names, of which one is the callback port's never")
		}
		name := fmt.Sprint(port["port"])
		if end := port["endPort"]; end != nil {
			name += fmt.Sprint("-", end)
		}
		all = append(all, name+arrow+strings.Join(who, ","))
	}
	require.NotEmpty(t, all, "a rule without ports opens all of them")
	return all
}

func TestOverlays_ProbesUseTheEndpointsOfTheService(t *testing.T) {
	each(t, func(t *testing.T, m manifests) {
		for _, service := range services {
			container := named(m.get(t, "Deployment", service).list("spec", "template", "spec", "containers"), service)
			ready := "/readyz"
			if service == "gateway" {
				ready = "/healthz" // its /readyz speaks for all, and one outage would take away the whole
			}
			require.Equal(t, ready, container.text("readinessProbe", "httpGet", "path"), service)
			require.Equal(t, "/healthz", container.text("livenessProbe", "httpGet", "path"), "%s: a restart mends no outage", service)
			require.Equal(t, "/healthz", container.text("startupProbe", "httpGet", "path"), service)
			if service == "gateway" || service == "dead-letters" {
				continue // the gateway asks for neither
			}
			require.Equal(t, true, m.get(t, "Service", service+"-any").at("spec", "publishNotReadyAddresses"))
			gateway := m.get(t, "Deployment", "gateway").list("spec", "template", "spec", "containers")[0]
			require.Equal(t, fmt.Sprintf("http://%s:8080,http://%[1]s-any:8080", service),
				named(gateway.list("env"), strings.ToUpper(service)+"_URL").text("value"))
		}
	})
}

func TestOverlays_ASidecarOutlivesItsService(t *testing.T) {
	each(t, func(t *testing.T, m manifests) {
		for _, service := range services {
			pod := m.get(t, "Deployment", service).in("spec", "template")
			annotations := pod.in("metadata", "annotations")
			var block, sidecar float64
			_, err := fmt.Sscanf(annotations.text("dapr.io/block-shutdown-duration"), "%fs", &block)
			require.NoError(t, err)
			_, err = fmt.Sscan(annotations.text("dapr.io/graceful-shutdown-seconds"), &sidecar)
			require.NoError(t, err)
			before, _ := pod.list("spec", "containers")[0].at("lifecycle", "preStop", "sleep", "seconds").(float64)
			const drains, noticed = 15, 5 // SHUTDOWN_TIMEOUT; app-health-threshold times app-health-probe-interval
			require.GreaterOrEqual(t, block, before+drains+noticed, "the sidecar publishes until its service is gone")
			require.Greater(t, pod.at("spec", "terminationGracePeriodSeconds"), block+sidecar, "and is not killed over it")
			require.Equal(t, "true", annotations["dapr.io/enable-app-health-check"], "by which it learns that its service is gone")
		}
	})
}

// secretKeys are the keys of secrets that pods and components ask for, as "name/key".
func secretKeys(m manifests) map[string]bool {
	keys := map[string]bool{}
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			o := object(v)
			if ref := o.in("secretKeyRef"); ref != nil {
				keys[ref.text("name")+"/"+ref.text("key")] = true
			}
			if name := o.text("secretName"); name != "" && o["items"] != nil {
				for _, item := range o.list("items") {
					keys[name+"/"+item.text("key")] = true
				}
			} else if name != "" {
				keys[name+"/tls.crt"], keys[name+"/tls.key"] = true, true
			}
			for name, inner := range v {
				if name != "optional" {
					walk(inner)
				}
			}
		case []any:
			for _, inner := range v {
				walk(inner)
			}
		}
	}
	for _, o := range m.all {
		walk(map[string]any(o))
	}
	for _, pod := range m.pods() {
		annotations := pod.in("metadata", "annotations")
		for _, annotation := range []string{"dapr.io/app-token-secret", "dapr.io/api-token-secret"} {
			if name := annotations.text(annotation); name != "" {
				keys[name+"/token"] = true
			}
		}
		for _, variable := range strings.Split(annotations.text("dapr.io/env-from-secret"), ",") {
			if _, from, ok := strings.Cut(variable, "="); ok {
				keys[strings.Replace(from, ":", "/", 1)] = true
			}
		}
		for _, container := range pod.list("spec", "containers") {
			for _, from := range container.list("envFrom") { // what the broker's file of users names
				for _, config := range m.of("ConfigMap") {
					for _, variable := range regexp.MustCompile(`(?:NATS|REDIS)_PASSWORD_\w+`).FindAllString(config.text("data", "users.conf"), -1) {
						keys[from.text("secretRef", "name")+"/"+variable] = true
					}
				}
			}
		}
	}
	keys["jwt-signing-key/jwt-signing-key"] = true   // auth asks for it by its sidecar
	keys["pass-signing-key/pass-signing-key"] = true // and orders for this one
	delete(keys, "postgres-admin/tls.crt")           // a folder with one file, which is listed by its key
	delete(keys, "postgres-admin/tls.key")
	return keys
}

func TestOverlays_SecretsAreMadeInDevAndNamedElsewhere(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	each(t, func(t *testing.T, m manifests) {
		made := map[string]bool{}
		for _, secret := range m.of("Secret") {
			for key := range secret.in("data") {
				made[secret.name()+"/"+key] = true
			}
		}
		asked := slices.Sorted(maps.Keys(secretKeys(m)))
		require.Greater(t, len(asked), 15)
		if len(made) == 0 {
			for _, key := range asked {
				name, key, _ := strings.Cut(key, "/")
				name = regexp.MustCompile(`^(postgres|broker|app-api-token|dapr-api-token)-(`+strings.Join(services, "|")+`)$`).ReplaceAllString(name, "$1-SERVICE")
				key = regexp.MustCompile(`^(NATS|REDIS)_PASSWORD_.*`).ReplaceAllString(key, "${1}_PASSWORD_SERVICE")
				require.Regexp(t, "(?m)^\\| `"+name+"`.*`"+regexp.QuoteMeta(key)+"`", string(readme), "README.md describes %s", name)
			}
			return
		}
		for _, key := range asked {
			if strings.HasPrefix(key, "backup-key/") || strings.HasPrefix(key, "restore-key/") {
				continue // optional: backups of dev are not encrypted
			}
			require.True(t, made[key], "%s is asked for and not made", key)
		}
	})
	t.Run("none is committed", func(t *testing.T) {
		for _, overlay := range overlays {
			require.Equal(t, overlay == "dev", len(render(t, overlay).of("Secret")) > 0, overlay)
		}
		list := exec.Command("git", "ls-files", "deploy/k8s/overlays")
		list.Dir = root
		committed, err := list.Output()
		require.NoError(t, err)
		require.NotContains(t, string(committed), "secrets/")
	})
}

func TestOverlays_TheWorldSeesTheAPIAndThePages(t *testing.T) {
	pages := pathsOfStorefront(t)
	inner := []string{"/healthz", "/readyz", "/metrics", "/events", "/.well-known/revocations", "/.well-known", "/sandbox/ledger", "/v1/payment_intents", "/dapr/config", "/ordersX", "/sell/x"}
	each(t, func(t *testing.T, m manifests) {
		ingress := m.get(t, "Ingress", "gateway")
		require.NotEmpty(t, ingress.list("spec", "tls")[0].text("secretName"))
		const nginx = "nginx.ingress.kubernetes.io/"
		require.Equal(t, "2m", ingress.text("metadata", "annotations", nginx+"proxy-body-size"), "images have up to 2,000,000 bytes")
		require.Equal(t, "off", ingress.text("metadata", "annotations", nginx+"proxy-buffering"), "the parts of a stream arrive at once")
		require.Equal(t, "60", ingress.text("metadata", "annotations", nginx+"proxy-read-timeout"), "longer than the 15 s between the heartbeats of a stream")
		rule := ingress.list("spec", "rules")[0]
		require.Equal(t, ingress.list("spec", "tls")[0].texts("hosts"), []string{rule.text("host")})
		var paths []string
		for _, path := range rule.list("http", "paths") {
			paths = append(paths, path.text("pathType")+" "+path.text("path"))
		}
		seen := func(path string) bool {
			return slices.ContainsFunc(paths, func(one string) bool {
				kind, prefix, _ := strings.Cut(one, " ")
				return path == prefix || kind == "Prefix" && strings.HasPrefix(path, prefix+"/")
			})
		}
		for _, path := range append(pages, "/api/tickets", "/.well-known/jwks.json", "/.well-known/passes/jwks.json") {
			require.True(t, seen(path), "%s is public", path)
		}
		for _, path := range inner {
			require.False(t, seen(path), path)
		}
		for _, one := range paths {
			_, path, _ := strings.Cut(one, " ")
			require.True(t, path == "/api" || strings.HasPrefix(path, "/.well-known/") || slices.ContainsFunc(pages, func(page string) bool {
				return page == path || strings.HasPrefix(page, path+"/")
			}), "%s is nothing of the storefront any more", path)
		}
		for _, other := range m.of("Ingress") {
			if other.name() != "gateway" {
				require.Equal(t, "sandbox", other.name())
				rule := other.list("spec", "rules")[0]
				require.Len(t, rule.list("http", "paths"), 1)
				require.Equal(t, "/3d_secure", rule.list("http", "paths")[0].text("path"))
			}
		}
	})
}

// pathsOfStorefront are the paths that the storefront serves, with "x" for each parameter, as its source has them.
func pathsOfStorefront(t *testing.T) []string {
	t.Helper()
	folder := filepath.Join(root, "services/storefront")
	sources, err := filepath.Glob(filepath.Join(folder, "*.go"))
	require.NoError(t, err)
	var paths []string
	route := regexp.MustCompile(`(?m)^\s+"(/[^"*]*)":\s+"\w+",|\b[gG]et\("(/[^"*]*)"|addFile\(app, "(/[^"]+)"`)
	for _, source := range sources {
		if strings.HasSuffix(source, "_test.go") {
			continue
		}
		text, err := os.ReadFile(source)
		require.NoError(t, err)
		for _, match := range route.FindAllStringSubmatch(string(text), -1) {
			if path := match[1] + match[2] + match[3]; path != "/" || match[3] == "" {
				paths = append(paths, regexp.MustCompile(`:\w+`).ReplaceAllString(path, "x"))
			}
		}
	}
	files, err := os.ReadDir(filepath.Join(folder, "files"))
	require.NoError(t, err)
	for _, file := range files {
		paths = append(paths, "/"+file.Name())
	}
	for _, path := range []string{"/", "/assets/x", "/shows/x", "/orders/x/pass", "/signin", "/favicon.svg", "/licences.txt"} {
		require.Contains(t, paths, path, "the test reads the source")
	}
	return paths
}

func TestOverlays_NobodyIsCalledThroughSidecars(t *testing.T) {
	each(t, func(t *testing.T, m manifests) {
		for _, configuration := range m.of("Configuration") {
			require.Equal(t, true, configuration.at("spec", "mtls", "enabled"))
			require.Equal(t, object{"defaultAction": "deny"}, configuration.in("spec", "accessControl"))
			apis := map[string]bool{}
			for _, api := range configuration.list("spec", "api", "allowed") {
				apis[api.text("name")] = true
			}
			want := []string{"state", "publish", "secrets", "metadata", "jobs"}
			if configuration.name() == "expiration" {
				want = append(want, "actors")
			}
			require.ElementsMatch(t, want, slices.Collect(maps.Keys(apis)), "what a service may ask of its sidecar")
		}
		for _, service := range services {
			want := "config"
			if slices.Contains([]string{"auth", "orders", "expiration"}, service) {
				want = service // which lets it ask for its secret, or use actors
			}
			require.Equal(t, want, m.get(t, "Deployment", service).text("spec", "template", "metadata", "annotations", "dapr.io/config"))
		}
	})
}

// What JetStream is to hold fits what the server may, and that fits the volume.
func TestOverlays_TheStreamsFitTheVolume(t *testing.T) {
	bytes := func(text string) float64 {
		match := regexp.MustCompile(`^(\d+)(Gi|Mi|GiB|MiB|G|M)$`).FindStringSubmatch(text)
		require.NotNil(t, match, text)
		n, err := strconv.ParseFloat(match[1], 64)
		require.NoError(t, err)
		return n * map[string]float64{"Gi": 1 << 30, "GiB": 1 << 30, "Mi": 1 << 20, "MiB": 1 << 20, "G": 1e9, "M": 1e6}[match[2]]
	}
	each(t, func(t *testing.T, m manifests) {
		server := m.get(t, "StatefulSet", "nats")
		volume := bytes(server.list("spec", "volumeClaimTemplates")[0].text("spec", "resources", "requests", "storage"))
		store := bytes(named(server.list("spec", "template", "spec", "containers")[0].list("env"), "MAX_FILE_STORE").text("value"))
		streams := 0.0
		for _, arg := range m.get(t, "Job", "nats-streams").list("spec", "template", "spec", "containers")[0].texts("args") {
			if size, found := strings.CutPrefix(arg, "--max-bytes="); found {
				streams = bytes(size)
			}
		}
		require.Positive(t, streams)
		require.Less(t, streams, store)
		require.Less(t, store, 0.92*volume)
	})
}

func TestOverlays_EventsAreWhatTheyAreEverywhere(t *testing.T) {
	each(t, func(t *testing.T, m manifests) {
		committed, err := os.ReadFile(filepath.Join(root, "components/events/subscriptions.yaml"))
		require.NoError(t, err)
		for _, name := range regexp.MustCompile(`(?m)^  name: ((\S+)-\w+)$`).FindAllStringSubmatch(string(committed), -1) {
			subscription := m.get(t, "Subscription", name[1])
			require.Equal(t, name[2:], subscription.texts("scopes"))
			require.NotEmpty(t, subscription.text("spec", "routes", "default"))
		}
		m.get(t, "Resiliency", "deliveries")
		for _, name := range []string{"state", "pubsub"} {
			require.ElementsMatch(t, keepers, m.get(t, "Component", name).texts("scopes"), "the gateway keeps nothing and publishes nothing")
		}
		require.Equal(t, []string{"auth", "orders"}, m.get(t, "Component", "secrets").texts("scopes"))
		for service, secret := range map[string]string{"auth": "jwt-signing-key", "orders": "pass-signing-key"} {
			scope := m.get(t, "Configuration", service).list("spec", "secrets", "scopes")[0]
			require.Equal(t, "deny", scope.text("defaultAccess"))
			require.Equal(t, []string{secret}, scope.texts("allowedSecrets"))
		}
	})
}

func TestProduction_ServersOfNATSAreThreeOnThreeNodes(t *testing.T) {
	m := render(t, "production")
	nats := m.get(t, "StatefulSet", "nats")
	require.EqualValues(t, 3, nats.at("spec", "replicas"))
	apart := nats.list("spec", "template", "spec", "affinity", "podAntiAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
	require.Equal(t, "kubernetes.io/hostname", apart[0].text("topologyKey"))
	require.Contains(t, m.get(t, "Job", "nats-streams").list("spec", "template", "spec", "containers")[0].texts("args"), "--replicas=3")
	for _, set := range m.of("StatefulSet") {
		require.NotEmpty(t, set.list("spec", "volumeClaimTemplates"), set.name())
	}
}

func TestRedis_TakesTheBrokersPlace(t *testing.T) {
	m := render(t, withRedis)
	pubsub := m.get(t, "Component", "pubsub")
	require.Equal(t, "pubsub.redis", pubsub.text("spec", "type"))
	require.Equal(t, "BROKER_ACCESS", named(pubsub.list("spec", "metadata"), "redisPassword").text("envRef"))
	require.ElementsMatch(t, keepers, pubsub.texts("scopes"))
	require.NotEmpty(t, m.get(t, "StatefulSet", "redis").list("spec", "volumeClaimTemplates"))
	require.NotContains(t, m.pods(), "StatefulSet nats")
	require.Contains(t, m.get(t, "ConfigMap", named(m.pods()["StatefulSet redis"].list("spec", "volumes"), "config").text("configMap", "name")).text("data", "redis.conf"),
		"appendfsync always", "who publishes is answered when the event is on disk")
	require.Contains(t, m.text, "user default off", "nobody without a password")
}

// The program in the container writes the users' passwords where their variables stand, and Redis takes what comes of it.
func TestRedis_EachServiceIsAUserOfItsOwn(t *testing.T) {
	redis, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("redis-server is not installed")
	}
	m := render(t, withRedis)
	pod := m.pods()["StatefulSet redis"]
	files := m.get(t, "ConfigMap", named(pod.list("spec", "volumes"), "config").text("configMap", "name")).in("data")
	folder, config, run := t.TempDir(), t.TempDir(), t.TempDir()
	ports, err := freePorts(1)
	require.NoError(t, err)
	moves := strings.NewReplacer("/etc/redis/", config+"/", "/run/redis/", run+"/", "dir /data", "dir "+folder, "tls-port 6379", "", "port 0", fmt.Sprintf("port %d", ports[0]),
		"tls-cert-file", "#", "tls-key-file", "#", "tls-ca-cert-file", "#", "tls-auth-clients", "#", "exec redis-server", "exec "+redis)
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(config, name), []byte(moves.Replace(text.(string))), 0o600))
	}
	command := pod.list("spec", "containers")[0].texts("command")
	require.Equal(t, []string{"sh", "-c"}, command[:2])
	env := []string{"REDIS_PASSWORD_ADMIN=root"}
	for _, service := range keepers {
		env = append(env, "REDIS_PASSWORD_"+strings.ToUpper(strings.ReplaceAll(service, "-", "_"))+"=p-"+service)
	}
	p, err := start("redis", folder, env, "sh", "-c", moves.Replace(command[2]))
	require.NoError(t, err)
	t.Cleanup(p.stop)
	as := func(user, password string, args ...string) string {
		out, _ := exec.Command("redis-cli", append([]string{"-p", strconv.Itoa(ports[0]), "--user", user, "--pass", password, "--no-auth-warning"}, args...)...).CombinedOutput()
		return string(out)
	}
	require.NoError(t, p.waitFor(20*time.Second, func(context.Context) error {
		if out := as("admin", "root", "ping"); out != "PONG\n" {
			return errors.New(out)
		}
		return nil
	}))
	require.Regexp(t, `^\d+-\d+`, as("orders", "p-orders", "xadd", "events.orders", "*", "data", "{}"))
	require.Contains(t, as("orders", "p-orders", "xadd", "events.payments", "*", "data", "{}"), "NOPERM")
	require.Contains(t, as("orders", "p-tickets", "xadd", "events.orders", "*", "data", "{}"), "WRONGPASS")
	nobody, _ := exec.Command("redis-cli", "-p", strconv.Itoa(ports[0]), "xadd", "events.orders", "*", "data", "{}").CombinedOutput()
	require.Contains(t, string(nobody), "NOAUTH")
}

// As deploy/k8s/release.sh writes an overlay: the sidecar's image, which is named in an annotation, has a digest of its own.
func TestRelease_TheSidecarIsPinnedByDigestAsWell(t *testing.T) {
	needs(t, "cluster")
	folder := t.TempDir()
	for _, path := range []string{"components", "deploy/k8s/base", "deploy/k8s/infrastructure", "deploy/k8s/parts", "deploy/k8s/overlays/production"} {
		require.NoError(t, os.MkdirAll(filepath.Join(folder, filepath.Dir(path)), 0o755))
		out, err := exec.Command("cp", "-R", filepath.Join(root, path), filepath.Join(folder, path)).CombinedOutput()
		require.NoError(t, err, string(out))
	}
	file := filepath.Join(folder, "deploy/k8s/overlays/production/kustomization.yaml")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	n := 0
	pinned := regexp.MustCompile(`newTag: 1\.0\.0`).ReplaceAllStringFunc(string(text), func(string) string {
		n++
		return fmt.Sprintf("digest: sha256:%064d", n)
	})
	require.NoError(t, os.WriteFile(file, []byte(pinned), 0o600))
	daprd := regexp.MustCompile(`boxoffice/daprd\n +digest: (sha256:\d+)`).FindStringSubmatch(pinned)[1]
	rendered, err := exec.Command(built("cluster"), "kubectl", "kustomize", filepath.Dir(file)).CombinedOutput()
	require.NoError(t, err, string(rendered))
	require.Equal(t, len(services), strings.Count(string(rendered), "dapr.io/sidecar-image: registry.example.com/boxoffice/daprd@"+daprd+"\n"))
	require.NotContains(t, string(rendered), "registry.example.com/boxoffice/gateway:")
}

func TestTLS_EveryoneWhoAsksVerifiesWhoAnswers(t *testing.T) {
	m := render(t, withTLS)
	for _, service := range services {
		pod := m.get(t, "Deployment", service).in("spec", "template", "spec")
		container := pod.list("containers")[0]
		asks := false
		for _, variable := range container.list("env") {
			if name := variable.text("name"); strings.HasSuffix(name, "_URL") && name != "STRIPE_SANDBOX_URL" && name != "PUBLIC_URL" {
				asks = true
				of := strings.ToLower(strings.TrimSuffix(name, "_URL"))
				require.Equal(t, fmt.Sprintf("https://%s:8080,https://%[1]s-any:8080", of), variable.text("value"), service)
			}
		}
		require.Equal(t, service != "expiration" && service != "dead-letters", asks, service)
		if asks {
			require.Equal(t, "/etc/boxoffice/ca/ca.crt", named(container.list("env"), "UPSTREAM_CA_FILE").text("value"), service)
			require.Equal(t, "/etc/boxoffice/ca", named(container.list("volumeMounts"), "infrastructure-ca").text("mountPath"), service)
		}
		if service == "gateway" || service == "dead-letters" {
			require.Nil(t, named(container.list("env"), "TLS_CERT_FILE"), "%s: nobody but the ingress asks it", service)
			continue
		}
		require.Equal(t, "/etc/boxoffice/tls/tls.crt", named(container.list("env"), "TLS_CERT_FILE").text("value"), service)
		require.Equal(t, "/etc/boxoffice/tls", named(container.list("volumeMounts"), "tls").text("mountPath"), service)
		require.Equal(t, "tls-"+service, named(pod.list("volumes"), "tls").text("secret", "secretName"))
		for _, probe := range []string{"startupProbe", "livenessProbe", "readinessProbe"} {
			require.Equal(t, "HTTPS", container.text(probe, "httpGet", "scheme"), service)
			require.NotEmpty(t, container.text(probe, "httpGet", "path"), service)
		}
		// The certificate is for both names, by the authority that the others know.
		secret := m.get(t, "Secret", "tls-"+service).in("data")
		read := func(data object, key string) []byte {
			text, err := base64.StdEncoding.DecodeString(data.text(key))
			require.NoError(t, err)
			return text
		}
		block, _ := pem.Decode(read(secret, "tls.crt"))
		certificate, err := x509.ParseCertificate(block.Bytes)
		require.NoError(t, err)
		pool := x509.NewCertPool()
		require.True(t, pool.AppendCertsFromPEM(read(m.get(t, "Secret", "infrastructure-ca").in("data"), "ca.crt")))
		for _, name := range []string{service, service + "-any"} {
			_, err = certificate.Verify(x509.VerifyOptions{Roots: pool, DNSName: name})
			require.NoError(t, err)
		}
	}
}

func TestSkaffold_AppliesTheSameTree(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "skaffold.yaml"))
	require.NoError(t, err)
	var paths []string
	for _, match := range regexp.MustCompile(`(?m)deploy/k8s/overlays/(\w+)$`).FindAllStringSubmatch(string(text), -1) {
		paths = append(paths, match[1])
	}
	require.Equal(t, overlays, paths)
}
