package proof

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// node is a cluster with one node, on which pods run. All of it lives in namespaces of its own for processes, mounts and
// network, and goes with them.
type node struct {
	*cluster
}

const (
	nodeAddress = "172.30.0.1"
	// nodeGroup is where the node's pods are among the control groups of the machine.
	nodeGroup = "boxoffice-node"
)

// insideNode, in the environment, means that this process is the first one in the namespaces of a node.
const insideNode = "BOXOFFICE_NODE"

// needsNode skips the test if this machine cannot be a node; under `make test-node` that is a failure.
func needsNode(t *testing.T) {
	t.Helper()
	if os.Getenv("CI_REQUIRE_NODE") == "" {
		t.Skip("it makes this machine a node of a cluster: make test-node")
	}
	needs(t, "cluster", "node", "pause", "controlplane", "runtime", "migrate", "stripe")
	var missing []string
	if os.Getuid() != 0 {
		missing = append(missing, "root")
	}
	for _, program := range []string{"containerd", "ctr", "runc", "helm", "ip", "sysctl", "nft", "conntrack", "ldd"} {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, program)
		}
	}
	if plugins() == "" {
		missing = append(missing, "the CNI plugins bridge and host-local")
	}
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres"); len(found) == 0 {
		missing = append(missing, "PostgreSQL")
	}
	require.Empty(t, missing, "what a node needs and this machine does not have")
}

// plugins is the folder of the CNI plugins.
func plugins() string {
	for _, dir := range []string{"/usr/lib/cni", "/opt/cni/bin"} {
		if _, err := os.Stat(filepath.Join(dir, "bridge")); err == nil {
			return dir
		}
	}
	return ""
}

// inNode runs the test again as the first process of new namespaces; when it ends, so does all that it started.
func inNode(t *testing.T) {
	t.Helper()
	dir, err := os.MkdirTemp("", "boxoffice-node-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, errors.Join(os.RemoveAll(dir), removeGroups())) })
	require.NoError(t, makeGroups())
	self := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=25m")
	self.Env = append(os.Environ(), insideNode+"="+dir)
	self.Stdout, self.Stderr = os.Stdout, os.Stderr
	self.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
		Pdeathsig:  syscall.SIGKILL,
	}
	require.NoError(t, self.Run())
}

// groups are the places of the node's control groups: one for each controller of version 1, or the one of version 2.
func groups() ([]string, error) {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return []string{filepath.Join("/sys/fs/cgroup", nodeGroup)}, nil
	}
	hierarchies, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	for i, file := range hierarchies {
		hierarchies[i] = filepath.Join(filepath.Dir(file), nodeGroup)
	}
	return hierarchies, err
}

func makeGroups() error {
	all, err := groups()
	if err != nil {
		return err
	}
	for _, group := range all {
		if err := os.MkdirAll(group, 0o755); err != nil {
			return err
		}
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} { // of version 1, where they are empty at first
			parent, err := os.ReadFile(filepath.Join(filepath.Dir(group), file))
			if err != nil || len(parent) == 0 {
				continue
			}
			if err := os.WriteFile(filepath.Join(group, file), parent, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeGroups waits until the kernel has seen the last process go.
func removeGroups() error {
	all, err := groups()
	if err != nil {
		return err
	}
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		err = nil
		for _, group := range all {
			var inside []string
			_ = filepath.WalkDir(group, func(path string, entry fs.DirEntry, err error) error {
				if err == nil && entry.IsDir() {
					inside = append(inside, path)
				}
				return nil
			})
			slices.Reverse(inside)
			for _, folder := range inside {
				if e := syscall.Rmdir(folder); e != nil && !errors.Is(e, syscall.ENOENT) {
					err = fmt.Errorf("remove %s: %w", folder, e)
				}
			}
		}
		if err == nil || time.Now().After(limit) {
			return err
		}
	}
}

// prepare makes of the new namespaces a machine: it sees its own processes, has a network with nobody else on it, and what
// its programs write in fixed places is not the real machine's.
const prepare = `set -eu
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs tmpfs /var/log
mkdir -p "$1/var" && mount -t tmpfs tmpfs "$1/var" && mkdir "$1/var/upper" "$1/var/work"
mount -t overlay overlay -o "lowerdir=/var/lib,upperdir=$1/var/upper,workdir=$1/var/work" /var/lib
# What the kubelet sets for the whole machine it sets in files.
for name in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
	mkdir -p "$1/sysctl/${name%/*}" && cat "/proc/sys/$name" >"$1/sysctl/$name"
	mount --bind "$1/sysctl/$name" "/proc/sys/$name"
done
hostname node
ip link set lo up
ip link add node0 type veth peer name node1
ip link set node1 up && ip link set node0 up
ip address add ` + nodeAddress + `/24 dev node0
ip route add default dev node0
sysctl -qw net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=1
`

// newNode brings the node up, with our images on it.
func newNode(t *testing.T) *node {
	dir := os.Getenv(insideNode)
	n := &node{&cluster{dir: dir, address: nodeAddress}}
	out, err := exec.Command("sh", "-c", prepare, "sh", dir).CombinedOutput()
	require.NoError(t, err, string(out))
	require.NoError(t, n.start(t))
	return n
}

// file writes a program's configuration and returns where.
func (n *node) file(name, text string) (string, error) {
	path := filepath.Join(n.dir, name)
	return path, errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600))
}

