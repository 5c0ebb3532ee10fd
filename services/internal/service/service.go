// Package service is the skeleton of a process: what every service does besides its own work. It reads the
// configuration, connects to the sidecar, serves the public REST port and the callback port, answers for its
// health, and ends in order.
//
// A service's main is one call:
//
//	func main() {
//		var cfg config
//		service.Main("tickets", &cfg, func(ctx context.Context, s *service.Service) error {
//			store, err := s.OpenStore(ctx)
//			…
//			api{store}.routes(s.Public)
//			events.On(s.Events, …)
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

// Service is one running process. The fields are for the build function given to Main; it registers routes,
// event handlers, checks and background work, and returns.
type Service struct {
	Name    string
	Log     *slog.Logger
	Metrics *prometheus.Registry
	// Public is the REST API that the network sees.
	Public *fiber.App
	// Callback is what the sidecar alone can call: 127.0.0.1, behind the app API token.
	Callback *chi.Mux
	// Events hands the events that the sidecar delivers to the service's functions.
	Events *events.Router
	// Dapr is the sidecar.
	Dapr client.Client
	// ReadyAge is how long an answer of /readyz may be given again, for whoever asks meanwhile. 0: everything is checked for each.
	ReadyAge time.Duration

	config     *Config
	callbacks  common.Service
	checks     []check
	checking   sync.Mutex
	checked    lastCheck // guarded by checking
	outages    outageLog
	onShutdown []step
	background sync.WaitGroup
	running    context.Context // ends when the service is told to stop
	failed     chan error      // the first server or background work that ended by itself
	ready      chan struct{}   // closed when everything is up
}

// maxAnswerBytes bounds one answer of the sidecar.
const maxAnswerBytes = 32 << 20

// closeTime bounds the wait for requests under way when the public port closes.
const closeTime = 5 * time.Second

type check struct {
	name string
	run  func(context.Context) error
}

type step struct {
	name string
	run  func(context.Context) error
}

// Main runs a service until SIGINT or SIGTERM, then ends the process: with status 0 after an orderly shutdown,
// with 1 and a message if the service could not start or broke down. Called as `tickets healthz` or `tickets readyz` it
// asks the process that runs beside it, and ends with status 0 if that is well (see probe).
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
			Name: name, Log: logger, Metrics: metrics, BodyLimit: cfg.BodyLimit,
			HeaderTimeout: cfg.HeaderTimeout, BodyTimeout: cfg.BodyTimeout, TrustedProxies: cfg.TrustedProxies, Edge: cfg.edge,
		}),
		Callback: chi.NewRouter(),
		config:   cfg,
		failed:   make(chan error, 1),
		ready:    make(chan struct{}),
	}
	s.Events = events.NewRouter(events.Options{
		Service: name, Instance: cfg.Instance, Deliveries: cfg.MaxDeliveries, Publish: s.publish, Log: logger, Metrics: metrics,
	})
	s.Callback.Use(requireToken(cfg.APIToken))
	s.callbacks = daprd.NewServiceWithMux(net.JoinHostPort("127.0.0.1", strconv.Itoa(cfg.CallbackPort)), s.Callback)
	s.healthRoutes()
	return s
}

// start connects to the sidecar, lets the service build itself, and opens its ports.
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

// Connect opens the connection to the sidecar, waiting for it until ctx ends. The connection outlives a restart
// of the sidecar; it looks for it every second at most.
func Connect(ctx context.Context, port int) (client.Client, error) {
	client.SetLogger(log.New(io.Discard, "", 0))
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	eager := grpc.WithConnectParams(grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
		MinConnectTimeout: 2 * time.Second,
	})
	// Enough for a chunk of journal slots; gRPC's own limit is 4 MB.
	large := grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswerBytes))
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

// publish brings one event to a topic, past the journal: for what is told again until it was heard.
func (s *Service) publish(ctx context.Context, topic string, event []byte) error {
	return s.Dapr.PublishEvent(ctx, events.PubSub, topic, event, client.PublishEventWithContentType(events.ContentType))
}

// serve runs a server whose end, before the service is told to stop, is the service's end.
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

// Go runs work in the background until it returns; ctx ends when the service stops. An error before that ends
// the service.
func (s *Service) Go(name string, work func(ctx context.Context) error) {
	s.background.Go(func() {
		if err := work(s.running); err != nil && s.running.Err() == nil {
			s.fail(fmt.Errorf("%s: %w", name, err))
		}
	})
}

// VerifyTokens returns what verifies the tokens of the service's users, by the keys and revocations that auth publishes. They are
// fetched until the service stops. It fails if the authority's file of the configuration cannot be read.
func (s *Service) VerifyTokens(cfg identity.AuthConfig) (*identity.Verifier, error) {
	auth, err := identity.NewAuth(cfg)
	if err != nil {
		return nil, err
	}
	verifier := identity.NewRevokingVerifier(auth.Fetch, s.Metrics)
	s.Go("keys and revocations", func(ctx context.Context) error { return verifier.Watch(ctx, cfg.AuthPeriod, s.Log) })
	return verifier, nil
}

// OpenStore opens the service's state store and closes it at shutdown, when its events are out.
func (s *Service) OpenStore(ctx context.Context) (*state.Store, error) {
	store, err := state.Open(ctx, s.Dapr, state.Options{
		Service:  s.Name,
		Instance: s.config.Instance,
		Lease:    s.config.JournalLease,
		Slots:    s.config.JournalSlots,
		Backlog:  2 * s.config.JournalSlots,
		Writers:  s.config.JournalWriters,
		Log:      s.Log,
		Metrics:  s.Metrics,
	})
	if err != nil {
		return nil, err
	}
	s.ReadyCheck("store", store.Ping)
	// While the broker is away, changes go on as long as the journal has room for their events.
	s.ReadyCheck("journal", store.Room)
	s.OnShutdown("store", store.Close)
	return store, nil
}

// HostActor makes this process a host of the actor type that factory makes.
func (s *Service) HostActor(factory actor.FactoryContext) {
	s.callbacks.RegisterActorImplFactoryContext(factory)
}

// ReadyCheck adds something that must be well for /readyz to say so.
func (s *Service) ReadyCheck(name string, run func(ctx context.Context) error) {
	s.checks = append(s.checks, check{name, run})
}

// OnShutdown adds a step of the orderly end. Steps run after the ports are closed, the last added first.
func (s *Service) OnShutdown(name string, run func(ctx context.Context) error) {
	s.onShutdown = append(s.onShutdown, step{name, run})
}

// shutdown ends in order: no new requests and deliveries, those under way finished, then the steps. What does
// not end in time is left, and said.
func (s *Service) shutdown() error {
	ctx, cancel := context.WithTimeout(context.Background(), s.config.ShutdownTimeout)
	defer cancel()
	var problems []error
	closing, cancelClosing := context.WithTimeout(ctx, closeTime)
	defer cancelClosing()
	if err := s.Public.ShutdownWithContext(closing); errors.Is(err, context.DeadlineExceeded) {
		// Connections on which nothing was sent yet count as active: a browser's spare one is no reason to wait.
		s.Log.Warn("some connections to the public port were not closed in time", "waited", closeTime.String())
	} else if err != nil {
		problems = append(problems, fmt.Errorf("close the public port: %w", err))
	}
	if err := s.callbacks.GracefulStop(); err != nil {
		problems = append(problems, fmt.Errorf("close the callback port: %w", err))
	}
	for _, step := range slices.Backward(s.onShutdown) {
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

// requireToken lets only the sidecar through, which shows the app API token in the header dapr-api-token.
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
