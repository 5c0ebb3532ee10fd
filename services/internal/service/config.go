package service

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/go-playground/validator/v10"

	"boxoffice/services/internal/rest"
)

// Config has the settings of every service. A service embeds it in its own configuration and adds fields with the same tags: env is
// the environment variable, envDefault its default, and validate the rules for its value.
type Config struct {
	// Port is where the public REST API listens, on all interfaces.
	Port int `env:"PORT" validate:"min=1,max=65535"`
	// CallbackPort is where the sidecar calls this service, only on 127.0.0.1. Dapr sets it.
	CallbackPort int `env:"APP_PORT" validate:"min=1,max=65535"`
	// MetricsAddress is where /metrics is served, as host:port; without a host, on all interfaces.
	MetricsAddress string `env:"METRICS_ADDRESS" envDefault:":9091" validate:"hostname_port"`
	// DaprGRPCPort is where the sidecar listens. Dapr sets it.
	DaprGRPCPort int `env:"DAPR_GRPC_PORT" validate:"min=1,max=65535"`
	// APIToken is the token that the sidecar sends with every callback. Dapr reads the same variable.
	APIToken string `env:"APP_API_TOKEN" validate:"min=16"`
	// Instance is the place of this process, which stays the same after a restart. Default: the host name and the callback port.
	Instance string `env:"INSTANCE"`
	// JournalLease is the time without a renewal after which another process takes over the journal of this one.
	JournalLease time.Duration `env:"JOURNAL_LEASE" envDefault:"15s" validate:"min=1s,max=10m"`

	// PublicURL is the base URL of the public API, without a slash at its end. Events name their schemas by it.
	PublicURL string `env:"PUBLIC_URL" envDefault:"http://localhost:8080" validate:"base_url"`

	LogLevel  slog.Level `env:"LOG_LEVEL" envDefault:"info"`
	LogFormat string     `env:"LOG_FORMAT" envDefault:"auto" validate:"oneof=auto json text"`
	// BodyLimit bounds a request's body, in bytes.
	BodyLimit int `env:"BODY_LIMIT" envDefault:"65536" validate:"min=1024"`
	// MaxConnections bounds the connections to the public port; 0 is no limit. At the limit, a waiting connection is closed for a
	// new one (rest.LimitConnections).
	MaxConnections int `env:"MAX_CONNECTIONS" envDefault:"4096" validate:"min=0"`
	// HeaderTimeout bounds the time in which a request's headers arrive, and BodyTimeout that of its body.
	HeaderTimeout time.Duration `env:"HEADER_TIMEOUT" envDefault:"5s" validate:"min=100ms,max=5m"`
	BodyTimeout   time.Duration `env:"BODY_TIMEOUT" envDefault:"15s" validate:"min=100ms,max=5m"`
	// TLSCertFile and TLSKeyFile have the certificate of the public port and its key, in PEM. With them, the port serves only
	// HTTPS. The files may be replaced while the process runs.
	TLSCertFile string `env:"TLS_CERT_FILE" validate:"required_with=TLSKeyFile"`
	TLSKeyFile  string `env:"TLS_KEY_FILE" validate:"required_with=TLSCertFile"`
	// TrustedProxies are the networks of proxies before this process. Only their X-Forwarded headers are trusted.
	TrustedProxies []netip.Prefix `env:"TRUSTED_PROXIES"`
	// MaxDeliveries is the number of failed deliveries after which an event becomes a dead letter. Deliveries that fail because a
	// dependency is unavailable do not count.
	MaxDeliveries int `env:"MAX_DELIVERIES" envDefault:"10" validate:"min=1"`
	// JournalSlots bounds the transactions whose events may wait for the broker, and twice as many events may. Earlier releases
	// had a slot of the journal for each transaction.
	JournalSlots int `env:"JOURNAL_SLOTS" envDefault:"16384" validate:"min=1,max=1000000"`
	// JournalWriters is how many state transactions may be under way; 0 is the default for the store's type.
	JournalWriters int `env:"JOURNAL_WRITERS" envDefault:"0" validate:"min=0,max=16"`
	// ProfilePort is where the process serves its profiles (net/http/pprof), only on 127.0.0.1. 0: nowhere.
	ProfilePort int `env:"PROFILE_PORT" envDefault:"0" validate:"min=0,max=65535"`
	// StartTimeout bounds the wait for the sidecar and the store at start.
	StartTimeout time.Duration `env:"START_TIMEOUT" envDefault:"60s" validate:"min=1s"`
	// ShutdownTimeout bounds the shutdown, in which requests are finished and events are published.
	ShutdownTimeout time.Duration `env:"SHUTDOWN_TIMEOUT" envDefault:"15s" validate:"min=1s"`

	edge        *rest.Edge
	bodyLimitOf func(method, path string) int
}

