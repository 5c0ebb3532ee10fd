package stack

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The processes that are not in the run file.
const (
	NATS      = "nats"
	Postgres  = "postgres"
	Redis     = "redis"
	Sentry    = "sentry"
	Placement = "placement"
	Scheduler = "scheduler"
	Sandbox   = "sandbox" // of Stripe
)

// natsConfig: JetStream answers a publisher when the message is on disk (sync_interval), because an event that was
// acknowledged must survive a power cut.
const natsConfig = `listen: "127.0.0.1:%d"
http: "127.0.0.1:%d"
server_name: boxoffice
jetstream {
  store_dir: %q
  sync_interval: always
}
`

const natsTLS = `tls {
  cert_file: %q
  key_file: %q
}
`

// natsUsersConfig: each user has a password.
const natsUsersConfig = `authorization {
  users: [
    {user: %q, password: %q}
%s  ]
}
`

// natsUser is the line of a user. It may publish on its topics. Of the topics that it subscribes to it may fetch the messages of its
// own consumers and acknowledge them. It cannot make, change or empty streams, nor read or acknowledge another's messages.
func natsUser(id, password string, may rights) string {
	publish := slices.Concat(may.publish, []string{"$JS.API.INFO", "$JS.API.STREAM.NAMES"})
	for _, topic := range may.subscribe {
		// The names are those of the runtime (deploy/runtime/jetstream.go).
		stream, _, _ := strings.Cut(topic, ".")
		consumer := id + "-" + strings.ReplaceAll(topic, ".", "-")
		if topic == oldTopic {
			consumer = id + "-pull"
		}
		publish = append(publish,
			"$JS.API.CONSUMER.CREATE."+stream+"."+consumer+"."+topic,
			"$JS.API.CONSUMER.INFO."+stream+"."+consumer,
			"$JS.API.CONSUMER.MSG.NEXT."+stream+"."+consumer,
			"$JS.ACK."+stream+"."+consumer+".>",
			"$JS.ACK.*.*."+stream+"."+consumer+".>", // as newer servers may write it, with domain and account
		)
	}
	return fmt.Sprintf("    {user: %q, password: %q, permissions: {publish: [\"%s\"], subscribe: [\"_INBOX.>\"]}}\n", id, password, strings.Join(publish, `", "`))
}

// oldTopic carried all events in an earlier release.
const oldTopic = "events"

func (p *plan) natsConfigPath() string { return filepath.Join(p.dataFolder(), "nats.conf") }

func (p *plan) natsConfig() string {
	text := fmt.Sprintf(natsConfig, p.ports.NATS, p.ports.NATSMonitor, filepath.Join(p.dataFolder(), "nats"))
	if p.set.tls() {
		text += fmt.Sprintf(natsTLS, p.certificates.Server, p.certificates.ServerKey)
	}
	if p.set.passwords {
		var users strings.Builder
		for _, id := range p.appIDs() {
			users.WriteString(natsUser(id, p.passwords.of(NATS, id), p.set.rights[id]))
		}
		text += fmt.Sprintf(natsUsersConfig, administrator, p.passwords.of(NATS, administrator), &users)
	}
	return text
}

// natsURLFor is the address of NATS for one of its users. An app's sidecar reaches it through the proxy, if there is one.
func (p *plan) natsURLFor(user string) string {
	port := p.ports.NATS
	if proxy := p.proxies[NATS]; proxy != 0 && user != administrator {
		port = proxy
	}
	address := url.URL{Scheme: "nats", Host: local(port)}
	if p.set.tls() {
		address.Scheme = "tls"
	}
	if p.set.passwords {
		address.User = url.UserPassword(user, p.passwords.of(NATS, user))
	}
	return address.String()
}

func (p *plan) brokerFor(user string) BrokerAddress {
	if p.set.name == SetRedis {
		account := url.UserPassword(user, p.passwords.of(Redis, user))
		address := url.URL{Scheme: "rediss", User: account, Host: local(p.ports.Redis)}
		return BrokerAddress{URL: address.String(), Authority: p.certificates.Authority}
	}
	return BrokerAddress{URL: p.natsURLFor(user), Authority: p.certificates.Authority}
}

// NATSURL is the address of NATS for its administrator.
func (s *Stack) NATSURL() string { return s.plan.natsURLFor(administrator) }

// Broker is the address of the broker for its administrator.
func (s *Stack) Broker() BrokerAddress { return s.BrokerAs(administrator) }

// BrokerAs is the address of the broker for an app, with the app's rights.
func (s *Stack) BrokerAs(user string) BrokerAddress { return s.plan.brokerFor(user) }

// BrokerOf is the address of the broker, for its administrator, of a stack that runs in another process, in that folder and on that set.
func BrokerOf(folder, set string, ports Ports) (BrokerAddress, error) {
	p := &plan{layout: layout{set: componentSet{name: set, passwords: true}, ports: ports}}
	state := filepath.Join(folder, StateFolder)
	var err error
	if p.passwords, err = readPasswords(state); err != nil {
		return BrokerAddress{}, err
	}
	if p.set.tls() {
		p.certificates = certificatesIn(filepath.Join(state, certificatesFolder))
	}
	return p.brokerFor(administrator), nil
}

