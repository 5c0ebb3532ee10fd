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
	"boxoffice/deploy/proof/client"
)

// copyDatabase replaces a service's database in one folder by that in another.
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

// databaseFolder finds the folder of a stack's SQLite files.
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

// The database of orders is replaced by an older copy, and the others are not. Other services end what they have of the lost orders, without
// dead letters, and the money is returned.
func TestRestore_LostOrdersEndAndTheirMoneyIsReturned(t *testing.T) {
	t.Parallel()
	onEmbedded(t, "its databases are files")
	folder, backup := t.TempDir(), t.TempDir()
	start := func(users ...*testUser) *testStack {
		s := newStack(t, stack.Options{Folder: folder, Env: map[string]string{"RESERVATION_WINDOW": "25s", "REMINDER_PERIOD": "1s", "RECONCILE_EVERY": "5s"}})
		for _, u := range users {
			u.stack = s
		}
		return s
	}

	first := start()
	seller, buyer, other := first.signUp(t), first.signUp(t), first.signUp(t)
	listings := []client.Ticket{seller.list(t, "Paid", 1500), seller.list(t, "Unpaid", 1600)}
	for _, listing := range listings {
		projectTicket(t, other, listing)
	}
	first.stream(t).waitIdle(t)
	require.NoError(t, first.Stop())
	copyDatabase(t, "orders", databaseFolder(t, folder), backup)

	second := start(seller, buyer, other)
	paid, unpaid := buyer.reserve(t, listings[0].ID), buyer.reserve(t, listings[1].ID)
	second.ticketBecomes(t, "reserved", listings[0].ID)
	second.ticketBecomes(t, "reserved", listings[1].ID)
	second.stream(t).waitIdle(t)
	slots := second.slotsOf(t, unpaid)
	require.NotEmpty(t, slots)
	second.kill(t, "orders")
	held := buyer.pay(t, paid.ID, goodCard)
	require.Equal(t, int64(1500), second.ledger(t, paid.ID)[0].Held)
	require.NoError(t, second.Stop())
	copyDatabase(t, "orders", backup, databaseFolder(t, folder))

	last := start(seller, buyer, other)
	events := last.stream(t)
	requireStatus(t, 404, buyer.call(t, client.ReadOrder(paid.ID)))
	buyer.paymentBecomes(t, "voided", held.ID)
	last.requireMoney(t, paid.ID, money{charges: 1})
	eventuallyWithin(t, time.Minute, "the lost orders' slot is published", func() bool {
		return slices.ContainsFunc(events.read(), func(e publishedEvent) bool {
			return e.Type == "expiration.complete" && strings.Contains(string(e.raw), unpaid.ID)
		})
	})
	events.waitIdle(t)
	require.Zero(t, events.deadLetterCount(t))
	for _, slot := range slots {
		reminder := last.SidecarHTTP("expiration") + "/v1.0/actors/OrderExpiration/" + strings.TrimPrefix(slot, "slot/") + "/reminders/expire"
		eventually(t, "the reminder of "+slot+" has ended", func() bool { return last.request(t, "GET", reminder, nil).Status != 200 })
	}

	// Both tickets can be bought.
	for _, listing := range listings {
		require.Empty(t, last.ticketBecomes(t, "available", listing.ID).OrderID)
		paid := other.pay(t, other.reserve(t, listing.ID).ID, goodCard)
		other.paymentBecomes(t, "captured", paid.ID)
		last.ticketBecomes(t, "sold", listing.ID)
	}
	events.waitIdle(t)
	require.Zero(t, events.deadLetterCount(t))
}
