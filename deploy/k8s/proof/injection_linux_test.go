package proof

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// inject makes a pod of a Deployment, as the controller of its ReplicaSet does, and returns what the API server stored:
// after Dapr's injector was asked, and after what is enforced in the namespace was looked at.
func inject(t *testing.T, c *cluster, m manifests, service string) object {
	t.Helper()
	template := m.get(t, "Deployment", service).in("spec", "template")
	namespace := m.of("Namespace")[0].name()
	pod := object{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{
		"generateName": service + "-",
		"labels":       template.at("metadata", "labels"), "annotations": template.at("metadata", "annotations"),
	}, "spec": template["spec"]}
	text, err := json.Marshal(pod)
	require.NoError(t, err)
	stored := c.must(t, string(text), "create", "-n", namespace, "-f", "-", "-o", "json", "--as=system:serviceaccount:kube-system:replicaset-controller")
	return parse(t, stored)
}

func flag(t *testing.T, container object, name string) string {
	t.Helper()
	args := container.texts("args")
	at := slices.Index(args, name)
	require.GreaterOrEqual(t, at, 0, "%s is not among %v", name, args)
	return args[at+1]
}

func TestInjection_EveryPodGetsItsSidecarAndKeepsItsSecurity(t *testing.T) {
	c := withControlPlane(t)
	for _, overlay := range []string{"dev", "production"} {
		m := apply(t, c, overlay)
		for _, service := range services {
			t.Run(overlay+" "+service, func(t *testing.T) {
				pod := inject(t, c, m, service)
				containers := pod.list("spec", "containers")
				require.Len(t, containers, 2)
				sidecar, app := named(containers, "daprd"), named(containers, service)
				annotations := m.get(t, "Deployment", service).in("spec", "template", "metadata", "annotations")

				require.Equal(t, annotations.text("dapr.io/sidecar-image"), sidecar.text("image"))
				require.Equal(t, "/daprd", sidecar.texts("args")[0], "deploy/runtime answers to this name")
				for name, want := range map[string]string{
					"--app-id": service, "--app-port": "3001", "--app-protocol": "http", "--mode": "kubernetes",
					"--config": annotations.text("dapr.io/config"), "--dapr-grpc-port": "50001", "--dapr-http-port": "3500", "--dapr-public-port": "3501",
					"--dapr-internal-grpc-port": "50002", "--dapr-listen-addresses": "[::1],127.0.0.1",
					"--app-health-check-path": "/healthz", "--app-health-probe-interval": "1", "--app-health-probe-timeout": "900", "--app-health-threshold": "5",
					"--dapr-graceful-shutdown-seconds": "10", "--dapr-block-shutdown-duration": "28s",
					"--control-plane-address":  "dapr-api.dapr-system.svc.cluster.local:443",
					"--sentry-address":         "dapr-sentry.dapr-system.svc.cluster.local:443",
					"--placement-host-address": "dapr-placement-server.dapr-system.svc.cluster.local:50005",
					"--scheduler-host-address": "dapr-scheduler-server-a.dapr-system.svc.cluster.local:443",
				} {
					require.Equal(t, want, flag(t, sidecar, name), name)
				}
				for _, name := range []string{"--enable-mtls", "--enable-app-health-check", "--disable-builtin-k8s-secret-store", "--log-as-json"} {
					require.Contains(t, sidecar.texts("args"), name)
				}
				ports := map[string]any{}
				for _, port := range sidecar.list("ports") {
					ports[port.text("name")] = port["containerPort"]
				}
				require.Equal(t, map[string]any{"dapr-http": 3500., "dapr-grpc": 50001., "dapr-internal": 50002., "dapr-metrics": 9090.}, ports)
				require.NotEmpty(t, sidecar.in("livenessProbe"))
				require.NotEmpty(t, sidecar.in("readinessProbe"))

				// The pod is as safe as it was.
				require.Empty(t, has(pod["spec"], map[string]any{
					"automountServiceAccountToken": false, "terminationGracePeriodSeconds": 45.,
					"securityContext": map[string]any{"runAsNonRoot": true, "runAsUser": 65532., "seccompProfile": map[string]any{"type": "RuntimeDefault"}},
				}, "spec"))
				for _, container := range containers {
					security := container.in("securityContext")
					require.Equal(t, true, security["readOnlyRootFilesystem"], container.text("name"))
					require.Equal(t, false, security["allowPrivilegeEscalation"], container.text("name"))
					require.Equal(t, []string{"ALL"}, security.texts("capabilities", "drop"), container.text("name"))
				}
				require.Equal(t, true, sidecar.at("securityContext", "runAsNonRoot"))
				require.Equal(t, "RuntimeDefault", sidecar.text("securityContext", "seccompProfile", "type"))
				require.Equal(t, map[string]any{"cpu": "1", "memory": "384Mi"}, sidecar.at("resources", "limits"))
				require.Equal(t, "128Mi", sidecar.text("resources", "requests", "memory"))

				// What each of the two knows.
				secret := func(container object, variable string) string {
					ref := named(container.list("env"), variable).in("valueFrom", "secretKeyRef")
					return ref.text("name") + "/" + ref.text("key")
				}
				if slices.Contains(keepers, service) {
					require.Equal(t, "postgres-"+service+"/connection", secret(sidecar, "STATE_CONNECTION"))
					require.Equal(t, "broker-"+service+"/access", secret(sidecar, "BROKER_ACCESS"))
				}
				for variable, name := range map[string]string{"APP_API_TOKEN": "app-api-token-", "DAPR_API_TOKEN": "dapr-api-token-"} {
					require.Equal(t, name+service+"/token", secret(sidecar, variable))
					require.Equal(t, secret(sidecar, variable), secret(app, variable))
				}
				require.Nil(t, named(app.list("env"), "STATE_CONNECTION"), "the service knows no database")
				require.Nil(t, named(app.list("env"), "BROKER_ACCESS"), "nor the broker")
				require.Equal(t, "50001", named(app.list("env"), "DAPR_GRPC_PORT").text("value"))
				require.Contains(t, named(sidecar.list("env"), "DAPR_TRUST_ANCHORS").text("value"), "BEGIN CERTIFICATE")

				mounts := func(container object) (paths []string) {
					for _, mount := range container.list("volumeMounts") {
						require.Equal(t, true, mount["readOnly"])
						paths = append(paths, mount.text("mountPath"))
					}
					return paths
				}
				want := []string{"/etc/boxoffice/ca", sentryTokens}
				if service == "auth" || service == "orders" {
					want = append(want, "/var/run/secrets/kubernetes.io/serviceaccount")
				}
				require.ElementsMatch(t, want, mounts(sidecar))
				require.Empty(t, mounts(app), "a service has no token, not even auth and orders")
			})
		}
	}
}

