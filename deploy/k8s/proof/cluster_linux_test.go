package proof

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// root is the folder of the repository.
const root = "../../.."

func built(name string) string { return filepath.Join(root, ".build", name) }

// needs skips the test if a program was not built; under `make test-k8s` that is a failure.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := os.Stat(built(program)); err != nil {
			if os.Getenv("CI_REQUIRE_K8S") != "" {
				t.Fatalf("%s is not built", program)
			}
			t.Skipf("%s is not built: make test-k8s", program)
		}
	}
	if testing.Short() {
		t.Skip("it starts an API server")
	}
}

// builtService is the command of a service that was built. The test is skipped as needs does, and, for the service of Node, if Node is
// missing.
func builtService(t *testing.T, service string) []string {
	t.Helper()
	if service != ofNode {
		needs(t, service)
		return []string{built(service)}
	}
	program, err := exec.LookPath("node")
	if err != nil && os.Getenv("CI_REQUIRE_TYPESCRIPT") == "" {
		t.Skip("Node is not installed")
	}
	require.NoError(t, err)
	needs(t, service+".mjs")
	return []string{program, built(service + ".mjs")}
}

// process is a program that a test started; it ends with the test program at the latest.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	err  error
}

func start(name, dir string, env []string, command ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd = exec.Command(command[0], command[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { p.err = p.cmd.Wait(); close(p.done) }()
	return p, nil
}

func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// waitFor waits until ready returns nil; the error has the reason, and the end of the log.
func (p *process) waitFor(limit time.Duration, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for {
		trying, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := ready(trying)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended: %w\n%s", p.name, errors.Join(p.err, err), p.lastLines())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w\n%s", p.name, err, p.lastLines())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (p *process) lastLines() string {
	text, _ := os.ReadFile(p.log)
	return string(text[max(0, len(text)-4000):])
}

// insecure is for asking servers of our own on this machine.
var insecure = &http.Client{Transport: &http.Transport{
	TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true,
}}

func answers(url, token string) func(context.Context) error {
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		res, err := insecure.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode >= 300 {
			return fmt.Errorf("%s answers %s", url, res.Status)
		}
		return nil
	}
}

// freePorts are ports on which nobody listens at the moment.
func freePorts(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close()
		ports[i] = listener.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}

// cluster is a Kubernetes API server, and nothing that acts on what is in it.
type cluster struct {
	dir, address, url, kubeconfig string
	processes                     []*process
}

const (
	adminToken = "admin-of-the-proof"
	nodeToken  = "node-of-the-proof" // what the kubelet of node_linux_test.go shows
)

func (c *cluster) run(name string, env []string, command ...string) (*process, error) {
	p, err := start(name, c.dir, env, command...)
	if err == nil {
		c.processes = append(c.processes, p)
	}
	return p, err
}

func (c *cluster) stop() {
	for i := len(c.processes) - 1; i >= 0; i-- {
		c.processes[i].stop()
	}
	_ = os.RemoveAll(c.dir)
}

var theCluster struct {
	once sync.Once
	c    *cluster
	err  error
}

// sharedCluster is one for all tests; it is up in ten seconds or so.
func sharedCluster(t *testing.T) *cluster {
	t.Helper()
	needs(t, "cluster")
	theCluster.once.Do(func() { theCluster.c, theCluster.err = newCluster() })
	require.NoError(t, theCluster.err)
	return theCluster.c
}

func TestMain(m *testing.M) {
	status := m.Run()
	if theCluster.c != nil {
		theCluster.c.stop()
	}
	os.Exit(status)
}

func newCluster() (*cluster, error) {
	dir, err := os.MkdirTemp("", "boxoffice-k8s-")
	if err != nil {
		return nil, err
	}
	c := &cluster{dir: dir, address: "127.0.0.1"}
	err = c.up("--endpoint-reconciler-type=none")
	if err == nil {
		err = c.defineDapr()
	}
	if err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

func (c *cluster) up(flags ...string) error {
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	client, peer := fmt.Sprintf("http://127.0.0.1:%d", ports[0]), fmt.Sprintf("http://127.0.0.1:%d", ports[1])
	etcd, err := c.run("etcd", nil, built("cluster"), "etcd", "--data-dir="+filepath.Join(c.dir, "etcd"),
		"--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=default="+peer,
		"--unsafe-no-fsync", "--log-level=warn")
	if err != nil {
		return err
	}
	if err := etcd.waitFor(time.Minute, answers(client+"/health", "")); err != nil {
		return err
	}
	key, err := accountKey()
	if err != nil {
		return err
	}
	files := map[string]string{"accounts.key": key, "tokens.csv": adminToken + ",admin,admin,system:masters\n" + nodeToken + ",system:node:node,node,system:nodes\n"}
	c.url = fmt.Sprintf("https://%s:%d", c.address, ports[2])
	c.kubeconfig = filepath.Join(c.dir, "kubeconfig")
	for name, token := range map[string]string{"kubeconfig": adminToken, "kubeconfig-node": nodeToken} {
		files[name] = fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: proof
clusters: [{name: proof, cluster: {server: %q, insecure-skip-tls-verify: true}}]
users: [{name: user, user: {token: %s}}]
contexts: [{name: proof, context: {cluster: proof, user: user}}]
`, c.url, token)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	accounts := filepath.Join(c.dir, "accounts.key")
	api, err := c.run("kube-apiserver", nil, append([]string{built("cluster"), "kube-apiserver",
		"--etcd-servers=" + client, "--secure-port=" + strconv.Itoa(ports[2]), "--bind-address=" + c.address,
		"--cert-dir=" + filepath.Join(c.dir, "certificates"),
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=" + accounts, "--service-account-signing-key-file=" + accounts,
		"--token-auth-file=" + filepath.Join(c.dir, "tokens.csv"), "--authorization-mode=Node,RBAC",
		"--service-cluster-ip-range=10.96.0.0/16"}, flags...)...)
	if err != nil {
		return err
	}
	return api.waitFor(3*time.Minute, answers(c.url+"/readyz", adminToken))
}

// defineDapr gives the API server Dapr's resource definitions, where nobody installs Dapr itself.
func (c *cluster) defineDapr() error {
	definitions, err := daprChart("crds")
	if err != nil {
		return err
	}
	// Dapr's chart has this patched after its installation.
	if err := c.applyFolder(definitions, "namespace: replaceme", "namespace: dapr-system"); err != nil {
		return err
	}
	_, err = c.kubectl("", "wait", "--for=condition=Established", "--timeout=60s", "crd", "--all")
	return err
}

// applyFolder applies all files of a folder, with one text in the place of another.
func (c *cluster) applyFolder(folder, from, to string) error {
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil {
		return err
	}
	var all strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		all.WriteString("\n---\n" + strings.ReplaceAll(string(text), from, to))
	}
	_, err = c.kubectl(all.String(), "apply", "--server-side", "-f", "-")
	return err
}

// accountKey is what signs the tokens of service accounts.
func accountKey() (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})), nil
}

// daprChart is a folder of Dapr's Helm chart, of the version that we build.
func daprChart(folder string) (string, error) {
	list := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/dapr/dapr")
	list.Dir = filepath.Join(root, "deploy/runtime")
	dir, err := list.Output()
	if err != nil {
		return "", fmt.Errorf("find Dapr's module: %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(dir)), "charts/dapr", folder), nil
}

// kubectl runs kubectl with text for its input, and returns its output.
func (c *cluster) kubectl(text string, args ...string) (string, error) {
	cmd := exec.Command(built("cluster"), append([]string{"kubectl"}, args...)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.kubeconfig, "HOME="+c.dir)
	cmd.Stdin = strings.NewReader(text)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("kubectl %s: %w: %s%s", strings.Join(args, " "), err, errs.String(), out.String())
	}
	return out.String(), nil
}

func (c *cluster) must(t *testing.T, text string, args ...string) string {
	t.Helper()
	out, err := c.kubectl(text, args...)
	require.NoError(t, err)
	return out
}
