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

// The processes that services need and no run file names.
const (
	NATS      = "nats"
	Postgres  = "postgres"
	Redis     = "redis"
	Sentry    = "sentry"
	Placement = "placement"
	Scheduler = "scheduler"
	Sandbox   = "sandbox" // of Stripe
)

// natsConfig: JetStream answers a publisher only when the message is on disk (sync_interval), for an event
// that was answered for must survive the power cut.
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

// natsUsers: a password for everybody.
const natsUsers = `authorization {
  users: [
    {user: %q, password: %q}
%s  ]
}
`

// natsUser may publish on its topics, and on those that it subscribes to ask for messages of its own consumers and acknowledge
// them; nothing else: it cannot make, change or empty streams, nor read or acknowledge another's messages.
func natsUser(id, password string, may rights) string {
	publish := slices.Concat(may.publish, []string{"$JS.API.INFO", "$JS.API.STREAM.NAMES"})
	for _, topic := range may.subscribe {
		// As the runtime names them (deploy/runtime/jetstream.go).
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

// oldTopic carried all events in the release before.
const oldTopic = "events"

func (s *Stack) writeNATSConfig() (string, error) {
	path := filepath.Join(s.data, "nats.conf")
	text := fmt.Sprintf(natsConfig, s.ports.NATS, s.ports.NATSMonitor, filepath.Join(s.data, "nats"))
	if s.secured() {
		text += fmt.Sprintf(natsTLS, s.certificates.Server, s.certificates.ServerKey)
	}
	if s.passworded {
		scopes, err := readScopes(s.components)
		if err != nil {
			return "", err
		}
		var users strings.Builder
		for _, id := range s.appIDs() {
			users.WriteString(natsUser(id, s.passwords.of(NATS, id), scopes[id]))
		}
		text += fmt.Sprintf(natsUsers, administrator, s.passwords.of(NATS, administrator), &users)
	}
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// natsURL is the address of the broker for one of its users.
func (s *Stack) natsURL(user string) string {
	address := url.URL{Scheme: "nats", Host: local(s.ports.NATS)}
	if s.secured() {
		address.Scheme = "tls"
	}
	if s.passworded {
		address.User = url.UserPassword(user, s.passwords.of(NATS, user))
	}
	return address.String()
}

// NATSURL is the address of NATS for who may do everything there.
func (s *Stack) NATSURL() string { return s.natsURL(administrator) }

// Broker is the address of the broker for who may do everything there.
func (s *Stack) Broker() BrokerAddress { return s.BrokerAs(administrator) }

// BrokerAs is the address of the broker for an app, with what the app may do there.
func (s *Stack) BrokerAs(user string) BrokerAddress {
	if s.set == SetRedis {
		account := url.UserPassword(user, s.passwords.of(Redis, user))
		return BrokerAddress{URL: (&url.URL{Scheme: "rediss", User: account, Host: local(s.ports.Redis)}).String(), Authority: s.certificates.Authority}
	}
	return BrokerAddress{URL: s.natsURL(user), Authority: s.certificates.Authority}
}

// BrokerOf is the address of the broker of a stack that runs in another process: in that folder, on that set.
func BrokerOf(folder, set string, ports Ports) (BrokerAddress, error) {
	s := &Stack{state: filepath.Join(folder, StateFolder), set: set, ports: ports, passworded: true}
	var err error
	if s.passwords, err = readPasswords(s.state); err != nil {
		return BrokerAddress{}, err
	}
	if s.secured() {
		s.certificates = certificatesIn(filepath.Join(s.state, certificatesFolder))
	}
	return s.Broker(), nil
}

func (s *Stack) infraArgs(name string) ([]string, error) {
	flag := func(name string, port int) string { return "--" + name + "=" + strconv.Itoa(port) }
	switch name {
	case NATS:
		config, err := s.writeNATSConfig()
		return []string{s.runtime, "nats-server", "--config", config}, err
	case Postgres:
		return s.postgresArgs(), nil
	case Redis:
		return s.redisArgs()
	case Sentry:
		files := filepath.Join(s.state, identitiesFolder, "sentry")
		return []string{
			s.runtime, "sentry", "--listen-address=127.0.0.1", flag("port", s.ports.Sentry), flag("healthz-port", s.ports.SentryHealth),
			"--issuer-credentials=" + files, "--config=" + filepath.Join(files, "config.yaml"),
			"--enable-metrics=false", "--log-level=warn",
		}, nil
	case Placement:
		return append([]string{
			s.runtime, "placement", "--listen-address=127.0.0.1", flag("port", s.ports.Placement),
			"--healthz-listen-address=127.0.0.1", flag("healthz-port", s.ports.PlacementHealth),
			"--initial-cluster=dapr-placement-0=127.0.0.1:" + strconv.Itoa(s.ports.PlacementRaft),
			"--enable-metrics=false", "--log-level=warn",
		}, s.controlPlaneTLS("dapr-placement")...), nil
	case Scheduler:
		args := []string{
			s.runtime, "scheduler", "--listen-address=127.0.0.1", flag("port", s.ports.Scheduler),
			"--healthz-listen-address=127.0.0.1", flag("healthz-port", s.ports.SchedulerHealth),
			"--override-broadcast-host-port=127.0.0.1:" + strconv.Itoa(s.ports.Scheduler),
			"--etcd-data-dir=" + filepath.Join(s.data, "scheduler"),
			"--etcd-initial-election-tick-advance", // there is nobody to wait for
			"--enable-metrics=false", "--log-level=warn",
		}
		if !s.mtlsWanted {
			// A runtime of the release before: its etcd listens on ports.
			for _, name := range []string{"--etcd-client-port=", "--etcd-initial-cluster=dapr-scheduler-server-0=http://localhost:"} {
				port, err := s.blocks.next()
				if err != nil {
					return nil, err
				}
				args = append(args, name+strconv.Itoa(port))
			}
		}
		return append(args, s.controlPlaneTLS("dapr-scheduler")...), nil
	case Sandbox:
		args := []string{
			s.stripe, "-addr", "127.0.0.1:" + strconv.Itoa(s.ports.Sandbox),
			"-file", filepath.Join(s.data, "stripe-sandbox.jsonl"),
		}
		// Stripe knows the public address alone. Without a gateway of our own, payments' own will do.
		to := "payments"
		if slices.ContainsFunc(s.chosen, func(a App) bool { return a.ID == gateway }) {
			to = gateway
		}
		if publicPort(s.app(to)) != 0 {
			args = append(args, "-webhook-url", s.URL(to)+"/api/payments/webhook")
		}
		return args, nil
	}
	return nil, fmt.Errorf("no process is called %q", name)
}

// controlPlaneTLS are the flags by which placement or the scheduler takes none but those with a certificate of sentry's.
func (s *Stack) controlPlaneTLS(id string) []string {
	if !s.mtls {
		return nil
	}
	return []string{"--tls-enabled", "--sentry-address=" + s.SentryAddress(), "--trust-anchors-file=" + filepath.Join(s.Identity(id), "ca.crt")}
}

func (s *Stack) infraReady(name string) func(context.Context) error {
	switch name {
	case NATS:
		return httpReady(s.ports.NATSMonitor, "/healthz") // all of it: after a write error of its disk a stream takes nothing until a restart
	case Postgres:
		return s.postgresReady
	case Redis:
		return s.redisReady
	case Sentry:
		return httpReady(s.ports.SentryHealth, "/healthz")
	case Placement:
		return httpReady(s.ports.PlacementHealth, "/healthz")
	case Scheduler:
		return httpReady(s.ports.SchedulerHealth, "/healthz")
	default:
		return tcpReady(s.ports.Sandbox)
	}
}

// infraLog: NATS, sentry, placement and scheduler have little to say to who develops a service.
func infraLog(name string) LogDestination {
	if name == Sandbox {
		return LogFileAndConsole
	}
	return LogFile
}

// ensureStreams lets the runtime make the streams as soon as the server answers, or bring those of the release before up to
// date (deploy/runtime/streams.go).
func (s *Stack) ensureStreams(ctx context.Context) error {
	var last error
	err := s.watched(ctx, func(ctx context.Context) error {
		poll(ctx, func() bool {
			last = s.runStreams(ctx)
			return last == nil
		})
		return context.Cause(ctx)
	})
	if err == nil {
		return nil
	}
	if _, died := errors.AsType[*ExitError](err); died {
		return err
	}
	return fmt.Errorf("create the streams on %s: %w (%w)%s", local(s.ports.NATS), err, last, quote(s.processes[NATS].log.lastLines(tailShown)))
}

func (s *Stack) runStreams(ctx context.Context) error {
	if err := tcpReady(s.ports.NATS)(ctx); err != nil {
		return err
	}
	args := []string{"nats-streams", "--server=" + s.NATSURL(), "--wait=3s"}
	if size := s.environment(nil)[maxBytesVariable]; size != "" && s.mtlsWanted { // the runtime of the release before knows no sizes
		args = append(args, "--max-bytes="+size)
	}
	command := exec.CommandContext(ctx, s.runtime, args...)
	command.Env = os.Environ()
	if s.secured() {
		command.Env = append(command.Env, trustVariable+"="+s.certificates.Trusted)
	}
	output, err := command.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, output)
	}
	return nil
}
