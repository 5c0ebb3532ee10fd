package e2e

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/check"
)

// onFreePorts replaces the ports of a run file, but for the sandbox's, which the stack replaces.
func onFreePorts(t *testing.T, text string) string {
	t.Helper()
	sandbox := strconv.Itoa(stack.DefaultPorts().Sandbox)
	given := map[string]string{sandbox: sandbox}
	return regexp.MustCompile(`\b[1-9]\d{3,4}\b`).ReplaceAllStringFunc(text, func(port string) string {
		if given[port] == "" {
			given[port] = strconv.Itoa(freePort(t))
		}
		return given[port]
	})
}

// freePort is one below those that stacks choose from and those of outgoing connections, which could take it before its
// process does.
func freePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := 12200 + int(portsGiven.Add(1))
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			require.NoError(t, listener.Close())
			return port
		}
	}
	require.Fail(t, "no port is free")
	return 0
}

var portsGiven atomic.Int64

// moved makes a run file with other ports, for the programs and components of a release, and returns its path.
func moved(t *testing.T, release string) string {
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

// Both releases work on the same documents and the same broker while one replaces the other.
func TestUpgrade_OldAndNewProcessesSideBySide(t *testing.T) {
	t.Parallel()
	onEmbedded(t, "two stacks share one folder's files")
	before := releaseBefore(t)
	release, err := stack.FindRunFile(".")
	require.NoError(t, err)
	ports := stack.DefaultPorts()
	for _, flag := range ports.Flags() {
		*flag.Port = freePort(t)
	}
	env := map[string]string{"RESERVATION_WINDOW": "20s"}

	old := newHouse(t, stack.Options{RunFile: moved(t, before), FixedPorts: &ports, Env: env})
	seller, buyer := old.signUp(t), old.signUp(t)
	first := seller.list(t, "Listed by the old", 4200)
	known(t, buyer, first)

	// The new release's sidecars begin when the streams are theirs, as an operator is told to do it.
	newRunFile := moved(t, filepath.Dir(release))
	streams := exec.CommandContext(t.Context(), filepath.Join(filepath.Dir(release), ".build", "runtime"), "nats-streams", "--server="+old.NATSURL(), "--wait=10s")
	said, err := streams.CombinedOutput()
	require.NoError(t, err, "%s", said)
	folder := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(folder, stack.StateFolder), 0o700))
	shared, err := filepath.Glob(filepath.Join(old.Folder(), stack.StateFolder, "state-*.db"))
	require.NoError(t, err)
	for _, name := range []string{"env", "secrets.json"} {
		shared = append(shared, filepath.Join(old.Folder(), stack.StateFolder, name))
	}
	for _, path := range shared {
		require.NoError(t, os.Symlink(path, filepath.Join(folder, stack.StateFolder, filepath.Base(path))))
	}
	h := newHouse(t, stack.Options{RunFile: newRunFile, Folder: folder, FixedPorts: &ports, Infra: []string{}, Env: env})
	by := func(p *person, through *house) *person {
		other := *p
		other.house = through
		return &other
	}

	second := by(seller, h).list(t, "Listed by the new", 4200)
	third := seller.list(t, "Listed by the old again", 4200)
	t.Run("documents are shown by both, and the list is whole in the new", func(t *testing.T) {
		for _, listed := range []ticket{first, second, third} {
			require.Equal(t, listed.Title, old.ticket(t, listed.ID).Title)
			require.Equal(t, listed.Title, h.ticket(t, listed.ID).Title)
		}
		require.Len(t, h.allTickets(t, 1), 3)
		require.Len(t, old.allTickets(t, 1), 2, "the old release does not know of entries that the new one has appended")
	})
	t.Run("both sell what either has listed", func(t *testing.T) {
		for i, listed := range []ticket{first, second, third, by(seller, h).list(t, "And the other way", 4200)} {
			through := []*house{h, old, h, old}[i]
			known(t, by(buyer, through), listed)
			made := by(buyer, through).reserved(t, listed.ID)
			other := []*house{old, h, old, h}[i]
			require.Equal(t, made.ID, by(buyer, other).order(t, made.ID).ID)
			other.ticketBecomes(t, "reserved", listed.ID)
			paid := by(buyer, h).paysAgain(t, made.ID, goodCard)
			by(buyer, old).orderBecomes(t, "complete", made.ID)
			by(buyer, h).paymentBecomes(t, "captured", paid.ID)
			old.ticketBecomes(t, "sold", listed.ID)
			h.money(t, made.ID, 1, 0, 4200)
			refused(t, 409, by(seller, other).do(t, "POST", "/api/orders", wanted{listed.ID}), "ticket_sold")
		}
	})
	t.Run("the old payments service cannot take money for what the new one has written", func(t *testing.T) {
		listed := by(seller, h).list(t, "Paid at the old", 4200)
		known(t, by(buyer, h), listed)
		made := by(buyer, h).reserved(t, listed.ID)
		eventually(t, "its order is refused for now", func() bool {
			r := buyer.do(t, "POST", "/api/payments", paying{OrderID: made.ID, PaymentMethod: goodCard})
			return r.status == 503 && r.header.Get("Retry-After") != ""
		})
		by(buyer, h).paysAgain(t, made.ID, goodCard)
		buyer.orderBecomes(t, "complete", made.ID)
	})
	t.Run("reservations of both end at their time", func(t *testing.T) {
		var all []order
		for i := range 6 {
			through := []*house{old, h}[i%2]
			listed := by(seller, through).list(t, "Unpaid", 4200)
			known(t, by(buyer, through), listed)
			all = append(all, by(buyer, through).reserved(t, listed.ID))
		}
		for _, o := range all {
			var last order
			eventuallyWithin(t, time.Until(o.ExpiresAt)+patience, "its time is over", func() bool {
				last = by(buyer, h).order(t, o.ID)
				return last.Status == "cancelled"
			})
			require.Equal(t, "expired", last.Reason)
			require.WithinDuration(t, o.ExpiresAt, last.UpdatedAt, 5*time.Second)
			h.ticketBecomes(t, "available", o.Ticket.ID)
		}
	})
	t.Run("under load, and when the old are killed, nothing goes wrong", func(t *testing.T) {
		unpaid := buyer.reserved(t, seller.list(t, "At the last moment", 4200).ID)
		var clients sync.WaitGroup
		var sold, refused atomic.Int64
		end := time.Now().Add(6 * time.Second)
		for client := range 6 {
			clients.Go(func() {
				for n := client; time.Now().Before(end); n++ {
					seller, buyer := by(seller, []*house{old, h}[n%2]), by(buyer, []*house{old, h}[n/2%2])
					if sells(seller, buyer, by(buyer, h)) {
						sold.Add(1)
					} else {
						refused.Add(1)
					}
				}
			})
		}
		time.Sleep(3 * time.Second)
		for _, app := range []string{"gateway", "auth", "tickets", "orders", "payments", "expiration"} {
			require.NoError(t, old.Process(app).Kill())
			require.NoError(t, old.Process(app+"-dapr").Kill())
		}
		redirect(t, old.GatewayURL(), h.GatewayURL()) // Stripe knows the shop by this address
		clients.Wait()
		t.Logf("%d sales, and %d that were not", sold.Load(), refused.Load())
		require.Greater(t, sold.Load(), int64(20))
		eventuallyWithin(t, time.Until(unpaid.ExpiresAt)+2*patience, "its time is over", func() bool { return by(buyer, h).order(t, unpaid.ID).Reason == "expired" })
		h.stream(t).settled(t)
		report, err := check.Check(t.Context(), check.TargetOf(h.Stack), check.Options{Settle: 2 * patience, AtRest: true})
		require.NoError(t, err)
		require.Empty(t, report.Violations)
	})
}

// redirect serves an address by another one.
func redirect(t *testing.T, from, to string) {
	t.Helper()
	target, err := url.Parse(to)
	require.NoError(t, err)
	listener, err := net.Listen("tcp", strings.TrimPrefix(from, "http://"))
	require.NoError(t, err)
	server := &http.Server{Handler: httputil.NewSingleHostReverseProxy(target), ReadHeaderTimeout: patience}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
}

// sells says whether a ticket was listed, reserved and paid, each by one of three, who may reach processes of
// different releases.
func sells(seller, buyer, payer *person) bool {
	var listed ticket
	var made order
	for _, step := range []struct {
		by     *person
		path   string
		body   func() any
		answer any
	}{
		{seller, "/api/tickets", func() any { return offer{Title: "Under load", Price: 4200} }, &listed},
		{buyer, "/api/orders", func() any { return wanted{listed.ID} }, &made},
		{payer, "/api/payments", func() any { return paying{OrderID: made.ID, PaymentMethod: goodCard} }, &payment{}},
	} {
		r, err := step.by.send("POST", step.path, step.body())
		if err != nil || r.status != 201 || json.Unmarshal(r.body, step.answer) != nil {
			return false
		}
	}
	return true
}
