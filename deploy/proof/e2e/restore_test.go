package e2e

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
)

// copyDatabase copies a service's database from one folder to another, in place of what is there.
func copyDatabase(t *testing.T, service, from, to string) {
	t.Helper()
	name := "state-" + service + ".db"
	old, err := filepath.Glob(filepath.Join(to, name+"*"))
	require.NoError(t, err)
	for _, file := range old {
		require.NoError(t, os.Remove(file))
	}
	files, err := filepath.Glob(filepath.Join(from, name+"*"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		body, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(to, filepath.Base(file)), body, 0o600))
	}
}

// databaseFolder is where a stack keeps its SQLite files.
func databaseFolder(t *testing.T, folder string) (found string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, "state-orders.db") {
			found = filepath.Dir(path)
		}
		return err
	}))
	require.NotEmpty(t, found)
	return found
}

// The database of the orders service is replaced by an older copy, and the others are not. What they know of orders that are
// lost by that ends, without dead letters, and the money goes back.
func TestRestore_OrdersThatAreLostEndQuietlyAndTheirMoneyGoesBack(t *testing.T) {
	t.Parallel()
	onEmbedded(t, "its databases are files")
	folder, backup := t.TempDir(), t.TempDir()
	start := func(people ...*person) *house {
		h := newHouse(t, stack.Options{Folder: folder, Env: map[string]string{"RESERVATION_WINDOW": "25s", "REMINDER_PERIOD": "1s", "RECONCILE_EVERY": "5s"}})
		for _, p := range people {
			p.house = h
		}
		return h
	}

	first := start()
	seller, buyer, other := first.signUp(t), first.signUp(t), first.signUp(t)
	seats := []ticket{seller.list(t, "Paid", 1500), seller.list(t, "Unpaid", 1600)}
	for _, seat := range seats {
		known(t, other, seat)
	}
	first.stream(t).settled(t)
	require.NoError(t, first.Stop())
	copyDatabase(t, "orders", databaseFolder(t, folder), backup)

	second := start(seller, buyer, other)
	paid, unpaid := buyer.reserved(t, seats[0].ID), buyer.reserved(t, seats[1].ID)
	second.ticketBecomes(t, "reserved", seats[0].ID)
	second.ticketBecomes(t, "reserved", seats[1].ID)
	second.stream(t).settled(t)
	require.NoError(t, second.Process("orders").Kill())
	status, held := buyer.pay(t, paid.ID, goodCard)
	require.Equal(t, 201, status)
	require.Equal(t, int64(1500), second.ledger(t, paid.ID)[0].Held)
	require.NoError(t, second.Stop())
	copyDatabase(t, "orders", backup, databaseFolder(t, folder))

	last := start(seller, buyer, other)
	stream := last.stream(t)
	require.Equal(t, 404, buyer.do(t, "GET", "/api/orders/"+paid.ID, nil).status)
	buyer.paymentBecomes(t, "voided", held.ID)
	last.money(t, paid.ID, 1, 0, 0)
	slots := last.slotsOf(t, unpaid)
	require.NotEmpty(t, slots)
	eventuallyWithin(t, time.Minute, "the lost orders' slot is published", func() bool {
		return slices.ContainsFunc(stream.read(), func(e told) bool {
			return e.Type == "expiration.complete" && strings.Contains(string(e.raw), unpaid.ID)
		})
	})
	stream.settled(t)
	require.Zero(t, stream.dead(t))
	for _, slot := range slots {
		reminder := last.SidecarHTTP("expiration") + "/v1.0/actors/OrderExpiration/" + strings.TrimPrefix(slot, "slot/") + "/reminders/expire"
		eventually(t, "the reminder of "+slot+" has ended", func() bool { return last.do(t, "GET", reminder, nil).status != 200 })
	}

	// Both are for sale, and shown so.
	for _, seat := range seats {
		require.Empty(t, last.ticketBecomes(t, "available", seat.ID).OrderID)
		status, paid := other.pay(t, other.reserved(t, seat.ID).ID, goodCard)
		require.Equal(t, 201, status)
		other.paymentBecomes(t, "captured", paid.ID)
		last.ticketBecomes(t, "sold", seat.ID)
	}
	stream.settled(t)
	require.Zero(t, stream.dead(t))
}
