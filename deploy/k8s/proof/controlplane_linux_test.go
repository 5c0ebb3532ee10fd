package proof

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// controlPlane is Dapr's own, run against the cluster as Dapr's chart sets it up: sentry gives certificates, the operator
// serves components, and the API server has the injector put a sidecar into each pod.
type controlPlane struct {
	c                                     *cluster
	sentry, operator, webhook, conversion int
}

var theControlPlane struct {
	once sync.Once
	err  error
}

func withControlPlane(t *testing.T) *cluster {
	t.Helper()
	c := sharedCluster(t)
	needs(t, "controlplane")
	theControlPlane.once.Do(func() {
		ports, err := freePorts(4)
		if err == nil {
			p := &controlPlane{c: c, sentry: ports[0], operator: ports[1], webhook: ports[2], conversion: ports[3]}
			err = p.up()
		}
		theControlPlane.err = err
	})
	require.NoError(t, theControlPlane.err)
	return c
}

// resources are what Dapr's chart makes for its control plane, as far as it matters here. The two services lead to this
// machine, where in a cluster they lead to pods.
func (p *controlPlane) resources() string {
	var all strings.Builder
	all.WriteString("{apiVersion: v1, kind: Namespace, metadata: {name: dapr-system}}\n")
	for _, name := range []string{"sentry", "operator", "injector"} {
		fmt.Fprintf(&all, `---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: dapr-%[1]s, namespace: dapr-system}}
---
apiVersion: v1
kind: Pod
metadata: {name: dapr-%[1]s, namespace: dapr-system, annotations: {dapr.io/control-plane: %[1]s}}
spec: {serviceAccountName: dapr-%[1]s, containers: [{name: %[1]s, image: daprio/%[1]s}]}
`, name)
	}
	fmt.Fprintf(&all, `---
apiVersion: dapr.io/v1alpha1
kind: Configuration
metadata: {name: daprsystem, namespace: dapr-system}
spec:
  mtls: {enabled: true, workloadCertTTL: 24h, allowedClockSkew: 15m, controlPlaneTrustDomain: cluster.local, sentryAddress: "localhost:%d"}
---
{apiVersion: v1, kind: Secret, metadata: {name: dapr-trust-bundle, namespace: dapr-system}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: dapr-trust-bundle, namespace: dapr-system}}
---
{apiVersion: v1, kind: Service, metadata: {name: dapr-sidecar-injector, namespace: dapr-system}, spec: {type: ExternalName, externalName: localhost}}
---
{apiVersion: v1, kind: Service, metadata: {name: dapr-webhook, namespace: dapr-system}, spec: {type: ExternalName, externalName: localhost}}
`, p.sentry)
	return all.String()
}

// webhookConfiguration is the chart's, with the port of this machine, and set as in README.md: with no mercy on
// failures, but for our own namespaces alone.
func (p *controlPlane) webhookConfiguration() string {
	return fmt.Sprintf(`apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: dapr-sidecar-injector}
webhooks:
  - name: sidecar-injector.dapr.io
    reinvocationPolicy: IfNeeded
    clientConfig:
      caBundle: ""
      service: {namespace: dapr-system, name: dapr-sidecar-injector, path: /mutate, port: %d}
    rules: [{apiGroups: [""], apiVersions: [v1], resources: [pods], operations: [CREATE]}]
    failurePolicy: Fail
    namespaceSelector: {matchLabels: {app.kubernetes.io/part-of: boxoffice}}
    sideEffects: None
    admissionReviewVersions: [v1, v1beta1]
`, p.webhook)
}