const containerd = "/run/containerd/containerd.sock"

func (n *node) start(t *testing.T) error {
	config, err := n.file("containerd.toml", fmt.Sprintf(`version = 2
root = "%[1]s/containerd"
state = "/run/containerd/state"
[grpc]
  address = "`+containerd+`"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "`+pauseImage+`"
  disable_apparmor = true
  # Not everywhere root may ask the kernel to spare a process, as the kubelet does for some.
  restrict_oom_score_adj = true
  disable_hugetlb_controller = true
  tolerate_missing_hugetlb_controller = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "%[2]s"
  conf_dir = "%[1]s/cni"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
`, n.dir, plugins()))
	if err != nil {
		return err
	}
	if _, err := n.file("cni/node.conflist", `{"cniVersion": "0.4.0", "name": "node", "plugins": [{
		"type": "bridge", "bridge": "pods", "isDefaultGateway": true, "hairpinMode": true,
		"ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.0.0/24"}]]}}]}`); err != nil {
		return err
	}
	runtime, err := n.run("containerd", nil, "containerd", "--config="+config)
	if err != nil {
		return err
	}
	if err := runtime.waitFor(time.Minute, func(ctx context.Context) error { return exec.CommandContext(ctx, "ctr", "version").Run() }); err != nil {
		return err
	}
	if err := n.importImages(); err != nil {
		return err
	}
	t.Log("containerd has the images")

	if err := n.up("--enable-admission-plugins=NodeRestriction", "--kubelet-preferred-address-types=InternalIP"); err != nil {
		return err
	}
	if _, err := n.run("kube-controller-manager", nil, built("node"), "kube-controller-manager", "--kubeconfig="+n.kubeconfig, "--leader-elect=false",
		"--service-account-private-key-file="+filepath.Join(n.dir, "accounts.key"), "--root-ca-file="+filepath.Join(n.dir, "certificates/apiserver.crt")); err != nil {
		return err
	}
	if _, err := n.run("kube-scheduler", nil, built("node"), "kube-scheduler", "--kubeconfig="+n.kubeconfig, "--leader-elect=false"); err != nil {
		return err
	}
	config, err = n.file("kubelet.yaml", `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://`+containerd+`
cgroupDriver: cgroupfs
cgroupRoot: /`+nodeGroup+`
enforceNodeAllocatable: []
failSwapOn: false
failCgroupV1: false
clusterDNS: [`+nodeAddress+`]
clusterDomain: cluster.local
resolvConf: ""
podLogsDir: `+n.dir+`/pods
# Nobody else is on its network.
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
# The disk is the machine's, and however full it is, it is nobody's business here.
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}
`)
	if err != nil {
		return err
	}
	kubelet, err := n.run("kubelet", nil, built("node"), "kubelet", "--config="+config, "--kubeconfig="+filepath.Join(n.dir, "kubeconfig-node"),
		"--root-dir="+filepath.Join(n.dir, "kubelet"), "--cert-dir="+filepath.Join(n.dir, "kubelet-certificates"), "--hostname-override=node", "--node-ip="+nodeAddress)
	if err != nil {
		return err
	}
	config, err = n.file("kube-proxy.yaml", `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {kubeconfig: `+n.kubeconfig+`}
hostnameOverride: node
clusterCIDR: 10.244.0.0/24
# These are the whole machine's.
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`)
	if err != nil {
		return err
	}
	if _, err := n.run("kube-proxy", nil, built("node"), "kube-proxy", "--config="+config); err != nil {
		return err
	}
	if _, err := n.run("dns", nil, built("node"), "dns", "--kubeconfig="+n.kubeconfig, "--listen="+nodeAddress+":53"); err != nil {
		return err
	}
	if _, err := n.kubectl(n.storage(), "apply", "--server-side", "-f", "-"); err != nil {
		return err
	}
	return kubelet.waitFor(3*time.Minute, func(context.Context) error {
		_, err := n.kubectl("", "wait", "--for=condition=Ready", "node/node", "--timeout=1s")
		return err
	})
}

