package main

import (
	"bytes"
	"net"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
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
		texts  []string
	}{
		"no port":              {"", []string{"list"}, 1, []string{"DAPR_GRPC_PORT", "dead-letters"}},
		"not a port":           {"many", nil, 1, []string{`DAPR_GRPC_PORT="many" is not a port`}},
		"no sidecar":           {closed, nil, 1, []string{"no sidecar listens on port " + closed, "make run"}},
		"no such verb":         {closed, []string{"burn"}, 2, []string{`there is no command "burn"`, "usage:"}},
		"no such flag":         {closed, []string{"list", "-xml"}, 2, []string{"-xml", "usage:"}},
		"no ID":                {closed, []string{"send"}, 2, []string{"send takes the ID of one dead letter"}},
		"two IDs":              {closed, []string{"show", "a", "-json", "b"}, 2, []string{"show takes the ID of one dead letter"}},
		"an argument too many": {closed, []string{"send-all", "really"}, 2, []string{"send-all takes no arguments"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("DAPR_GRPC_PORT", c.port)
			var out, problems bytes.Buffer
			require.Equal(t, c.status, runCommand(t.Context(), c.args, &out, &problems))
			require.Empty(t, out.String())
			for _, text := range c.texts {
				require.Contains(t, problems.String(), text)
			}
		})
	}
	var out bytes.Buffer
	for _, args := range [][]string{{"-h"}, {"list", "-h"}, {"show", "X", "-h"}} {
		require.Zero(t, runCommand(t.Context(), args, &out, &out))
	}
	require.Contains(t, out.String(), "usage:")
}
