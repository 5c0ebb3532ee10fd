package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/client"
)

// Every replica of catalogue follows the change feed, also if replicas are killed meanwhile.

// leftAt is how many listings of a show a replica of catalogue has; -1 if it does not know the show, or does not respond.
func (s *testStack) leftAt(t testing.TB, u *testUser, replica, show string) int {
	r, err := u.try(t.Context(), client.ReadCatalogueShow(show).At(s.URL(replica)))
	if err != nil || r.Status != 200 {
		return -1
	}
	return decode[client.CatalogueShow](t, r).Left
}

// requireLeft waits until all replicas have so many listings of a show.
func (s *testStack) requireLeft(t testing.TB, u *testUser, show string, want int) {
	t.Helper()
	for _, replica := range s.Replicas("catalogue") {
		eventuallyEqual(t, want, "listings that are left, at "+replica, func() int { return s.leftAt(t, u, replica, show) })
	}
}

// runCommand runs the command line tool of a service at its sidecar, as an operator does, and returns what it printed.
func (s *testStack) runCommand(t testing.TB, service string, args ...string) string {
	t.Helper()
	address := s.SidecarGRPC(service)
	cmd := exec.Command(filepath.Join(root(t), ".build", service), args...)
	cmd.Env = append(os.Environ(), "DAPR_GRPC_PORT="+address[strings.LastIndex(address, ":")+1:], "DAPR_API_TOKEN="+s.SidecarToken(service), "PUBLIC_URL="+s.GatewayURL())
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Run(), "%s %v: %s", service, args, &out)
	return out.String()
}

func (u *testUser) listMany(t testing.TB, show string, row string, n int) (tickets []client.Ticket) {
	t.Helper()
	for number := range n {
		seat := &client.Place{Section: "Stalls", Row: row, Number: fmt.Sprint(number + 1)}
		tickets = append(tickets, u.listPlace(t, client.Offer{ShowID: show, Seat: seat, Price: 5000}))
	}
	return tickets
}

func TestChangeFeed_ReplicasAgreeAfterKillsAndARebuild(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{Replicas: 2, Env: map[string]string{"JOURNAL_LEASE": journalLease.String()}})
	owner, buyer := s.signUp(t), s.signUp(t)
	show := owner.announce(t, newShow(inDays(30)))
	tickets := owner.listMany(t, show.ID, "1", 20)
	s.requireLeft(t, buyer, show.ID, 20)

	// One replica is killed while there are changes.
	s.kill(t, "catalogue")
	for _, ticket := range tickets[:5] {
		buyer.reserve(t, ticket.ID)
	}
	tickets = append(tickets, owner.listMany(t, show.ID, "2", 4)...)
	eventuallyEqual(t, 19, "listings that are left, at the other replica", func() int { return s.leftAt(t, buyer, "catalogue-2", show.ID) })
	s.start(t, "catalogue")
	s.waitReady(t, "catalogue")
	require.NotEqual(t, -1, s.leftAt(t, buyer, "catalogue", show.ID), "a replica that is ready has loaded the feed")
	s.requireLeft(t, buyer, show.ID, 19)

	// A replica that is frozen follows on.
	require.NoError(t, s.Process("catalogue-2").Pause())
	for _, ticket := range tickets[5:8] {
		buyer.reserve(t, ticket.ID)
	}
	eventuallyEqual(t, 16, "listings that are left, at the other replica", func() int { return s.leftAt(t, buyer, "catalogue", show.ID) })
	require.NoError(t, s.Process("catalogue-2").Resume())
	s.requireLeft(t, buyer, show.ID, 16)

	// Both are killed, with their sidecars, while there are changes.
	s.kill(t, "catalogue", "catalogue-2", "catalogue-dapr", "catalogue-2-dapr")
	for _, ticket := range tickets[8:10] {
		buyer.reserve(t, ticket.ID)
	}
	s.start(t, "catalogue-dapr", "catalogue-2-dapr", "catalogue", "catalogue-2")
	s.waitReady(t)
	s.requireLeft(t, buyer, show.ID, 14)

	// The read model is built from nothing while sales go on.
	var selling sync.WaitGroup
	selling.Go(func() {
		for _, ticket := range tickets[10:15] {
			buyer.reserve(t, ticket.ID)
		}
		owner.listMany(t, show.ID, "3", 6)
	})
	printed := s.runCommand(t, "catalogue", "rebuild")
	require.Contains(t, printed, "rebuilt in")
	require.Contains(t, printed, "exec deploy/tickets -c tickets -- /service republish", "what has to follow")
	require.Contains(t, s.runCommand(t, "tickets", "republish", "-rate", "0"), "published the last events of")
	selling.Wait()
	s.requireLeft(t, buyer, show.ID, 15)

	r := buyer.call(t, client.ReadAvailable().WithQuery("limit", "100"))
	requireStatus(t, 200, r)
	require.Len(t, decode[[]client.Ticket](t, r), 15)
}