// importImages gives containerd all images, one after the other: each is a file of the size of its programs for a moment.
func (n *node) importImages() error {
	all, err := images(daprVersion)
	if err != nil {
		return err
	}
	archive := filepath.Join(n.dir, "image.tar")
	defer os.Remove(archive)
	for _, im := range all {
		if err := im.write(archive); err != nil {
			return err
		}
		if out, err := exec.Command("ctr", "-n", "k8s.io", "images", "import", archive).CombinedOutput(); err != nil {
			return fmt.Errorf("import %s: %w: %s", im.name, err, out)
		}
	}
	return nil
}

// storage is a default StorageClass with volumes enough: folders of this machine.
func (n *node) storage() string {
	var all strings.Builder
	all.WriteString(`apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: local, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
`)
	for i := range 8 {
		path := filepath.Join(n.dir, "volumes", fmt.Sprint(i))
		_ = os.MkdirAll(path, 0o755)
		fmt.Fprintf(&all, `---
apiVersion: v1
kind: PersistentVolume
metadata: {name: local-%d}
spec:
  capacity: {storage: 100Gi}
  accessModes: [ReadWriteOnce]
  storageClassName: local
  local: {path: %s}
  nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [node]}]}]}}
`, i, path)
	}
	return all.String()
}

// daprVersion is that of the chart and of what we build.
const daprVersion = "1.18.1"

// It follows README.md, from an empty cluster to a bought ticket.
func TestNode_SellsATicketAndRollsOutWithoutLosingARequest(t *testing.T) {
	needsNode(t)
	if os.Getenv(insideNode) == "" {
		inNode(t)
		return
	}
	n := newNode(t)
	defer n.stop()
	begun := time.Now()
	chart, err := daprChart("")
	require.NoError(t, err)
	helm := exec.Command("helm", "upgrade", "--install", "dapr", chart, "--namespace", "dapr-system", "--create-namespace", "--wait", "--timeout=10m",
		"--set", "global.tag="+daprVersion, // which the chart of a release has by itself
		"--set", "dapr_sidecar_injector.sidecarDropALLCapabilities=true", "--set", "dapr_sidecar_injector.webhookFailurePolicy=Fail",
		"--set-string", `dapr_sidecar_injector.namespaceSelector.matchLabels.app\.kubernetes\.io/part-of=boxoffice`)
	helm.Env = append(os.Environ(), "KUBECONFIG="+n.kubeconfig, "HOME="+n.dir)
	out, err := helm.CombinedOutput()
	require.NoError(t, err, string(out))
	t.Logf("Dapr's control plane is up after %s", time.Since(begun).Round(time.Second))

	begun = time.Now()
	namespace := apply(t, n.cluster, "dev").of("Namespace")[0].name()
	t.Cleanup(func() {
		if t.Failed() {
			n.report(t, namespace)
		}
	})
	n.must(t, "", "wait", "-n", namespace, "--for=condition=complete", "job/postgres-databases", "job/nats-streams", "--timeout=10m")
	n.must(t, "", "wait", "-n", namespace, "--for=condition=available", "deployment", "--all", "--timeout=10m")
	t.Logf("overlay dev is available after %s", time.Since(begun).Round(time.Second))
	api := client{base: "http://" + n.must(t, "", "get", "service", "gateway", "-n", namespace, "-o=jsonpath={.spec.clusterIP}") + ":8080"}

	t.Run("a ticket is sold", func(t *testing.T) {
		seller, buyer := api.signUp(t, "seller"), api.signUp(t, "buyer")
		status, listed := seller.do(t, http.MethodPost, "/api/tickets", `{"title":"Front row","price":4500}`)
		require.Equal(t, http.StatusCreated, status, listed)
		ticket := listed.text("id")
		var order object
		require.Eventually(t, func() bool { // orders gets it by an event
			status, answer := buyer.do(t, http.MethodPost, "/api/orders", `{"ticketId":"`+ticket+`"}`)
			order = answer
			return status == http.StatusCreated
		}, 30*time.Second, 100*time.Millisecond)
		require.Eventually(t, func() bool { // and payments of this
			status, _ := buyer.do(t, http.MethodPost, "/api/payments", `{"orderId":"`+order.text("id")+`","paymentMethod":"pm_card_visa"}`)
			return status == http.StatusCreated
		}, 30*time.Second, 100*time.Millisecond)
		require.Eventually(t, func() bool {
			_, sold := api.do(t, http.MethodGet, "/api/tickets/"+ticket, "")
			return sold.text("status") == "sold"
		}, 30*time.Second, 100*time.Millisecond)
	})

	pod := n.must(t, "", "get", "pod", "-n", namespace, "-l", "app.kubernetes.io/name=tickets", "-o=jsonpath={.items[0].metadata.name}")
	t.Run("a sidecar does nothing for who lacks its token, and calls nobody for who has it", func(t *testing.T) {
		sidecar := client{base: "http://" + n.forward(t, namespace, "pod/"+pod, 3500)}
		for _, path := range []string{"/v1.0/invoke/auth/method/.well-known/jwks.json", "/v1.0/metadata", "/v1.0/state/state/x"} {
			status, _ := sidecar.do(t, http.MethodGet, path, "")
			require.Equal(t, http.StatusUnauthorized, status, path)
		}
		token, err := os.ReadFile("../overlays/dev/secrets/dapr-api-token-tickets")
		require.NoError(t, err)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, sidecar.base+"/v1.0/invoke/auth/method/.well-known/jwks.json", nil)
		require.NoError(t, err)
		req.Header.Set("dapr-api-token", string(token))
		res, err := insecure.Do(req)
		require.NoError(t, err)
		defer res.Body.Close()
		require.Equal(t, http.StatusForbidden, res.StatusCode)
	})

	t.Run("a rollout fails no request", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		asked, failed := 0, []string{}
		finished := make(chan struct{})
		go func() {
			defer close(finished)
			for ctx.Err() == nil {
				status, answer := api.do(t, http.MethodGet, "/api/tickets", "")
				if asked++; status != http.StatusOK {
					failed = append(failed, fmt.Sprint(status, answer))
				}
				select {
				case <-ctx.Done():
				case <-time.After(100 * time.Millisecond):
				}
			}
		}()
		n.must(t, "", "rollout", "restart", "-n", namespace, "deployment/tickets")
		n.must(t, "", "rollout", "status", "-n", namespace, "deployment/tickets", "--timeout=5m")
		// The old pod ends after that.
		n.must(t, "", "wait", "-n", namespace, "--for=delete", "pod/"+pod, "--timeout=5m")
		cancel()
		<-finished
		require.Empty(t, failed, "of %d requests", asked)
		t.Logf("%d requests, none failed", asked)
	})
}

