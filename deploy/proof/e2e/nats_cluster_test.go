package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/broker"
	"boxoffice/deploy/proof/client"
)

// natsCluster is three NATS servers, each with a copy of every stream, as in deploy/k8s/infrastructure/nats-cluster, without TLS and token.
type natsCluster struct {
	root    string // of the repository
	servers []*natsServer
	js      jetstream.JetStream
}

type natsServer struct {
	name, url, config string
	cmd               *exec.Cmd
}

const natsClusterConfig = `listen: %q
server_name: %s
jetstream {
  store_dir: %q
  sync_interval: always
}
cluster {
  name: boxoffice
  listen: %q
  no_advertise: true
  routes: [%s]
}
`

// newNATSCluster chooses ports and writes a file for each server. It starts none.
func newNATSCluster(t *testing.T) *natsCluster {
	t.Helper()
	c := &natsCluster{root: root(t)}
	const n = 3
	var ports [2 * n]string
	for i := range ports {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		ports[i] = listener.Addr().String()
		defer func() { _ = listener.Close() }() // after all are chosen, or a port could be chosen twice
	}
	clients, routes := ports[:n], ports[n:]
	for i := range n {
		folder := t.TempDir()
		n := &natsServer{name: fmt.Sprintf("nats-%d", i), url: "nats://" + clients[i], config: filepath.Join(folder, "nats.conf")}
		config := fmt.Sprintf(natsClusterConfig, clients[i], n.name, filepath.Join(folder, "data"), routes[i], "nats-route://"+strings.Join(routes, ", nats-route://"))
		require.NoError(t, os.WriteFile(n.config, []byte(config), 0o600))
		c.servers = append(c.servers, n)
	}
	return c
}

