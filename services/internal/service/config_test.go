package service

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type testConfig struct {
	Config
	Window time.Duration `env:"WINDOW" envDefault:"15m" validate:"min=1s,max=24h"`
	Mode   string        `env:"MODE" envDefault:"auto" validate:"oneof=auto never"`
}

func complete(t *testing.T) {
	t.Setenv("PORT", "8101")
	t.Setenv("APP_PORT", "8201")
	t.Setenv("DAPR_GRPC_PORT", "3601")
	t.Setenv("APP_API_TOKEN", "0123456789abcdef")
}

func TestLoad_FillsFromTheEnvironment(t *testing.T) {
	complete(t)
	t.Setenv("WINDOW", "90s")
	t.Setenv("LOG_LEVEL", "warn")
	var cfg testConfig
	require.NoError(t, Load(&cfg))
	require.Equal(t, 8101, cfg.Port)
	require.Equal(t, 90*time.Second, cfg.Window)
	require.Equal(t, slog.LevelWarn, cfg.LogLevel)
	require.Equal(t, 65536, cfg.BodyLimit)
	require.Regexp(t, `:8201$`, cfg.Instance)
}

func TestLoad_NamesAllProblemsAtOnce(t *testing.T) {
	complete(t)
	t.Setenv("PORT", "eighty")
	t.Setenv("APP_PORT", "")
	t.Setenv("APP_API_TOKEN", "short")
	t.Setenv("WINDOW", "100h")
	t.Setenv("MODE", "sometimes")
	t.Setenv("LOG_LEVEL", "loud")
	var cfg testConfig
	err := Load(&cfg)
	for _, message := range []string{
		`PORT="eighty" is not a whole number`,
		"APP_PORT is not set",
		"make run",
		"APP_API_TOKEN must be at least 16 characters long",
		"WINDOW must be at most 24h",
		"MODE must be one of: auto, never",
		`LOG_LEVEL="loud" is not a level`,
	} {
		require.ErrorContains(t, err, message)
	}
	require.NotContains(t, err.Error(), "short", "a secret is not repeated")
}

func TestLoad_ThePublicURLIsAHostAndNothingAfterIt(t *testing.T) {
	complete(t)
	var cfg testConfig
	require.NoError(t, Load(&cfg))
	require.Equal(t, "http://localhost:8080", cfg.PublicURL)
	for _, good := range []string{"https://tickets.example.com", "http://127.0.0.1:8443", "http://[::1]:80"} {
		t.Setenv("PUBLIC_URL", good)
		require.NoError(t, Load(&cfg), good)
	}
	for _, bad := range []string{"tickets.example.com", "ftp://example.com", "https://", "https://:80", "https://example.com/", "https://example.com/api", "https://example.com?a", "https://example.com#a", "https://a:b@example.com"} {
		t.Setenv("PUBLIC_URL", bad)
		require.ErrorContains(t, Load(&cfg), "PUBLIC_URL must be a URL of http or https with nothing after the host", bad)
	}
}

func TestLoad_AddressesAreURLs(t *testing.T) {
	complete(t)
	var cfg struct {
		Config
		URLs []string `env:"AUTH_URL" validate:"min=1,dive,http_url"`
	}
	require.ErrorContains(t, Load(&cfg), "AUTH_URL is not set")
	t.Setenv("AUTH_URL", "http://a:1,b:2")
	require.ErrorContains(t, Load(&cfg), "AUTH_URL[1] must be a URL of http or https")
	t.Setenv("AUTH_URL", "http://a:1,https://b:2")
	require.NoError(t, Load(&cfg))
	require.Equal(t, []string{"http://a:1", "https://b:2"}, cfg.URLs)
}