// forward opens a port of a pod, on its 127.0.0.1, to the test.
func (n *node) forward(t *testing.T, namespace, what string, port int) (address string) {
	t.Helper()
	ports, err := freePorts(1)
	require.NoError(t, err)
	p, err := start("port-forward", t.TempDir(), []string{"KUBECONFIG=" + n.kubeconfig}, built("cluster"), "kubectl",
		"port-forward", "-n", namespace, what, fmt.Sprintf("%d:%d", ports[0], port))
	require.NoError(t, err)
	t.Cleanup(p.stop)
	address = fmt.Sprintf("127.0.0.1:%d", ports[0])
	require.NoError(t, p.waitFor(30*time.Second, func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err == nil {
			err = conn.Close()
		}
		return err
	}))
	return address
}

// report logs the state of the cluster when a test has failed.
func (n *node) report(t *testing.T, namespace string) {
	for _, args := range [][]string{
		{"get", "pods", "-A", "-o", "wide"},
		{"get", "events", "-A", "--field-selector=type!=Normal", "--sort-by=.lastTimestamp"},
		{"logs", "-n", namespace, "-l", "app.kubernetes.io/part-of=boxoffice", "--all-containers", "--prefix", "--tail=20", "--max-log-requests=50"},
	} {
		out, err := n.kubectl("", args...)
		t.Log(out, err)
	}
}

// client calls the API, signed in or not.
type client struct{ base, token string }

func (c client) do(t *testing.T, method, path, body string) (int, object) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := insecure.Do(req)
	if err != nil {
		return 0, object{"error": err.Error()}
	}
	defer res.Body.Close()
	var answer object
	_ = json.NewDecoder(res.Body).Decode(&answer)
	return res.StatusCode, answer
}

func (c client) signUp(t *testing.T, name string) client {
	t.Helper()
	status, answer := c.do(t, http.MethodPost, "/api/users/signup", `{"email":"`+name+`@example.com","password":"correct horse"}`)
	require.Equal(t, http.StatusCreated, status, answer)
	return client{c.base, answer.text("token")}
}
