package proof

import (
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
			require.Equal(t, "STATE_CONNECTION=postgres-"+service+":connection", annotations["dapr.io/env-from-secret"], "a way to its own database alone")
			container := named(pod.list("spec", "containers"), service)
			require.NotNil(t, container, "the container has the name of the service, which `kubectl exec -c` asks for")
			require.Regexp(t, `/`+service+`:`, container.text("image"))
			require.Equal(t, strings.Replace(container.text("image"), "/"+service+":", "/daprd:", 1), annotations["dapr.io/sidecar-image"],
				"the sidecar's image comes from where the service's comes from")
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
			fits(service, container.text("resources", "limits", "memory"), named(container.list("env"), "GOMEMLIMIT").text("value"))
			require.Equal(t, "limits.cpu", named(container.list("env"), "GOMAXPROCS").text("valueFrom", "resourceFieldRef", "resource"))
			annotations := pod.in("metadata", "annotations")
			_, limit, found := strings.Cut(annotations.text("dapr.io/env"), "GOMEMLIMIT=")
			require.True(t, found)
			fits("the sidecar of "+service, annotations.text("dapr.io/sidecar-memory-limit"), limit)
		}
		if nats := m.pods()["StatefulSet nats"]; nats != nil {
			container := named(nats.list("spec", "containers"), "nats")
			fits("nats", container.text("resources", "limits", "memory"), named(container.list("env"), "GOMEMLIMIT").text("value"))
		}
	})
}

func TestOverlays_NobodyWhoNeedNotComesIn(t *testing.T) {
	// Who may come to which port of whom. What is not here comes in nowhere.
	gateway, keys := "http<-gateway", "dapr-internal<-tickets,orders,payments"
	everybody := "auth,tickets,orders,payments,expiration,gateway"
	want := map[string][]string{
		"auth": {gateway, keys}, "tickets": {gateway}, "orders": {gateway}, "payments": {gateway},
		"expiration": {gateway, "dapr-internal<-expiration"},
		"gateway":    {"http<-namespace ingress-nginx"},
		"postgres":   {"postgres<-" + everybody + ",postgres-databases,postgres-backup"},
		"nats":       {"nats<-" + everybody + ",nats-streams", "routes<-nats"},
	}
	each(t, func(t *testing.T, m manifests) {
		want := maps.Clone(want)
		if _, dev := m.pods()["Deployment sandbox"]; dev {
			want["sandbox"] = []string{"http<-payments"}
			want["gateway"] = []string{"http<-namespace ingress-nginx", "http<-sandbox"}
		}
		got := map[string][]string{}
		closed := false
		for _, policy := range m.of("NetworkPolicy") {
			require.Equal(t, []string{"Ingress"}, policy.texts("spec", "policyTypes"), policy.name())
			if policy.at("spec", "ingress") == nil {
				require.Empty(t, policy.at("spec", "podSelector"), "who closes the door closes it for all")
				closed = true
				continue
			}
			for _, rule := range policy.list("spec", "ingress") {
				got[policyFor(t, policy)] = append(got[policyFor(t, policy)], comers(t, rule)...)
			}
		}
		require.True(t, closed, "nobody comes in unless a policy says so")
		delete(got, "everybody") // Prometheus, where there is one: see parts/observed
		require.ElementsMatch(t, slices.Collect(maps.Keys(want)), slices.Collect(maps.Keys(got)))
		for name := range want {
			require.ElementsMatch(t, want[name], got[name], "who comes in to %s", name)
		}
	})
}

func policyFor(t *testing.T, policy object) string {
	t.Helper()
	labels := policy.in("spec", "podSelector", "matchLabels")
	if labels["app.kubernetes.io/part-of"] != nil {
		return "everybody"
	}
	require.Len(t, labels, 1, policy.name())
	return labels.text("app.kubernetes.io/name")
}

func comers(t *testing.T, rule object) []string {
	t.Helper()
	var who []string
	for _, from := range rule.list("from") {
		if namespace := from.text("namespaceSelector", "matchLabels", "kubernetes.io/metadata.name"); namespace != "" {
			who = append(who, "namespace "+namespace)
			continue
		}
		if name := from.text("podSelector", "matchLabels", "app.kubernetes.io/name"); name != "" {
			who = append(who, name)
		}
		for _, expression := range from.list("podSelector", "matchExpressions") {
			require.Equal(t, "app.kubernetes.io/name", expression["key"])
			who = append(who, expression.texts("values")...)
		}
	}
	require.NotEmpty(t, who, "an empty selector lets everybody in")
	var all []string
	for _, port := range rule.list("ports") {
		require.IsType(t, "", port["port"], "ports have names, of which one is the callback port's never")
		all = append(all, port.text("port")+"<-"+strings.Join(who, ","))
	}
	require.NotEmpty(t, all, "a rule without ports opens all of them")
	return all
}

