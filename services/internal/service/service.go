// Package service has the parts of a process that all services share. It reads the configuration, connects to the sidecar, serves
// the public REST port and the callback port, reports health, and shuts down in order.
//
// A service's main is one call:
//
//	func main() {
//		var cfg config
//		service.Main("tickets", &cfg, func(ctx context.Context, s *service.Service) error {
//			store, err := s.OpenStore(ctx)
//			…
//			(&api{…}).register(s.Public, …)
//			(&subscriptions{…}).register(s.Events)
//			return nil
//		})
//	}
package service

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/dapr/go-sdk/actor"
	"github.com/dapr/go-sdk/client"
	"github.com/dapr/go-sdk/service/common"
	daprd "github.com/dapr/go-sdk/service/http"
	"github.com/go-chi/chi/v5"
	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/rest"
	"boxoffice/services/internal/state"
)

// Service is one running process. The fields are for the build function of Main, which registers routes, event handlers, checks and
// background work, and returns.
type Service struct {
	Name    string
	Log     *slog.Logger
	Metrics *prometheus.Registry
	// Public is the public REST API.
	Public *fiber.App
	// Callback is the port that only the sidecar can call: on 127.0.0.1, with the app API token.
	Callback *chi.Mux
	// Events calls the service's handlers with the events that the sidecar delivers.
	Events *events.Router
	// Dapr is the client of the sidecar.
	Dapr client.Client
	// ReadyAge is how long a result of /readyz may be reused. 0: each request runs all checks.
	ReadyAge time.Duration

	config        *Config
	callbacks     common.Service
	checks        []check
	checking      sync.Mutex
	checked       lastCheck // guarded by checking
	outages       outageLog
	shutdownSteps []step
	background    sync.WaitGroup
	running       context.Context // ends when the service is to stop
	failed        chan error      // the error of the first server or background work that has failed
	ready         chan struct{}   // closed when the start is complete
}

// maxResponseBytes bounds one response of the sidecar.
const maxResponseBytes = 32 << 20

// closeTime bounds the wait for requests that are being handled when the public port closes.
const closeTime = 5 * time.Second

type check struct {
	name string
	run  func(context.Context) error
}

type step struct {
	name string
	run  func(context.Context) error
}

