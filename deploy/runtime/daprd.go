package main

import (
	"context"
	"fmt"
	"os"

	"go.opencensus.io/stats/view"
	"go.uber.org/automaxprocs/maxprocs"

	"github.com/dapr/components-contrib/nameresolution/kubernetes"
	"github.com/dapr/components-contrib/nameresolution/mdns"
	nrsqlite "github.com/dapr/components-contrib/nameresolution/sqlite"
	secretskubernetes "github.com/dapr/components-contrib/secretstores/kubernetes"
	"github.com/dapr/components-contrib/secretstores/local/env"
	postgres "github.com/dapr/components-contrib/state/postgresql/v2"
	stateredis "github.com/dapr/components-contrib/state/redis"
	"github.com/dapr/components-contrib/state/sqlite"
	"github.com/dapr/dapr/cmd/daprd/options"
	"github.com/dapr/dapr/pkg/buildinfo"
	"github.com/dapr/dapr/pkg/components"
	"github.com/dapr/dapr/pkg/components/bindings"
	"github.com/dapr/dapr/pkg/components/configuration"
	"github.com/dapr/dapr/pkg/components/conversation"
	"github.com/dapr/dapr/pkg/components/crypto"
	"github.com/dapr/dapr/pkg/components/lock"
	"github.com/dapr/dapr/pkg/components/middleware/http"
	"github.com/dapr/dapr/pkg/components/nameresolution"
	"github.com/dapr/dapr/pkg/components/pubsub"
	"github.com/dapr/dapr/pkg/components/secretstores"
	"github.com/dapr/dapr/pkg/components/state"
	"github.com/dapr/dapr/pkg/healthz"
	"github.com/dapr/dapr/pkg/metrics"
	"github.com/dapr/dapr/pkg/modes"
	"github.com/dapr/dapr/pkg/runtime"
	"github.com/dapr/dapr/pkg/runtime/registry"
	"github.com/dapr/dapr/pkg/security"
	"github.com/dapr/kit/concurrency"
	"github.com/dapr/kit/crypto/spiffe/trustanchors"
	"github.com/dapr/kit/crypto/spiffe/trustanchors/static"
	"github.com/dapr/kit/logger"
	"github.com/dapr/kit/signals"
)

// componentRegistry holds the components of this sidecar. A component set under components/ that names
// another type needs one line here; Dapr's own image has them all.
func componentRegistry(log logger.Logger) *registry.Options {
	secrets := secretstores.NewRegistry()
	secrets.Logger = log
	secrets.RegisterComponent(newSecretFile, "local.file") // see secrets.go
	secrets.RegisterComponent(env.NewEnvSecretStore, "local.env")
	secrets.RegisterComponent(secretskubernetes.NewKubernetesSecretStore, "kubernetes")

	stores := state.NewRegistry()
	stores.Logger = log
	stores.RegisterComponent(sqlite.NewSQLiteStateStore, "sqlite", "sqlite3")
	stores.RegisterComponentWithVersions("postgresql", components.Versioning{
		Preferred: components.VersionConstructor{Version: "v2", Constructor: postgres.NewPostgreSQLStateStore},
		Default:   "v2",
	})
	stores.RegisterComponent(stateredis.NewRedisStateStore, "redis")

	brokers := pubsub.NewRegistry()
	brokers.Logger = log
	brokers.RegisterComponent(newJetStream, "jetstream") // see jetstream.go
	brokers.RegisterComponent(newRedisStreams, "redis")  // see redis.go

	resolvers := nameresolution.NewRegistry()
	resolvers.Logger = log
	resolvers.RegisterComponent(nrsqlite.NewResolver, "sqlite")
	resolvers.RegisterComponent(mdns.NewResolver, "mdns")
	resolvers.RegisterComponent(kubernetes.NewResolver, "kubernetes")

	return registry.NewOptions().
		WithSecretStores(secrets).
		WithStateStores(stores).
		WithPubSubs(brokers).
		WithNameResolutions(resolvers).
		WithConfigurations(configuration.NewRegistry()).
		WithLocks(lock.NewRegistry()).
		WithBindings(bindings.NewRegistry()).
		WithCryptoProviders(crypto.NewRegistry()).
		WithHTTPMiddlewares(http.NewRegistry()).
		WithConversations(conversation.NewRegistry())
}

// runDaprd is Dapr's cmd/daprd/app with the registry above: that package can't be imported without the build
// tags that compile in every cloud's components.
func runDaprd() error {
	_, _ = maxprocs.Set()
	if err := readAnchors(); err != nil {
		return err
	}
	opts, err := options.New(os.Args[1:])
	if err != nil {
		return fmt.Errorf("parse flags: %w", err)
	}
	if opts.RuntimeVersion {
		fmt.Println(buildinfo.Version())
		return nil
	}
	log := logger.NewLogger("dapr.runtime")
	opts.Logger.SetAppID(opts.AppID)
	if err := logger.ApplyOptionsToLoggers(&opts.Logger); err != nil {
		return err
	}
	reg := componentRegistry(logger.NewLogger("dapr.contrib"))

	ctx := signals.Context()
	for reload := range signals.OnHUP(ctx) {
		if err := serve(reload, opts, reg, log); err != nil {
			return err
		}
		if reload.Err() == nil || ctx.Err() != nil {
			break
		}
	}
	log.Info("Daprd shutdown gracefully")
	return nil
}