func TestInjection_WhatTheServicesNeedOfTheirEnvironmentIsThere(t *testing.T) {
	c := withControlPlane(t)
	m := apply(t, c, "dev")
	for _, service := range services {
		t.Run(service, func(t *testing.T) {
			command := builtService(t, service)
			pod := inject(t, c, m, service)
			var env []string
			for _, variable := range named(pod.list("spec", "containers"), service).list("env") {
				value := variable.text("value")
				if ref := variable.in("valueFrom", "secretKeyRef"); ref != nil {
					value = secretValue(t, c, pod.text("metadata", "namespace"), ref)
				} else if variable.at("valueFrom", "fieldRef") != nil {
					value = pod.name()
				}
				env = append(env, variable.text("name")+"="+value)
			}
			// There is no sidecar, which it finds out once it is content with its environment.
			p, err := start(service, t.TempDir(), append(env, "START_TIMEOUT=1s"), command...)
			require.NoError(t, err)
			defer p.stop()
			select {
			case <-p.done:
			case <-time.After(time.Minute):
				t.Fatal("it does not give up")
			}
			require.Regexp(t, "no sidecar answers|the sidecar or the store does not answer", p.lastLines(), "%s", strings.Join(env, " "))
		})
	}
}

// With parts/tls the services take their certificates and the authority, and addresses of https.
func TestTLS_TheServicesTakeTheirEnvironment(t *testing.T) {
	m := render(t, withTLS)
	dev, err := filepath.Abs("../overlays/dev/secrets")
	require.NoError(t, err)
	for _, service := range services {
		t.Run(service, func(t *testing.T) {
			command := builtService(t, service)
			files := strings.NewReplacer("/etc/boxoffice/ca/", dev+"/", "/etc/boxoffice/tls/tls.", dev+"/tls-"+service+".")
			env := []string{"START_TIMEOUT=1s", "DAPR_GRPC_PORT=50001", "DAPR_HTTP_PORT=3500"} // which Dapr's injector sets
			for _, variable := range m.get(t, "Deployment", service).list("spec", "template", "spec", "containers")[0].list("env") {
				value := files.Replace(variable.text("value"))
				if variable.at("valueFrom", "secretKeyRef") != nil {
					value = "a-secret-of-some-length"
				}
				env = append(env, variable.text("name")+"="+value)
			}
			p, err := start(service, t.TempDir(), env, command...)
			require.NoError(t, err)
			defer p.stop()
			select {
			case <-p.done:
			case <-time.After(time.Minute):
				t.Fatal("it does not give up")
			}
			require.Regexp(t, "no sidecar answers|the sidecar or the store does not answer", p.lastLines(), "%s", strings.Join(env, " "))
		})
	}
}

func secretValue(t *testing.T, c *cluster, namespace string, ref object) string {
	t.Helper()
	return c.must(t, "", "get", "secret", ref.text("name"), "-n", namespace, `-o=go-template={{index .data "`+ref.text("key")+`" | base64decode}}`)
}

func TestControlPlane_TheOperatorReadsOurSubscriptions(t *testing.T) {
	c := withControlPlane(t)
	namespace := apply(t, c, "dev").of("Namespace")[0].name()
	// In the older version, to which the API server has the operator's webhook convert it.
	old := parse(t, c.must(t, "", "get", "subscriptions.v1alpha1.dapr.io", "orders-tickets", "-n", namespace, "-o", "json"))
	require.Equal(t, "events.tickets", old.text("spec", "topic"))
}