// Main runs a service until SIGINT or SIGTERM, and then ends the process: with status 0 after an orderly shutdown, and with status 1
// and a message if the service could not start or has failed. If it is called as `tickets healthz` or `tickets readyz`, it checks
// the health of the process that runs on this machine (see probe).
func Main(name string, cfg Configured, build func(ctx context.Context, s *Service) error) {
	if isProbe(os.Args) {
		probeOnce(name, os.Args[1])
	}
	if err := Load(cfg); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
	if open, ok := cfg.(edge); ok {
		cfg.base().edge = open.Edge()
	}
	if limits, ok := cfg.(bodyLimits); ok {
		cfg.base().bodyLimitOf = limits.BodyLimitOf
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	logger := newLogger(cfg.base(), os.Stdout).With("service", name)
	if err := run(ctx, name, cfg.base(), logger, build); err != nil {
		logger.Error("the service ends", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, name string, cfg *Config, logger *slog.Logger, build func(context.Context, *Service) error) error {
	started := time.Now()
	s := newService(name, cfg, logger)
	running, stop := context.WithCancel(ctx)
	defer stop()
	s.running = running

	starting, cancel := context.WithTimeout(running, cfg.StartTimeout)
	defer cancel()
	if err := s.start(starting, build); err != nil {
		stop()
		return errors.Join(fmt.Errorf("start: %w", err), s.shutdown())
	}
	close(s.ready)
	logger.Info("ready", "port", cfg.Port, "callbackPort", cfg.CallbackPort, "took", time.Since(started).Round(time.Millisecond).String())

	var failure error
	select {
	case <-ctx.Done():
		logger.Info("shutting down")
	case failure = <-s.failed:
	}
	stop()
	return errors.Join(failure, s.shutdown())
}

func newService(name string, cfg *Config, logger *slog.Logger) *Service {
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s := &Service{
		Name:    name,
		Log:     logger,
		Metrics: metrics,
		Public: rest.New(rest.Options{
			Name: name, Log: logger, Metrics: metrics, BodyLimit: cfg.BodyLimit, BodyLimitOf: cfg.bodyLimitOf,
			HeaderTimeout: cfg.HeaderTimeout, BodyTimeout: cfg.BodyTimeout, TrustedProxies: cfg.TrustedProxies, Edge: cfg.edge,
		}),
		Callback: chi.NewRouter(),
		config:   cfg,
		failed:   make(chan error, 1),
		ready:    make(chan struct{}),
	}
	s.Events = events.NewRouter(events.Options{
		Origin: events.Origin{Service: name, PublicURL: cfg.PublicURL}, Instance: cfg.Instance, Deliveries: cfg.MaxDeliveries, Publish: s.publish, Log: logger, Metrics: metrics,
	})
	s.Callback.Use(requireToken(cfg.APIToken))
	s.callbacks = daprd.NewServiceWithMux(net.JoinHostPort("127.0.0.1", strconv.Itoa(cfg.CallbackPort)), s.Callback)
	s.healthRoutes()
	return s
}

// start connects to the sidecar, calls build, and opens the ports.
func (s *Service) start(ctx context.Context, build func(context.Context, *Service) error) error {
	dapr, err := Connect(ctx, s.config.DaprGRPCPort)
	if err != nil {
		return err
	}
	s.Dapr = dapr
	s.ReadyCheck("sidecar", func(ctx context.Context) error {
		_, err := dapr.GetMetadata(ctx)
		return err
	})
	if err := build(ctx, s); err != nil {
		return err
	}
	s.Events.Mount(s.Callback)
	s.serveMetrics()
	s.serveProfiles()
	s.serve("callback port "+strconv.Itoa(s.config.CallbackPort), s.callbacks.Start)
	return s.servePublic(ctx)
}

// servePublic opens the public port.
func (s *Service) servePublic(ctx context.Context) error {
	secure, err := s.tlsConfig()
	if err != nil {
		return err
	}
	port := strconv.Itoa(s.config.Port)
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", ":"+port)
	if err != nil {
		return fmt.Errorf("public port %s: %w", port, err)
	}
	limits := rest.ConnectionLimits{Total: s.config.MaxConnections, Trusted: s.config.TrustedProxies}
	if s.config.edge != nil {
		limits.PerAddress = s.config.edge.ConnectionsPerAddress
	}
	listener = rest.LimitConnections(listener, limits, s.Metrics)
	if secure != nil {
		listener = tls.NewListener(listener, secure)
	}
	s.serve("public port "+port, func() error { return s.Public.Listener(listener) })
	return nil
}

// Connect connects to the sidecar, and waits for it until ctx ends. After a restart of the sidecar the connection reconnects within
// about a second.
func Connect(ctx context.Context, port int) (client.Client, error) {
	client.SetLogger(log.New(io.Discard, "", 0))
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	eager := grpc.WithConnectParams(grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
		MinConnectTimeout: 2 * time.Second,
	})
	// Enough for a chunk of journal entries. The default of gRPC is 4 MB.
	large := grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponseBytes))
	for {
		dapr, err := client.NewClientWithAddressContext(ctx, address, eager, large)
		if err == nil {
			return dapr, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("no sidecar answers at %s: %w", address, err)
		}
	}
}

// publish publishes one event without the journal: a dead letter, whose event is redelivered if this fails.
func (s *Service) publish(ctx context.Context, topic string, event []byte) error {
	return s.Dapr.PublishEvent(ctx, events.PubSub, topic, event, client.PublishEventWithContentType(events.ContentType))
}

// serve runs a server. If it ends before the service is to stop, the service ends.
func (s *Service) serve(what string, listen func() error) {
	s.background.Go(func() {
		if err := listen(); err != nil && !errors.Is(err, http.ErrServerClosed) && s.running.Err() == nil {
			s.fail(fmt.Errorf("%s: %w", what, err))
		}
	})
}

func (s *Service) fail(err error) {
	select {
	case s.failed <- err:
	default: // an earlier failure ends the service already
	}
}