func (c *Config) base() *Config { return c }

// edge is implemented by the configuration of the service that the internet can call.
type edge interface{ Edge() *rest.Edge }

// bodyLimits is implemented by the configuration of a service that takes longer bodies on some routes (rest.Options.BodyLimitOf).
type bodyLimits interface {
	BodyLimitOf(method, path string) int
}

// Configured is a pointer to a struct that embeds Config.
type Configured interface{ base() *Config }

// hints have instructions for the variables that are missing most often.
var hints = map[string]string{
	"APP_API_TOKEN":  "it is made at the first start of `make run`; for `dapr run -f .` load it with: set -a; . .state/env; set +a",
	"APP_PORT":       "Dapr sets it; start the service with `make run` or `dapr run -f .`",
	"DAPR_GRPC_PORT": "Dapr sets it; start the service with `make run` or `dapr run -f .`",
}

// Load reads cfg from the environment. The error lists all variables that are missing or wrong.
func Load(cfg Configured) error {
	var problems []string
	failed := map[string]bool{}
	if err := env.Parse(cfg); err != nil {
		each := []error{err}
		if all, ok := errors.AsType[env.AggregateError](err); ok {
			each = all.Errors
		}
		for _, err := range each {
			if p, ok := errors.AsType[env.ParseError](err); ok {
				name := variable(reflect.TypeOf(cfg).Elem(), p.Name)
				failed[name] = true
				problems = append(problems, fmt.Sprintf("%s=%q is not a %s", name, os.Getenv(name), typeName(p.Type)))
				continue
			}
			problems = append(problems, err.Error())
		}
	}

	check := validator.New(validator.WithRequiredStructEnabled())
	if err := check.RegisterValidation("base_url", isBaseURL); err != nil {
		return fmt.Errorf("check the configuration: %w", err)
	}
	check.RegisterTagNameFunc(func(f reflect.StructField) string { return f.Tag.Get("env") })
	var broken validator.ValidationErrors
	if err := check.Struct(cfg); errors.As(err, &broken) {
		for _, b := range broken {
			if !failed[b.Field()] {
				problems = append(problems, ruleMessage(b))
			}
		}
	} else if err != nil {
		return fmt.Errorf("check the configuration: %w", err)
	}
	if len(problems) > 0 {
		return fmt.Errorf("the environment is not complete:\n  - %s", strings.Join(problems, "\n  - "))
	}

	base := cfg.base()
	if base.Instance == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("find this host's name (or set INSTANCE): %w", err)
		}
		base.Instance = host + ":" + strconv.Itoa(base.CallbackPort)
	}
	return nil
}

// isBaseURL reports whether a field is a URL of http or https with a host and nothing after it.
func isBaseURL(field validator.FieldLevel) bool {
	u, err := url.Parse(field.Field().String())
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && u.String() == u.Scheme+"://"+u.Host
}

func ruleMessage(b validator.FieldError) string {
	name := b.Field()
	rule := strings.TrimSuffix(b.Tag()+"="+b.Param(), "=")
	switch {
	case os.Getenv(name) == "" && reflect.ValueOf(b.Value()).IsZero():
		rule = "is not set"
	case b.Tag() == "min" || b.Tag() == "gte":
		rule = fmt.Sprintf("must be at least %s", b.Param())
		if b.Kind() == reflect.String {
			rule += " characters long"
		}
	case b.Tag() == "max" || b.Tag() == "lte":
		rule = fmt.Sprintf("must be at most %s", b.Param())
	case b.Tag() == "oneof":
		rule = fmt.Sprintf("must be one of: %s", strings.ReplaceAll(b.Param(), " ", ", "))
	case b.Tag() == "http_url":
		rule = "must be a URL of http or https, such as http://localhost:8101"
	case b.Tag() == "base_url":
		rule = "must be a URL of http or https with nothing after the host and the port, such as https://tickets.example.com"
	default:
		rule = "breaks the rule " + rule
	}
	text := name + " " + rule
	if hint := hints[name]; hint != "" {
		text += " (" + hint + ")"
	}
	return text
}

// variable returns the name of a field's environment variable.
func variable(t reflect.Type, field string) string {
	if f, ok := t.FieldByName(field); ok {
		return f.Tag.Get("env")
	}
	return field
}

func typeName(t reflect.Type) string {
	if t.Kind() == reflect.Pointer { // of a variable that need not be set
		t = t.Elem()
	}
	switch t {
	case reflect.TypeFor[time.Duration]():
		return "duration (for example 90s or 15m)"
	case reflect.TypeFor[slog.Level]():
		return "level (debug, info, warn or error)"
	}
	switch t.Kind() {
	case reflect.Int, reflect.Int64:
		return "whole number"
	case reflect.Bool:
		return "boolean (true or false)"
	}
	return t.String()
}
