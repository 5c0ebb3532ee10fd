package e2e

import (
	"context"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/client"
)

// The command is that of make samples, and make run does the same.
func TestSamples_ANewBoxOfficeGetsAProgrammeOnce(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{})
	samples := func(ctx context.Context) (string, error) {
		output, err := exec.CommandContext(ctx, filepath.Join(root(t), ".build", "local"), "samples", "-url", s.GatewayURL(), "-rate", "400").CombinedOutput()
		return string(output), err
	}
	ctx, kill := context.WithCancel(t.Context())
	defer kill()
	interrupted := make(chan struct{})
	go func() {
		defer close(interrupted)
		_, _ = samples(ctx)
	}()
	anybody := s.api
	count := func(request client.Request) int {
		n := 0
		for page, err := range anybody.Pages(t.Context(), request.WithQuery("limit", 100)) {
			entries, err := client.Decode[[]client.Ticket](page, err)
			require.NoError(t, err)
			n += len(entries)
		}
		return n
	}
	eventually(t, "some tickets are listed", func() bool { return count(client.ReadTickets()) > 100 })
	kill()
	<-interrupted

	output, err := samples(t.Context())
	require.NoError(t, err, output)
	require.Contains(t, output, "20 shows and 400 tickets")
	require.Equal(t, 400, count(client.ReadTickets()))
	require.Equal(t, 20, count(client.ReadShows()))
	output, err = samples(t.Context())
	require.NoError(t, err, output)
	require.Equal(t, 400, count(client.ReadTickets()), "nothing is made twice")

	// A client finds all of it, with pictures.
	eventually(t, "the catalogue has all", func() bool {
		page, err := client.Decode[client.Found](anybody.Do(t.Context(), client.SearchShows().WithQuery("limit", 100)))
		require.NoError(t, err)
		left := 0
		for _, show := range page.Shows {
			left += show.Left
			require.True(t, show.Image == nil || show.Image.Width == 1200, show.Name)
			if show.Image == nil {
				return false
			}
		}
		return len(page.Shows) == 20 && left == 400
	})
}