// infraArgs are the program and the arguments of a process that is not in the run file.
func (p *plan) infraArgs(name string) []string {
	flag := func(name string, port int) string { return "--" + name + "=" + strconv.Itoa(port) }
	switch name {
	case NATS:
		return []string{p.runtime, "nats-server", "--config", p.natsConfigPath()}
	case Postgres:
		return p.postgresArgs()
	case Redis:
		return []string{p.redisProgram, p.redisConfigPath()}
	case Sentry:
		files := sentryFolder(p.state)
		return []string{
			p.runtime, "sentry", "--listen-address=127.0.0.1", flag("port", p.ports.Sentry), flag("healthz-port", p.ports.SentryHealth),
			"--issuer-credentials=" + files, "--config=" + filepath.Join(files, "config.yaml"),
			"--enable-metrics=false", "--log-level=warn",
		}
	case Placement:
		return append([]string{
			p.runtime, "placement", "--listen-address=127.0.0.1", flag("port", p.ports.Placement),
			"--healthz-listen-address=127.0.0.1", flag("healthz-port", p.ports.PlacementHealth),
			"--initial-cluster=dapr-placement-0=" + local(p.ports.PlacementRaft),
			"--enable-metrics=false", "--log-level=warn",
		}, p.controlPlaneTLS("dapr-placement")...)
	case Scheduler:
		args := []string{
			p.runtime, "scheduler", "--listen-address=127.0.0.1", flag("port", p.ports.Scheduler),
			"--healthz-listen-address=127.0.0.1", flag("healthz-port", p.ports.SchedulerHealth),
			"--override-broadcast-host-port=" + local(p.ports.Scheduler),
			"--etcd-data-dir=" + filepath.Join(p.dataFolder(), "scheduler"),
			"--etcd-initial-election-tick-advance", // there is no other member to wait for
			"--enable-metrics=false", "--log-level=warn",
		}
		if len(p.etcd) > 0 {
			args = append(args, flag("etcd-client-port", p.etcd[0]), "--etcd-initial-cluster=dapr-scheduler-server-0=http://localhost:"+strconv.Itoa(p.etcd[1]))
		}
		return append(args, p.controlPlaneTLS("dapr-scheduler")...)
	default: // Sandbox
		args := []string{p.stripe, "-addr", local(p.ports.Sandbox), "-file", filepath.Join(p.dataFolder(), "stripe-sandbox.jsonl")}
		// Stripe has only the public address. Without a gateway in this stack the webhook goes to payments itself.
		to := "payments"
		if slices.ContainsFunc(p.started, func(a App) bool { return a.ID == gateway }) {
			to = gateway
		}
		if a := p.app(to); publicPort(a) != 0 {
			args = append(args, "-webhook-url", publicURL(a)+"/api/payments/webhook")
		}
		return args
	}
}

// controlPlaneTLS are the flags by which placement or the scheduler accepts only clients with a certificate of sentry's.
func (p *plan) controlPlaneTLS(id string) []string {
	if !p.mtls {
		return nil
	}
	return []string{"--tls-enabled", "--sentry-address=" + local(p.ports.Sentry), "--trust-anchors-file=" + filepath.Join(p.identityFolder(id), "ca.crt")}
}

func (p *plan) infraProbe(name string) probe {
	switch name {
	case NATS:
		return probe{p.ports.NATSMonitor, "/healthz"} // with JetStream: after a write error a stream accepts nothing until a restart
	case Sentry:
		return probe{p.ports.SentryHealth, "/healthz"}
	case Placement:
		return probe{p.ports.PlacementHealth, "/healthz"}
	case Scheduler:
		return probe{p.ports.SchedulerHealth, "/healthz"}
	default:
		return probe{port: p.ports.Sandbox}
	}
}

// ensureStreams runs the runtime's program that makes the streams, and updates those of an earlier release
// (deploy/runtime/streams.go), as soon as NATS answers.
func (s *Stack) ensureStreams(ctx context.Context) error {
	var last error
	err := s.watched(ctx, func(ctx context.Context) error {
		return poll(ctx, func() error {
			last = s.runStreams(ctx)
			return last
		})
	})
	if err == nil {
		return nil
	}
	if _, died := errors.AsType[*ExitError](err); died {
		return err
	}
	return fmt.Errorf("create the streams on %s: %w (%w)%s", local(s.plan.ports.NATS), err, last, quote(s.processes[NATS].log.lastLines(tailShown)))
}

func (s *Stack) runStreams(ctx context.Context) error {
	if err := tcpReady(s.plan.ports.NATS)(ctx); err != nil {
		return err
	}
	args := []string{"nats-streams", "--server=" + s.NATSURL(), "--wait=3s"}
	if size := s.plan.environment(nil)[maxBytesVariable]; size != "" && s.plan.mtlsConfigured { // the program of an earlier release has no such flag
		args = append(args, "--max-bytes="+size)
	}
	command := exec.CommandContext(ctx, s.plan.runtime, args...)
	command.Env = os.Environ()
	if s.plan.set.tls() {
		command.Env = append(command.Env, trustVariable+"="+s.plan.certificates.Trusted)
	}
	output, err := command.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, output)
	}
	return nil
}