func TestOverlays_ProbesFollowWhatAServiceSaysOfItself(t *testing.T) {
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
			if service == "gateway" {
				continue
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
		if name := annotations.text("dapr.io/app-token-secret"); name != "" {
			keys[name+"/token"] = true
		}
		if _, from, ok := strings.Cut(annotations.text("dapr.io/env-from-secret"), "="); ok {
			keys[strings.Replace(from, ":", "/", 1)] = true
		}
	}
	keys["jwt-signing-key/jwt-signing-key"] = true // auth asks for it by its sidecar
	delete(keys, "postgres-admin/tls.crt")         // a folder with one file, which is listed by its key
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
				name = regexp.MustCompile(`^postgres-(`+strings.Join(services, "|")+`)$`).ReplaceAllString(name, "postgres-SERVICE")
				require.Regexp(t, "(?m)^\\| `"+name+"`.*`"+regexp.QuoteMeta(key)+"`", string(readme), "README.md says what %s is", name)
			}
			return
		}
		for _, key := range asked {
			require.True(t, made[key], "%s is asked for and not made", key)
		}
	})
	t.Run("none is committed", func(t *testing.T) {
		for _, overlay := range overlays {
			require.Equal(t, overlay == "dev", len(render(t, overlay).of("Secret")) > 0, overlay)
		}
		list := exec.Command("git", "ls-files", "deploy/k8s/overlays")
		list.Dir = house
		committed, err := list.Output()
		require.NoError(t, err)
		require.NotContains(t, string(committed), "secrets/")
	})
}

func TestOverlays_TheWorldSeesTheAPIAlone(t *testing.T) {
	each(t, func(t *testing.T, m manifests) {
		ingress := m.get(t, "Ingress", "gateway")
		require.NotEmpty(t, ingress.list("spec", "tls")[0].text("secretName"))
		rule := ingress.list("spec", "rules")[0]
		require.Equal(t, ingress.list("spec", "tls")[0].texts("hosts"), []string{rule.text("host")})
		var paths []string
		for _, path := range rule.list("http", "paths") {
			paths = append(paths, path.text("pathType")+" "+path.text("path"))
		}
		require.Equal(t, []string{"Prefix /api", "Exact /.well-known/jwks.json"}, paths)
	})
}

func TestOverlays_OnlyTheKeySetMayBeCalled(t *testing.T) {
	each(t, func(t *testing.T, m manifests) {
		namespace := m.of("Namespace")[0].name()
		for _, configuration := range m.of("Configuration") {
			require.Equal(t, true, configuration.at("spec", "mtls", "enabled"))
			access := configuration.in("spec", "accessControl")
			require.Equal(t, "deny", access["defaultAction"])
			if configuration.name() != "auth" {
				require.Empty(t, access["policies"])
				continue
			}
			var callers []string
			for _, policy := range access.list("policies") {
				callers = append(callers, policy.text("appId"))
				require.Equal(t, namespace, policy["namespace"])
				require.Equal(t, "deny", policy["defaultAction"])
				require.Equal(t, []object{{"name": "/.well-known/jwks.json", "httpVerb": []any{"GET"}, "action": "allow"}}, policy.list("operations"))
			}
			require.Equal(t, []string{"tickets", "orders", "payments"}, callers)
		}
		for _, service := range services {
			want := "config"
			if service == "auth" {
				want = "auth"
			}
			require.Equal(t, want, m.get(t, "Deployment", service).text("spec", "template", "metadata", "annotations", "dapr.io/config"))
		}
	})
}

func TestOverlays_EventsAreWhatTheyAreEverywhere(t *testing.T) {
	each(t, func(t *testing.T, m manifests) {
		committed, err := os.ReadFile(filepath.Join(house, "components/events/subscriptions.yaml"))
		require.NoError(t, err)
		for _, name := range regexp.MustCompile(`(?m)^  name: ((\w+)-\w+)$`).FindAllStringSubmatch(string(committed), -1) {
			subscription := m.get(t, "Subscription", name[1])
			require.Equal(t, name[2:], subscription.texts("scopes"))
			require.NotEmpty(t, subscription.text("spec", "routes", "default"))
		}
		m.get(t, "Resiliency", "deliveries")
		for _, name := range []string{"state", "pubsub"} {
			require.ElementsMatch(t, services, m.get(t, "Component", name).texts("scopes"))
		}
		require.Equal(t, []string{"auth"}, m.get(t, "Component", "secrets").texts("scopes"))
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
	require.Equal(t, "redis", named(pubsub.list("spec", "metadata"), "redisPassword").text("secretKeyRef", "name"))
	require.ElementsMatch(t, services, pubsub.texts("scopes"))
	require.NotEmpty(t, m.get(t, "StatefulSet", "redis").list("spec", "volumeClaimTemplates"))
	require.NotContains(t, m.pods(), "StatefulSet nats")
	require.Contains(t, m.get(t, "ConfigMap", named(m.pods()["StatefulSet redis"].list("spec", "volumes"), "config").text("configMap", "name")).text("data", "redis.conf"),
		"appendfsync always", "who publishes is answered when the event is on disk")
}

func TestSkaffold_AppliesTheSameTree(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(house, "skaffold.yaml"))
	require.NoError(t, err)
	var paths []string
	for _, match := range regexp.MustCompile(`(?m)deploy/k8s/overlays/(\w+)$`).FindAllStringSubmatch(string(text), -1) {
		paths = append(paths, match[1])
	}
	require.Equal(t, overlays, paths)
}
