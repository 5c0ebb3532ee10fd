package e2e

import (
	"context"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/local/stack/stacktest"
	"boxoffice/deploy/proof/check"
	"boxoffice/deploy/proof/client"
)

// onFreePorts replaces the ports in a run file, except the sandbox's, which the stack replaces itself.
func onFreePorts(t *testing.T, text string) string {
	t.Helper()
	sandbox := strconv.Itoa(stack.DefaultPorts().Sandbox)
	replaced := map[string]string{sandbox: sandbox}
	return regexp.MustCompile(`\b[1-9]\d{3,4}\b`).ReplaceAllStringFunc(text, func(port string) string {
		if replaced[port] == "" {
			replaced[port] = strconv.Itoa(stacktest.FreePort(t))
		}
		return replaced[port]
	})
}

// copyRunFile makes a run file with other ports for the programs and components of a release, and returns its path.
func copyRunFile(t *testing.T, release string) string {
	t.Helper()
	folder := t.TempDir()
	text, err := os.ReadFile(filepath.Join(release, "dapr.yaml"))
	require.NoError(t, err)
	path := filepath.Join(folder, "dapr.yaml")
	require.NoError(t, os.WriteFile(path, []byte(onFreePorts(t, string(text))), 0o600))
	for _, name := range []string{".build", "components"} {
		require.NoError(t, os.Symlink(filepath.Join(release, name), filepath.Join(folder, name)))
	}
	return path
}

// shareState makes a stack's folder whose databases and secrets are those of another stack.
func shareState(t *testing.T, of *testStack) string {
	t.Helper()
	folder := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(folder, stack.StateFolder), 0o700))
	shared, err := filepath.Glob(filepath.Join(of.Folder(), stack.StateFolder, "state-*.db"))
	require.NoError(t, err)
	for _, name := range []string{"env", "secrets.json"} {
		shared = append(shared, filepath.Join(of.Folder(), stack.StateFolder, name))
	}
	for _, path := range shared {
		require.NoError(t, os.Symlink(path, filepath.Join(folder, stack.StateFolder, filepath.Base(path))))
	}
	return folder
}

