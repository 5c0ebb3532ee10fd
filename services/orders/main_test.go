package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/service"
)

func TestConfig_TheCooldownIsOneWindowUnlessItIsSet(t *testing.T) {
	for name, value := range map[string]string{"PORT": "1", "APP_PORT": "2", "DAPR_GRPC_PORT": "3", "APP_API_TOKEN": "a token that is long enough for this, surely", "RESERVATION_WINDOW": "90s"} {
		t.Setenv(name, value)
	}
	t.Setenv("AUTH_URL", "http://127.0.0.1:8101")
	load := func() Terms {
		var cfg config
		require.NoError(t, service.Load(&cfg))
		return cfg.terms()
	}
	require.Equal(t, Terms{Window: 90 * time.Second, Cooldown: 90 * time.Second, PerUser: 10}, load())
	t.Setenv("RESERVATION_COOLDOWN", "5s")
	t.Setenv("RESERVATIONS_PER_USER", "3")
	require.Equal(t, Terms{Window: 90 * time.Second, Cooldown: 5 * time.Second, PerUser: 3}, load())
	t.Setenv("RESERVATION_COOLDOWN", "0")
	t.Setenv("RESERVATIONS_PER_USER", "0")
	require.Equal(t, Terms{Window: 90 * time.Second}, load(), "0 turns a limit off")

	for _, wrong := range []string{"-1s", "soon", "169h"} {
		t.Setenv("RESERVATION_COOLDOWN", wrong)
		err := service.Load(&config{})
		require.ErrorContains(t, err, "RESERVATION_COOLDOWN", wrong)
		t.Log(err)
	}
}
