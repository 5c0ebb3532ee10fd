package proof

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// apply brings an overlay into the cluster, as `make k8s-apply` does.
func apply(t *testing.T, c *cluster, overlay string) manifests {
	t.Helper()
	m := render(t, overlay)
	c.must(t, m.text, "apply", "--server-side", "--field-manager=boxoffice", "-f", "-")
	return m
}

func TestApply_TheAPIServerTakesEveryOverlayAndKeepsAllOfIt(t *testing.T) {
	c := sharedCluster(t)
	for _, overlay := range append([]string{withRedis, withTLS}, overlays...) {
		t.Run(filepath.Base(overlay), func(t *testing.T) {
			m := apply(t, c, overlay)
			file := filepath.Join(t.TempDir(), "rendered.yaml")
			require.NoError(t, os.WriteFile(file, []byte(m.text), 0o600))

			stored := parse(t, c.must(t, "", "get", "-f", file, "-o", "json")).list("items")
			require.Len(t, stored, len(m.all))
			for i, want := range m.all {
				require.Empty(t, has(map[string]any(stored[i]), map[string]any(want), want.kind()+" "+want.name()))
			}
			// Applied again it changes nothing.
			difference := c.must(t, m.text, "diff", "--server-side", "--field-manager=boxoffice", "-f", "-")
			require.Empty(t, difference)
		})
	}
}

func TestApply_AFieldThatDoesNotExistIsRefused(t *testing.T) {
	c := sharedCluster(t)
	_, err := c.kubectl("{apiVersion: dapr.io/v1alpha1, kind: Component, metadata: {name: typo, namespace: default}, spec: {type: state.sqlite, version: v1, metadate: []}}",
		"apply", "--server-side", "-f", "-")
	require.ErrorContains(t, err, "metadate")
}

func TestApply_AnAccountReadsItsOwnSigningKeyAndNothingElse(t *testing.T) {
	c := sharedCluster(t)
	m := apply(t, c, "dev")
	namespace := m.of("Namespace")[0].name()
	may := func(service, verb, what string) bool {
		out, _ := c.kubectl("", "auth", "can-i", verb, what, "-n", namespace, "--as=system:serviceaccount:"+namespace+":"+service,
			"--as-group=system:serviceaccounts", "--as-group=system:authenticated")
		return out == "yes\n"
	}
	for _, service := range services {
		require.Equal(t, service == "auth", may(service, "get", "secret/jwt-signing-key"), service)
		require.Equal(t, service == "orders", may(service, "get", "secret/pass-signing-key"), service)
		require.False(t, may(service, "get", "secret/postgres-"+service), service)
		require.False(t, may(service, "list", "secrets"), service)
		require.False(t, may(service, "create", "pods"), service)
	}
	// Not only by the rules: with the tokens that the sidecars have.
	read := func(service, name string) error {
		token := c.must(t, "", "create", "token", service, "-n", namespace)
		_, err := c.kubectl("", "get", "secret", name, "-n", namespace, "--token="+token, "--server="+c.url, "--insecure-skip-tls-verify", "--kubeconfig=/dev/null")
		return err
	}
	require.NoError(t, read("auth", "jwt-signing-key"))
	require.NoError(t, read("orders", "pass-signing-key"))
	require.ErrorContains(t, read("orders", "jwt-signing-key"), "forbidden")
	require.ErrorContains(t, read("auth", "pass-signing-key"), "forbidden")
	require.ErrorContains(t, read("auth", "stripe"), "forbidden")
}

func TestApply_NoPrivilegedPodGetsInBesideThem(t *testing.T) {
	c := sharedCluster(t)
	namespace := apply(t, c, "dev").of("Namespace")[0].name()
	_, err := c.kubectl(`{apiVersion: v1, kind: Pod, metadata: {name: intruder}, spec: {serviceAccountName: tickets, hostNetwork: true, containers: [{name: x, image: x}]}}`,
		"create", "-n", namespace, "-f", "-")
	require.ErrorContains(t, err, "PodSecurity")
}