func serve(ctx context.Context, opts *options.Options, reg *registry.Options, log logger.Logger) error {
	health := healthz.New()
	var anchors trustanchors.Interface
	if len(opts.TrustAnchors) > 0 {
		var err error
		if anchors, err = static.From(static.Options{Anchors: opts.TrustAnchors}); err != nil {
			return err
		}
	}
	provider, err := security.New(ctx, security.Options{
		SentryAddress:           opts.SentryAddress,
		ControlPlaneTrustDomain: opts.ControlPlaneTrustDomain,
		ControlPlaneNamespace:   opts.ControlPlaneNamespace,
		OverrideTrustAnchors:    anchors, // as Dapr makes them of its option TrustAnchors
		AppID:                   opts.AppID,
		MTLSEnabled:             opts.EnableMTLS,
		Mode:                    modes.DaprMode(opts.Mode),
		Healthz:                 health,
		JwtAudiences:            opts.SentryRequestJwtAudiences,
	})
	if err != nil {
		return err
	}
	return concurrency.NewRunnerManager(provider.Run, func(ctx context.Context) error {
		handler, err := provider.Handler(ctx)
		if err != nil {
			return err
		}
		if handler, err = restrictCallers(ctx, handler, anchors); err != nil {
			return err
		}
		rt, err := runtime.FromConfig(ctx, &runtime.Config{
			AppID:                         opts.AppID,
			ActorsService:                 opts.ActorsService,
			ActorsDisseminationTimeout:    opts.ActorsDisseminationTimeout,
			RemindersService:              opts.RemindersService,
			SchedulerAddress:              opts.SchedulerAddress,
			SchedulerStreams:              opts.SchedulerJobStreams,
			AllowedOrigins:                opts.AllowedOrigins,
			ResourcesPath:                 opts.ResourcesPath,
			ControlPlaneAddress:           opts.ControlPlaneAddress,
			AppProtocol:                   opts.AppProtocol,
			Mode:                          opts.Mode,
			DaprHTTPPort:                  opts.DaprHTTPPort,
			DaprInternalGRPCPort:          opts.DaprInternalGRPCPort,
			DaprInternalGRPCListenAddress: opts.DaprInternalGRPCListenAddress,
			DaprAPIGRPCPort:               opts.DaprAPIGRPCPort,
			DaprAPIListenAddresses:        opts.DaprAPIListenAddresses,
			DaprPublicPort:                opts.DaprPublicPort,
			DaprPublicListenAddress:       opts.DaprPublicListenAddress,
			ApplicationPort:               opts.AppPort,
			ProfilePort:                   opts.ProfilePort,
			EnableProfiling:               opts.EnableProfiling,
			AppMaxConcurrency:             opts.AppMaxConcurrency,
			EnableMTLS:                    opts.EnableMTLS,
			SentryAddress:                 opts.SentryAddress,
			MaxRequestSize:                opts.MaxRequestSize,
			ReadBufferSize:                opts.ReadBufferSize,
			UnixDomainSocket:              opts.UnixDomainSocket,
			DaprGracefulShutdownSeconds:   opts.DaprGracefulShutdownSeconds,
			DaprBlockShutdownDuration:     opts.DaprBlockShutdownDuration,
			DisableBuiltinK8sSecretStore:  opts.DisableBuiltinK8sSecretStore,
			EnableAppHealthCheck:          opts.EnableAppHealthCheck,
			AppHealthCheckPath:            opts.AppHealthCheckPath,
			AppHealthProbeInterval:        opts.AppHealthProbeInterval,
			AppHealthProbeTimeout:         opts.AppHealthProbeTimeout,
			AppHealthThreshold:            opts.AppHealthThreshold,
			AppChannelAddress:             opts.AppChannelAddress,
			EnableAPILogging:              opts.EnableAPILogging,
			Config:                        opts.Config,
			DisableInitEndpoints:          opts.DisableInitEndpoints,
			Metrics: metrics.Options{
				Enabled:       opts.Metrics.Enabled(),
				Log:           log,
				Port:          opts.Metrics.Port(),
				Namespace:     metrics.DefaultMetricNamespace,
				Healthz:       health,
				ListenAddress: opts.Metrics.ListenAddress(),
				Meter:         view.NewMeter(),
			},
			AppSSL:         opts.AppSSL,
			ComponentsPath: opts.ComponentsPath,
			Registry:       reg,
			Security:       handler,
			Healthz:        health,
		})
		if err != nil {
			return err
		}
		return rt.Run(ctx)
	}).Run(ctx)
}
