package main

import (
	"bytes"
	"net"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/state/statetest"
)

func TestCommand_ErrorsExplainWhatToDo(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	closed := strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
	require.NoError(t, listener.Close())
	for name, c := range map[string]struct {
		port   string
		args   []string
		status int
		text   string
	}{
		"no port":      {"", []string{"republish"}, 1, "make rebuild-catalogue"},
		"no sidecar":   {closed, []string{"republish", "-rate", "0"}, 1, "no sidecar listens on port " + closed},
		"an argument":  {closed, []string{"republish", "all"}, 2, "republish takes no arguments"},
		"no rate":      {closed, []string{"republish", "-rate", "-1"}, 2, "-rate -1 is below 0"},
		"no such flag": {closed, []string{"republish", "-fast"}, 2, "usage:"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("DAPR_GRPC_PORT", c.port)
			var out, problems bytes.Buffer
			require.Equal(t, c.status, runCommand(t.Context(), c.args, &out, &problems), problems.String())
			require.Contains(t, problems.String(), c.text)
			require.Empty(t, out.String())
		})
	}
	var out bytes.Buffer
	require.Zero(t, runCommand(t.Context(), []string{"republish", "-h"}, &out, &out))
	require.Contains(t, out.String(), "usage:")
	for _, args := range [][]string{{"tickets"}, {"tickets", "healthz"}, {"tickets", "readyz"}} {
		require.False(t, isCommand(args), "the service starts")
	}
}

// A rate of a hundred a second makes 500 tickets take at least four seconds.
func TestRepublish_PublishesTheLastEventOfEachTicketAtItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sidecar := statetest.New()
		s := newReplica(t, sidecar, "one", clock.System)
		versions := map[id.Ticket]int{}
		for range 500 {
			versions[create(t, s, "seller").ID] = 1
		}
		changed := create(t, s, "seller").ID
		_, err := s.Update(t.Context(), changed, "seller", 0, Offer{Title: "New", Price: 100})
		require.NoError(t, err)
		versions[changed] = 2
		synctest.Wait()
		before := len(sidecar.Published())

		began := time.Now()
		var out bytes.Buffer
		require.NoError(t, republish(t.Context(), s, 100, &out))
		require.GreaterOrEqual(t, time.Since(began), 4*time.Second)
		require.Equal(t, "501 tickets are published again: all\n", out.String()[strings.LastIndex(strings.TrimSpace(out.String()), "\n")+1:])

		again := map[id.Ticket]int{}
		for _, event := range sidecar.Published()[before:] {
			require.NotEmpty(t, event.Republished)
			ticket, version, _ := strings.Cut(strings.SplitN(event.ID, ":", 2)[1], ":")
			again[id.Ticket(ticket)], err = strconv.Atoi(strings.SplitN(version, "/", 2)[0])
			require.NoError(t, err)
		}
		require.Equal(t, versions, again)
	})
}