// Both releases use the same documents and the same broker while one replaces the other.
func TestUpgrade_BothReleasesRunSideBySide(t *testing.T) {
	t.Parallel()
	onEmbedded(t, "two stacks share the files of one folder")
	release := earlierRelease(t)
	ports := stack.DefaultPorts()
	for _, flag := range ports.Flags() {
		*flag.Port = stacktest.FreePort(t)
	}
	env := map[string]string{"RESERVATION_WINDOW": "20s"}

	folder := t.TempDir()
	makeEarlierSecrets(t, folder)
	old := newStack(t, stack.Options{Folder: folder, RunFile: copyRunFile(t, release), FixedPorts: &ports, Env: env})
	seller, buyer := old.signUp(t), old.signUp(t)
	first := seller.list(t, "Listed by the old release", 4200)
	projectTicket(t, buyer, first)

	// The new release's streams are made before its sidecars start, as operators do.
	streams := exec.CommandContext(t.Context(), filepath.Join(root(t), ".build", "runtime"), "nats-streams", "--server="+old.NATSURL(), "--wait=10s")
	output, err := streams.CombinedOutput()
	require.NoError(t, err, "%s", output)
	s := newStack(t, stack.Options{RunFile: copyRunFile(t, root(t)), Folder: shareState(t, old), FixedPorts: &ports, Infra: []string{}, Env: env})

	second := seller.at(s).list(t, "Listed by the new release", 4200)
	third := seller.list(t, "Listed by the old release again", 4200)
	t.Run("both show all tickets, and the new one lists them all", func(t *testing.T) {
		for _, listed := range []client.Ticket{first, second, third} {
			require.Equal(t, listed.Title, old.ticket(t, listed.ID).Title)
			require.Equal(t, listed.Title, s.ticket(t, listed.ID).Title)
		}
		require.Len(t, s.allTickets(t, 1), 3)
		require.Len(t, old.allTickets(t, 1), 2, "the old release does not read the index entries of the new one")
	})
	t.Run("both sell what either has listed", func(t *testing.T) {
		fourth := seller.at(s).list(t, "Listed by the new release again", 4200)
		for i, listed := range []client.Ticket{first, second, third, fourth} {
			one, other := s, old
			if i%2 == 1 {
				one, other = old, s
			}
			projectTicket(t, buyer.at(one), listed)
			order := buyer.at(one).reserve(t, listed.ID)
			require.Equal(t, order.ID, buyer.at(other).order(t, order.ID).ID)
			other.ticketBecomes(t, "reserved", listed.ID)
			paid := buyer.at(s).payUntilAccepted(t, order.ID, goodCard)
			buyer.at(old).orderBecomes(t, "complete", order.ID)
			buyer.at(s).paymentBecomes(t, "captured", paid.ID)
			old.ticketBecomes(t, "sold", listed.ID)
			s.requireMoney(t, order.ID, money{charges: 1, kept: 4200})
			requireProblem(t, 409, seller.at(other).call(t, client.Reserve(listed.ID)), "ticket_sold")
		}
	})
	t.Run("the old payments service refuses orders that the new one has stored", func(t *testing.T) {
		listed := seller.at(s).list(t, "Paid at the new release", 4200)
		projectTicket(t, buyer.at(s), listed)
		order := buyer.at(s).reserve(t, listed.ID)
		eventually(t, "the order is refused for now", func() bool {
			r := buyer.call(t, client.Pay(order.ID, goodCard))
			return r.Status == 503 && r.Header.Get("Retry-After") != ""
		})
		buyer.at(s).payUntilAccepted(t, order.ID, goodCard)
		buyer.orderBecomes(t, "complete", order.ID)
	})
	t.Run("unpaid orders of both expire", func(t *testing.T) {
		var orders []client.Order
		for i := range 6 {
			one := []*testStack{old, s}[i%2]
			listed := seller.at(one).list(t, "Unpaid", 4200)
			projectTicket(t, buyer.at(one), listed)
			orders = append(orders, buyer.at(one).reserve(t, listed.ID))
		}
		for _, order := range orders {
			waitTime(order.ExpiresAt)
			expired := buyer.at(s).orderBecomes(t, "cancelled", order.ID)
			require.Equal(t, "expired", expired.Reason)
			require.WithinDuration(t, order.ExpiresAt, expired.UpdatedAt, 5*time.Second)
			s.ticketBecomes(t, "available", order.Ticket.ID)
		}
	})
	t.Run("the catalogue shows what either release lists and reserves", func(t *testing.T) {
		var ids []string
		for _, one := range []*testStack{old, s} {
			listed := seller.at(one).list(t, "Shown by the catalogue", 4200)
			ids = append(ids, listed.ID)
			projectTicket(t, buyer.at(one), listed)
		}
		requireAvailable := func(want ...string) {
			t.Helper()
			eventually(t, "these tickets are for sale in the catalogue", func() bool {
				found := slices.DeleteFunc(idsOf(s.availableTickets(t)), func(id string) bool { return !slices.Contains(ids, id) })
				return slices.Equal(want, found)
			})
		}
		slices.Reverse(ids) // the newest first
		requireAvailable(ids...)
		buyer.at(old).reserve(t, ids[0])
		requireAvailable(ids[1])
		buyer.at(s).reserve(t, ids[1])
		requireAvailable()
	})
	t.Run("sales continue while the old release is killed", func(t *testing.T) {
		unpaid := buyer.reserve(t, seller.list(t, "Unpaid when the old release is killed", 4200).ID)
		var workers sync.WaitGroup
		var stop atomic.Bool
		var sold, refused atomic.Int64
		for worker := range 6 {
			workers.Go(func() {
				for n := worker; !stop.Load(); n++ {
					seller, buyer := seller.at([]*testStack{old, s}[n%2]), buyer.at([]*testStack{old, s}[n/2%2])
					if trySale(t.Context(), seller, buyer, buyer.at(s)) {
						sold.Add(1)
					} else {
						refused.Add(1)
					}
				}
			})
		}
		waitForSales := func() {
			t.Helper()
			until := sold.Load() + 10
			eventually(t, "tickets are sold", func() bool { return sold.Load() >= until })
		}
		defer workers.Wait()
		defer stop.Store(true)
		waitForSales()
		for _, app := range []string{"gateway", "auth", "tickets", "orders", "payments", "expiration"} {
			old.kill(t, app, app+"-dapr")
		}
		forward(t, old.GatewayURL(), s.GatewayURL()) // the sandbox sends webhooks to this address
		waitForSales()
		stop.Store(true)
		workers.Wait()
		t.Logf("%d sales, %d failed", sold.Load(), refused.Load())
		waitTime(unpaid.ExpiresAt)
		eventuallyWithin(t, 2*waitLimit, "the unpaid order expires", func() bool { return buyer.at(s).order(t, unpaid.ID).Reason == "expired" })
		s.stream(t).waitIdle(t)
		report, err := check.Check(t.Context(), check.TargetOf(s.Stack), check.Options{Settle: 2 * waitLimit, AtRest: true})
		require.NoError(t, err)
		require.Empty(t, report.Violations)
	})
}

// forward serves one address by another one.
func forward(t *testing.T, from, to string) {
	t.Helper()
	target, err := url.Parse(to)
	require.NoError(t, err)
	listener, err := net.Listen("tcp", strings.TrimPrefix(from, "http://"))
	require.NoError(t, err)
	server := &http.Server{Handler: httputil.NewSingleHostReverseProxy(target), ReadHeaderTimeout: waitLimit}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
}

// trySale lists, reserves and pays a ticket. The three users may be on different releases. It reports whether each step succeeded.
func trySale(ctx context.Context, seller, buyer, payer *testUser) bool {
	listed, err := client.Decode[client.Ticket](seller.try(ctx, client.ListTicket("Under load", 4200)))
	if err != nil {
		return false
	}
	order, err := client.Decode[client.Order](buyer.try(ctx, client.Reserve(listed.ID)))
	if err != nil {
		return false
	}
	paid, err := payer.try(ctx, client.Pay(order.ID, goodCard))
	return err == nil && paid.Status == 201
}
