package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The processes that services need and no run file names.
const (
	NATS      = "nats"
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

func (s *Stack) writeNATSConfig() (string, error) {
	path := filepath.Join(s.state, "nats.conf")
	text := fmt.Sprintf(natsConfig, s.ports.NATS, s.ports.NATSMonitor, filepath.Join(s.state, "nats"))
	return path, os.WriteFile(path, []byte(text), 0o600)
}

func (s *Stack) infraArgs(name string) ([]string, error) {
	flag := func(name string, port int) string { return "--" + name + "=" + strconv.Itoa(port) }
	switch name {
	case NATS:
		config, err := s.writeNATSConfig()
		return []string{s.runtime, "nats-server", "--config", config}, err
	case Placement:
		return []string{
			s.runtime, "placement", "--listen-address=127.0.0.1", flag("port", s.ports.Placement),
			"--healthz-listen-address=127.0.0.1", flag("healthz-port", s.ports.PlacementHealth),
			"--initial-cluster=dapr-placement-0=127.0.0.1:" + strconv.Itoa(s.ports.PlacementRaft),
			"--enable-metrics=false", "--log-level=warn",
		}, nil
	case Scheduler:
		return []string{
			s.runtime, "scheduler", "--listen-address=127.0.0.1", flag("port", s.ports.Scheduler),
			"--healthz-listen-address=127.0.0.1", flag("healthz-port", s.ports.SchedulerHealth),
			"--override-broadcast-host-port=127.0.0.1:" + strconv.Itoa(s.ports.Scheduler),
			"--etcd-data-dir=" + filepath.Join(s.state, "scheduler"),
			flag("etcd-client-port", s.ports.EtcdClient),
			"--etcd-initial-cluster=dapr-scheduler-server-0=http://localhost:" + strconv.Itoa(s.ports.EtcdPeer),
			"--etcd-initial-election-tick-advance", // there is nobody to wait for
			"--enable-metrics=false", "--log-level=warn",
		}, nil
	case Sandbox:
		args := []string{
			s.launcher, "sandbox", "-addr", "127.0.0.1:" + strconv.Itoa(s.ports.Sandbox),
			"-file", filepath.Join(s.state, "stripe-sandbox.jsonl"),
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

func (s *Stack) infraReady(name string) func(context.Context) error {
	switch name {
	case NATS:
		return httpReady(s.ports.NATSMonitor, "/healthz?js-enabled-only=true")
	case Placement:
		return httpReady(s.ports.PlacementHealth, "/healthz")
	case Scheduler:
		return httpReady(s.ports.SchedulerHealth, "/healthz")
	default:
		return tcpReady(s.ports.Sandbox)
	}
}

// infraLog: NATS, placement and scheduler have little to say to who develops a service.
func infraLog(name string) LogDestination {
	if name == Sandbox {
		return LogFileAndConsole
	}
	return LogFile
}

// The streams hold what the topics carry. Two of them, for an event that goes to the dead letters keeps its id,
// and a stream refuses an id that it has had within two minutes. Old events go after a while: every service has
// taken them long since.
func streams() []jetstream.StreamConfig {
	return []jetstream.StreamConfig{
		{Name: "events", Subjects: []string{"events"}, Description: "events between services", MaxAge: 7 * 24 * time.Hour},
		{Name: "events-dead", Subjects: []string{"events.dead"}, Description: "events that could not be delivered", MaxAge: 30 * 24 * time.Hour},
	}
}

// ensureStreams makes the streams as soon as the server answers.
func (s *Stack) ensureStreams(ctx context.Context) error {
	var last error
	err := s.watched(ctx, func(ctx context.Context) error {
		poll(ctx, func() bool {
			last = tryStreams(ctx, s.NATSURL())
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
	return fmt.Errorf("create the streams on %s: %w (%w)%s", s.NATSURL(), err, last, quote(s.processes[NATS].log.lastLines(tailShown)))
}

func tryStreams(ctx context.Context, url string) error {
	conn, err := nats.Connect(url, nats.Timeout(time.Second))
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	for _, config := range streams() {
		config.Storage, config.Retention, config.Discard = jetstream.FileStorage, jetstream.LimitsPolicy, jetstream.DiscardOld
		config.Duplicates = 2 * time.Minute
		if _, err := js.CreateOrUpdateStream(ctx, config); err != nil {
			return fmt.Errorf("stream %s: %w", config.Name, err)
		}
	}
	return nil
}