func (p *controlPlane) up() error {
	c := p.c
	if _, err := c.kubectl(p.resources(), "apply", "--server-side", "-f", "-"); err != nil {
		return err
	}
	health, err := freePorts(3)
	if err != nil {
		return err
	}
	common := []string{"NAMESPACE=dapr-system", "KUBECONFIG=" + c.kubeconfig, "KUBE_CONFIG=" + c.kubeconfig,
		// In no pod Dapr's programs want to be root, which the user of this test may be.
		"DAPR_UNSAFE_SKIP_CONTAINER_UID_GID_CHECK=true"}
	issuer := filepath.Join(c.dir, "issuer")
	if err := os.Mkdir(issuer, 0o700); err != nil {
		return err
	}
	sentry, err := p.run("sentry", common, health[0], "--mode=kubernetes", "--trust-domain=cluster.local", "--kubeconfig="+c.kubeconfig,
		"--listen-address=127.0.0.1", "--port="+strconv.Itoa(p.sentry), "--issuer-credentials="+issuer)
	if err != nil {
		return err
	}
	anchors := filepath.Join(c.dir, "anchors.crt")
	if err := sentry.waitFor(time.Minute, func(context.Context) error {
		text, err := c.kubectl("", "get", "configmap", "dapr-trust-bundle", "-n", "dapr-system", `-o=jsonpath={.data.ca\.crt}`)
		if err != nil || text == "" {
			return fmt.Errorf("no trust bundle yet: %w", err)
		}
		return os.WriteFile(anchors, []byte(text), 0o600)
	}); err != nil {
		return err
	}
	if err := sentry.waitFor(time.Minute, answers(fmt.Sprintf("http://127.0.0.1:%d/healthz", health[0]), "")); err != nil {
		return err
	}

	if _, err := c.kubectl(p.webhookConfiguration(), "apply", "--server-side", "-f", "-"); err != nil {
		return err
	}
	patch := fmt.Sprintf(`[{"op":"add","path":"/spec/conversion/webhook/clientConfig/service/port","value":%d}]`, p.conversion)
	if _, err := c.kubectl("", "patch", "crd", "subscriptions.dapr.io", "--type=json", "-p", patch); err != nil {
		return err
	}
	operator, err := p.runWithToken("operator", append(common, "DAPR_TRUST_ANCHORS_FILE="+anchors), health[1], "--trust-anchors-file="+anchors,
		"--port="+strconv.Itoa(p.operator), "--listen-address=127.0.0.1", "--webhook-server-port="+strconv.Itoa(p.conversion),
		"--webhook-server-listen-address=127.0.0.1", "--watch-interval=0", "--disable-leader-election")
	if err != nil {
		return err
	}
	injector, err := p.runWithToken("injector", append(common,
		"DAPR_TRUST_ANCHORS_FILE="+anchors, "DAPR_CONTROL_PLANE_TRUST_DOMAIN=cluster.local", fmt.Sprintf("DAPR_SENTRY_ADDRESS=localhost:%d", p.sentry),
		// What README.md asks of the chart, and what the chart does by itself.
		"SIDECAR_DROP_ALL_CAPABILITIES=true", "SIDECAR_IMAGE=ghcr.io/dapr/daprd:1.18.1", "SIDECAR_IMAGE_PULL_POLICY=IfNotPresent",
		"KUBE_CLUSTER_DOMAIN=cluster.local"), health[2], "--kubeconfig="+c.kubeconfig, "--port="+strconv.Itoa(p.webhook))
	if err != nil {
		return err
	}
	if err := operator.waitFor(time.Minute, answers(fmt.Sprintf("http://127.0.0.1:%d/healthz", health[1]), "")); err != nil {
		return err
	}
	return injector.waitFor(time.Minute, answers(fmt.Sprintf("http://127.0.0.1:%d/healthz", health[2]), ""))
}

func (p *controlPlane) run(name string, env []string, health int, flags ...string) (*process, error) {
	command := append([]string{built("controlplane"), name, "--healthz-port=" + strconv.Itoa(health), "--enable-metrics=false", "--log-level=info"}, flags...)
	return p.c.run(name, env, command...)
}

// sentryTokens is where, in a pod, Dapr's programs find the token with which they prove to sentry who they are.
const sentryTokens = "/var/run/secrets/dapr.io/sentrytoken"

// runWithToken runs a program with the token of its service account in the place where it would be in its pod: in a mount
// namespace of its own, with nothing else in /var/run.
func (p *controlPlane) runWithToken(name string, env []string, health int, flags ...string) (*process, error) {
	token, err := p.c.kubectl("", "create", "token", "dapr-"+name, "-n", "dapr-system", "--audience=spiffe://cluster.local/ns/dapr-system/dapr-sentry",
		"--bound-object-kind=Pod", "--bound-object-name=dapr-"+name)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(p.c.dir, name+".token")
	if err := os.WriteFile(file, []byte(strings.TrimSpace(token)), 0o600); err != nil {
		return nil, err
	}
	program, err := filepath.Abs(built("controlplane"))
	if err != nil {
		return nil, err
	}
	const inPod = `mount -t tmpfs none "$(readlink -f /var/run)" && mkdir -p ` + sentryTokens + ` && cp "$0" ` + sentryTokens + `/token && exec "$@"`
	command := append([]string{"unshare", "--user", "--map-root-user", "--mount", "sh", "-c", inPod, file, program, name,
		"--healthz-port=" + strconv.Itoa(health), "--enable-metrics=false", "--log-level=info"}, flags...)
	return p.c.run(name, env, command...)
}