// open starts all servers, which end with the test, and creates the streams as the Job of the overlays does.
func (c *natsCluster) open(t *testing.T) {
	t.Helper()
	for _, n := range c.servers {
		c.start(t, n)
		t.Cleanup(func() {
			n.kill()
			if t.Failed() {
				log, _ := os.ReadFile(n.config + ".log")
				lines := strings.Split(string(log), "\n")
				t.Logf("%s | %s", n.name, strings.Join(lines[max(0, len(lines)-40):], "\n"))
			}
		})
	}
	out, err := exec.Command(c.runtime(), "nats-streams", "--server="+c.urls(), "--replicas=3").CombinedOutput()
	require.NoError(t, err, "%s", out)
	conn, err := nats.Connect(c.urls(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.PingInterval(time.Second))
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	c.js, err = jetstream.New(conn)
	require.NoError(t, err)
}

func (c *natsCluster) runtime() string { return filepath.Join(c.root, ".build", "runtime") }

func (c *natsCluster) start(t *testing.T, n *natsServer) {
	t.Helper()
	log, err := os.OpenFile(n.config+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	defer func() { _ = log.Close() }()
	n.cmd = exec.Command(c.runtime(), "nats-server", "--config", n.config)
	n.cmd.Stdout, n.cmd.Stderr = log, log
	require.NoError(t, n.cmd.Start())
}

func (n *natsServer) kill() {
	_ = n.cmd.Process.Kill()
	_ = n.cmd.Wait()
}

func (n *natsServer) signal(t *testing.T, what os.Signal) {
	t.Helper()
	require.NoError(t, n.cmd.Process.Signal(what))
}

// urls is the URL of all servers.
func (c *natsCluster) urls() string {
	var all []string
	for _, n := range c.servers {
		all = append(all, n.url)
	}
	return strings.Join(all, ",")
}

// resources returns the components of the default set, with the cluster as the broker.
func (c *natsCluster) resources(t *testing.T) []string {
	t.Helper()
	components, folder := filepath.Join(c.root, "components"), t.TempDir()
	require.NoError(t, os.CopyFS(folder, os.DirFS(filepath.Join(components, "embedded"))))
	file := filepath.Join(folder, "pubsub.yaml")
	usual, err := os.ReadFile(file)
	require.NoError(t, err)
	text := strings.Replace(string(usual), "      secretKeyRef:\n        name: nats-url\n        key: nats-url\n", "      value: "+c.urls()+"\n", 1)
	require.NotEqual(t, string(usual), text)
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return []string{folder, filepath.Join(components, "events")}
}

// consumers is how many durable consumers the stream of events has: one for each subscription to its topics.
func (c *natsCluster) consumers(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(c.root, "components", "events", "subscriptions.yaml"))
	require.NoError(t, err)
	return strings.Count(string(text), "\n  topic: events")
}

// waitReplicated waits until all three servers have the stream of events and its consumers, up to date. It returns the name of the stream's leader.
func (c *natsCluster) waitReplicated(t *testing.T) (leader string) {
	t.Helper()
	three := func(of *jetstream.ClusterInfo) bool {
		if of == nil || of.Leader == "" || len(of.Replicas) != 2 {
			return false
		}
		return of.Replicas[0].Current && of.Replicas[1].Current
	}
	// Under load a copy is sometimes late for a moment, so the consumers are checked one by one.
	seen := map[string]bool{}
	eventuallyWithin(t, time.Minute, "all three servers have the stream and its consumers", func() bool {
		stream, err := c.js.Stream(t.Context(), "events")
		if err != nil {
			return false
		}
		info := stream.CachedInfo()
		leader = info.Cluster.Leader
		consumers := stream.ListConsumers(t.Context())
		for consumer := range consumers.Info() {
			if consumer.Config.Durable != "" {
				seen[consumer.Name] = seen[consumer.Name] || three(consumer.Cluster)
			}
		}
		for _, held := range seen {
			if !held {
				return false
			}
		}
		return consumers.Err() == nil && len(seen) == c.consumers(t) && three(info.Cluster)
	})
	return leader
}

// sellEventually sells a ticket. It tries again while events of the ticket and of the order are late.
func (s *testStack) sellEventually(t *testing.T, buyer *testUser) {
	t.Helper()
	listing := s.signUp(t).list(t, "Sold by two of three", 1500)
	var order client.Order
	eventuallyWithin(t, time.Minute, "the ticket can be reserved", func() bool {
		var status int
		status, order = buyer.tryReserve(t, listing.ID)
		return status == 201
	})
	var paid client.Payment
	eventuallyWithin(t, time.Minute, "the order can be paid", func() bool {
		var status int
		status, paid = buyer.tryPay(t, order.ID, goodCard)
		return status == 201
	})
	buyer.orderBecomes(t, "complete", order.ID)
	s.ticketBecomes(t, "sold", listing.ID)
	buyer.paymentBecomes(t, "captured", paid.ID)
}

func TestBrokerOfThree_SalesContinueWhileOneIsDown(t *testing.T) {
	t.Parallel()
	onEmbedded(t, "the broker is the test's own")
	if os.Getenv("NATS_CLUSTER") == "" {
		t.Skip("takes two minutes and much of the machine: NATS_CLUSTER=1 make test-infra SETS=embedded RUN=BrokerOfThree")
	}
	c := newNATSCluster(t)
	c.open(t)
	// The other two servers elect a leader within four to nine seconds. The reservation window must be longer.
	s := newStack(t, stack.Options{
		Infra:     []string{stack.Placement, stack.Scheduler, stack.Sandbox},
		Resources: c.resources(t),
		Env:       map[string]string{"RESERVATION_WINDOW": "30s", "REMINDER_PERIOD": "1s"},
	})
	b, err := broker.Open(stack.BrokerAddress{URL: c.servers[0].url})
	require.NoError(t, err)
	t.Cleanup(b.Close)
	events := &eventStream{stack: s, broker: b}
	buyer := s.signUp(t)
	s.sellEventually(t, buyer)
	load := s.startLoad(t, 2)

	ways := []struct {
		name       string
		begin, end func(*natsServer)
	}{
		{"killed", (*natsServer).kill, func(n *natsServer) { c.start(t, n) }},
		// A frozen server closes no connection and sends nothing. Later it continues with old data.
		{"frozen", func(n *natsServer) { n.signal(t, syscall.SIGSTOP) }, func(n *natsServer) { n.signal(t, syscall.SIGCONT) }},
	}
	for _, way := range ways {
		for _, leads := range []bool{false, true} {
			load.waitForReservations(t)
			leader := c.waitReplicated(t)
			victim := c.servers[slices.IndexFunc(c.servers, func(n *natsServer) bool { return (n.name == leader) == leads })]
			unpaid := buyer.reserve(t, s.signUp(t).list(t, "Unpaid", 1000).ID)
			began := time.Now()
			way.begin(victim)
			s.sellEventually(t, buyer)
			t.Logf("%s %s (leader: %t): a sale took %s", victim.name, way.name, leads, time.Since(began))
			began = time.Now()
			s.sellEventually(t, buyer)
			t.Logf("the next %s", time.Since(began))
			load.waitForReservations(t)
			if leads {
				eventuallyWithin(t, time.Until(unpaid.ExpiresAt)+waitLimit, "the unpaid order has expired", func() bool {
					return buyer.order(t, unpaid.ID).Reason == "expired"
				})
				s.ticketBecomes(t, "available", unpaid.Ticket.ID)
			}
			way.end(victim)
			began = time.Now()
			c.waitReplicated(t)
			t.Logf("whole again after %s", time.Since(began))
		}
	}
	load.waitForReservations(t)
	load.end()
	events.waitIdle(t)
	load.check(t, events)
	require.Zero(t, events.deadLetterCount(t))
}