// Go runs work in the background. ctx ends when the service is to stop. An error before that ends the service.
func (s *Service) Go(name string, work func(ctx context.Context) error) {
	s.background.Go(func() {
		if err := work(s.running); err != nil && s.running.Err() == nil {
			s.fail(fmt.Errorf("%s: %w", name, err))
		}
	})
}

// VerifyTokens returns a verifier of user tokens, which fetches keys and revocations from auth until the service stops. It fails if
// the CA file of the configuration cannot be read.
func (s *Service) VerifyTokens(cfg identity.AuthConfig) (*identity.Verifier, error) {
	auth, err := identity.NewAuth(cfg)
	if err != nil {
		return nil, err
	}
	verifier := identity.NewRevokingVerifier(auth.Fetch, s.Metrics)
	s.Go("keys and revocations", func(ctx context.Context) error { return verifier.Watch(ctx, cfg.AuthPeriod, s.Log) })
	return verifier, nil
}

// OpenStore opens the service's state store, and closes it at shutdown when its events are published.
func (s *Service) OpenStore(ctx context.Context) (*state.Store, error) {
	store, err := state.Open(ctx, s.Dapr, state.Options{
		Service:         s.Name,
		PublicURL:       s.config.PublicURL,
		Instance:        s.config.Instance,
		Lease:           s.config.JournalLease,
		MaxTransactions: s.config.JournalSlots,
		Backlog:         2 * s.config.JournalSlots,
		Writers:         s.config.JournalWriters,
		Log:             s.Log,
		Metrics:         s.Metrics,
	})
	if err != nil {
		return nil, err
	}
	s.ReadyCheck("store", store.Ping)
	// While the broker is unavailable, changes are accepted as long as the journal has room for their events.
	s.ReadyCheck("journal", store.CheckJournal)
	s.onShutdown("store", store.Close)
	return store, nil
}

// HostActor makes this process a host of factory's actor type.
func (s *Service) HostActor(factory actor.FactoryContext) {
	s.callbacks.RegisterActorImplFactoryContext(factory)
}

// ReadyCheck adds a check to /readyz.
func (s *Service) ReadyCheck(name string, run func(ctx context.Context) error) {
	s.checks = append(s.checks, check{name, run})
}

// onShutdown adds a step of the shutdown. Steps run after the ports are closed, the last added first.
func (s *Service) onShutdown(name string, run func(ctx context.Context) error) {
	s.shutdownSteps = append(s.shutdownSteps, step{name, run})
}

// shutdown closes the ports, finishes the requests and deliveries that are being handled, and runs the steps. It returns an error
// about everything that does not end in time.
func (s *Service) shutdown() error {
	ctx, cancel := context.WithTimeout(context.Background(), s.config.ShutdownTimeout)
	defer cancel()
	var problems []error
	closing, cancelClosing := context.WithTimeout(ctx, closeTime)
	defer cancelClosing()
	if err := s.Public.ShutdownWithContext(closing); errors.Is(err, context.DeadlineExceeded) {
		// Connections without a request yet count as active, such as the spare ones of browsers. The shutdown does not
		// fail because of them.
		s.Log.Warn("some connections to the public port were not closed in time", "waited", closeTime.String())
	} else if err != nil {
		problems = append(problems, fmt.Errorf("close the public port: %w", err))
	}
	if err := s.callbacks.GracefulStop(); err != nil {
		problems = append(problems, fmt.Errorf("close the callback port: %w", err))
	}
	for _, step := range slices.Backward(s.shutdownSteps) {
		if err := step.run(ctx); err != nil {
			problems = append(problems, fmt.Errorf("shut down the %s: %w", step.name, err))
		}
	}
	ended := make(chan struct{})
	go func() { s.background.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-ctx.Done():
		problems = append(problems, errors.New("background work did not end in time"))
	}
	if s.Dapr != nil {
		s.Dapr.Close()
	}
	return errors.Join(problems...)
}

// requireToken refuses requests without the app API token in the header dapr-api-token, which only the sidecar has.
func requireToken(token string) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			shown := r.Header.Get("dapr-api-token")
			if r.URL.Path != "/healthz" && subtle.ConstantTimeCompare([]byte(shown), []byte(token)) != 1 {
				http.Error(w, "only this service's sidecar may call here: the header dapr-api-token does not hold the app API token", http.StatusUnauthorized)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}
