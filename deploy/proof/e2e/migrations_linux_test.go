package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/client"
)

// The migrations under deploy/postgres, on a real server, and their views beside what the API says.

const (
	superPassword = "secret-of-the-superuser"
	// deployer may make roles and databases, and no more: so it is on servers that somebody else runs.
	deployer = "deployer"
)

// rolesWithPasswords are all that the migrations make.
var rolesWithPasswords = []string{"auth", "dead-letters", "expiration", "orders", "payments", "tickets", "reporting"}

func passwordOf(role string) string { return "secret-of-" + role }

// migrator is deploy/postgres, built, and the server that it works on.
type migrator struct {
	program string
	store   *postgres
}

func newMigrator(t *testing.T, store *postgres) *migrator {
	t.Helper()
	runFile, err := stack.FindRunFile(".")
	require.NoError(t, err)
	program := filepath.Join(t.TempDir(), "migrate")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = filepath.Join(filepath.Dir(runFile), "deploy", "postgres")
	text, err := build.CombinedOutput()
	require.NoError(t, err, "%s", text)
	return &migrator{program: program, store: store}
}

// run runs it with all passwords but these.
func (m *migrator) run(command string, without ...string) (string, error) {
	cmd := exec.Command(m.program, command)
	cmd.Env = append(os.Environ(), "PGPASSWORD="+passwordOf(deployer),
		fmt.Sprintf("DATABASE_URL=postgres://%s@%s/postgres?sslmode=disable", deployer, m.store.address()))
	for _, role := range rolesWithPasswords {
		cmd.Env = append(cmd.Env, "POSTGRES_PASSWORD_"+strings.ToUpper(strings.ReplaceAll(role, "-", "_"))+"="+passwordOf(role))
	}
	for _, role := range without {
		cmd.Env = append(cmd.Env, "POSTGRES_PASSWORD_"+strings.ToUpper(strings.ReplaceAll(role, "-", "_"))+"=")
	}
	text, err := cmd.CombinedOutput()
	return string(text), err
}

// sql runs statements as a role, by PostgreSQL's own client, and returns what it prints.
func (p *postgres) sql(role, password, database string, statements ...string) (string, error) {
	args := []string{"-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", fmt.Sprint(p.port), "-U", role, "-d", database}
	for _, statement := range statements {
		args = append(args, "-c", statement)
	}
	cmd := exec.Command(p.client(), args...)
	cmd.Env = append(os.Environ(), "PGPASSWORD="+password)
	text, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(text)), err
}

// client is psql: the server's own, for what Debian has on the path is a wrapper that takes its time.
func (p *postgres) client() string {
	if program, err := filepath.EvalSymlinks(p.program); err == nil {
		client := filepath.Join(filepath.Dir(program), "psql")
		if _, err := os.Stat(client); err == nil {
			return client
		}
	}
	return "psql"
}

// asSuperuser is sql for the superuser, and must succeed.
func (p *postgres) asSuperuser(t testing.TB, database string, statements ...string) string {
	t.Helper()
	text, err := p.sql("boxoffice", p.password, database, statements...)
	require.NoError(t, err, "%s", text)
	return text
}

// report reads rows as the reporting role does.
func report[T any](t testing.TB, p *postgres, service, query string) []T {
	t.Helper()
	text, err := p.sql("boxoffice_reporting", passwordOf("reporting"), "boxoffice_"+service,
		"SELECT coalesce(json_agg(row), '[]') FROM ("+query+") AS row")
	require.NoError(t, err, "%s", text)
	var rows []T
	require.NoError(t, json.Unmarshal([]byte(text), &rows), "%s", text)
	return rows
}

func reportOne[T any](t testing.TB, p *postgres, service, query string) T {
	t.Helper()
	rows := report[T](t, p, service, query)
	require.Len(t, rows, 1, query)
	return rows[0]
}

// migratedResources are components as the migrations want them: a database and a role a service.
func (p *postgres) migratedResources(t testing.TB) string {
	t.Helper()
	return resourcesWithState(t, fmt.Sprintf(`apiVersion: dapr.io/v1alpha1
kind: Component
metadata:
  name: state
spec:
  type: state.postgresql
  version: v2
  metadata:
    - name: connectionString
      value: "host=127.0.0.1 port=%d user=boxoffice_{appID} dbname=boxoffice_{appID} sslmode=disable"
    - name: maxConns
      value: "8"
    - name: actorStateStore
      value: "true"
scopes: [auth, dead-letters, expiration, orders, payments, tickets]
`, p.port))
}

// passwordFile is a file with the passwords of all roles, as clients of PostgreSQL read it.
func passwordFile(t testing.TB) string {
	t.Helper()
	var lines strings.Builder
	for _, role := range rolesWithPasswords {
		fmt.Fprintf(&lines, "*:*:*:boxoffice_%s:%s\n", role, passwordOf(role))
	}
	path := filepath.Join(t.TempDir(), "passwords")
	require.NoError(t, os.WriteFile(path, []byte(lines.String()), 0o600))
	return path
}

func TestMigrations_EachServiceHasItsDatabaseAndReportsMatchTheAPI(t *testing.T) {
	t.Parallel()
	onEmbedded(t, "the database is the test's own")
	store := startPostgresFor(t, superPassword)
	eventually(t, "PostgreSQL answers", func() bool {
		_, err := store.sql("boxoffice", superPassword, "postgres", "SELECT 1")
		return err == nil
	})
	store.asSuperuser(t, "postgres", "CREATE ROLE "+deployer+" LOGIN CREATEROLE CREATEDB PASSWORD '"+passwordOf(deployer)+"'")
	migrate := newMigrator(t, store)

	said, err := migrate.run("up", "tickets", "reporting")
	require.Error(t, err)
	require.Contains(t, said, "POSTGRES_PASSWORD_TICKETS, POSTGRES_PASSWORD_REPORTING", "all that is missing is named, before anything is done")
	said, err = migrate.run("status")
	require.NoError(t, err, "%s", said)
	require.Contains(t, said, "every/00001_database.sql")
	require.NotContains(t, said, "\n0 pending")
	require.Equal(t, "postgres", store.asSuperuser(t, "postgres", "SELECT string_agg(datname, ' ') FROM pg_database WHERE NOT datistemplate"),
		"to look changes nothing")

	first, second := migrateTwice(t, migrate)
	require.Equal(t, 1, strings.Count(first+second, "Nothing to do"), "one of two at once finds all done by the other:\n%s\n%s", first, second)
	said, err = migrate.run("status")
	require.NoError(t, err, "%s", said)
	require.Contains(t, said, "\n0 pending")

	s := newStack(t, stack.Options{
		Resources: withEvents(t, store.migratedResources(t)),
		Env:       map[string]string{"PGPASSFILE": passwordFile(t)},
	})
	said, err = migrate.run("up")
	require.NoError(t, err, "%s", said)
	require.Equal(t, "Nothing to do: all migrations have been applied.\n", said, "also when Dapr has been there")
	for _, service := range rolesWithPasswords[:len(rolesWithPasswords)-1] {
		require.Equal(t, "1", store.asSuperuser(t, "boxoffice_"+service, "SELECT count(*) FROM pg_indexes WHERE tablename = 'state' AND indexdef LIKE '%(expires_at)'"),
			"Dapr has taken the table of %s for its own, and added its index once", service)
	}

	t.Run("reports", func(t *testing.T) { requireReportsMatchAPI(t, s, store) })
	t.Run("journal", func(t *testing.T) { requireJournalReports(t, store) })
	t.Run("access", func(t *testing.T) { requireAccessLimits(t, store) })
	t.Run("indexes", func(t *testing.T) { requireIndexUse(t, store) })
}

// migrateTwice applies all, twice at once.
func migrateTwice(t *testing.T, migrate *migrator) (first, second string) {
	t.Helper()
	var both sync.WaitGroup
	var err [2]error
	both.Go(func() { first, err[0] = migrate.run("up") })
	both.Go(func() { second, err[1] = migrate.run("up") })
	both.Wait()
	require.NoError(t, err[0], "%s", first)
	require.NoError(t, err[1], "%s", second)
	return first, second
}

func requireReportsMatchAPI(t *testing.T, s *testStack, store *postgres) {
	seller, buyer := s.signUp(t), s.signUp(t)
	sale := s.sell(t, buyer)
	paid := buyer.paymentBecomes(t, "captured", sale.ID)
	complete := buyer.order(t, paid.OrderID)
	open := buyer.reserve(t, seller.list(t, "Open", 2500).ID)
	given := buyer.reserve(t, seller.list(t, "Given back", 3500).ID)
	buyer.cancel(t, given.ID)
	s.ticketBecomes(t, "available", given.Ticket.ID)
	s.ticketBecomes(t, "reserved", open.Ticket.ID)
	withdrawn := seller.list(t, "Withdrawn", 4500)
	requireStatus(t, 204, seller.call(t, client.DeleteTicket(withdrawn.ID)))

	type account struct {
		ID, Email string
		CreatedAt time.Time `json:"created_at"`
		MadeAt    time.Time `json:"made_at"`
	}
	person := reportOne[account](t, store, "auth", "SELECT * FROM reporting.users WHERE email = '"+buyer.Email+"'")
	require.Equal(t, buyer.ID, person.ID)
	require.WithinDuration(t, buyer.CreatedAt, person.CreatedAt, 0)
	require.WithinDuration(t, buyer.CreatedAt, person.MadeAt, time.Second, "the time in an id is the time it was made")

	type listing struct {
		ID, Title, Currency, Status string
		Price                       int64
		Version                     int
		ListedVersion               int `json:"listed_version"`
		Deleted                     bool
		SellerID                    string    `json:"seller_id"`
		OrderID                     string    `json:"order_id"`
		CreatedAt                   time.Time `json:"created_at"`
		UpdatedAt                   time.Time `json:"updated_at"`
	}
	for _, id := range []string{complete.Ticket.ID, open.Ticket.ID, given.Ticket.ID} {
		said := s.ticket(t, id)
		row := reportOne[listing](t, store, "tickets", "SELECT * FROM reporting.tickets WHERE id = '"+id+"'")
		require.Equal(t, client.Ticket{ID: row.ID, Title: row.Title, Price: row.Price, Currency: row.Currency, UserID: row.SellerID, Status: row.Status,
			OrderID: row.OrderID, Version: row.Version, CreatedAt: row.CreatedAt.UTC(), UpdatedAt: row.UpdatedAt.UTC()}, said)
		require.False(t, row.Deleted)
	}
	require.True(t, reportOne[listing](t, store, "tickets", "SELECT * FROM reporting.tickets WHERE id = '"+withdrawn.ID+"'").Deleted)

	type reservation struct {
		ID, Status, Reason, Title, Currency string
		Price                               int64
		Version                             int
		BuyerID                             string    `json:"buyer_id"`
		PaymentID                           string    `json:"payment_id"`
		TicketID                            string    `json:"ticket_id"`
		ExpiresAt                           time.Time `json:"expires_at"`
		CreatedAt                           time.Time `json:"created_at"`
		UpdatedAt                           time.Time `json:"updated_at"`
	}
	for _, id := range []string{complete.ID, open.ID, given.ID} {
		said := buyer.order(t, id)
		row := reportOne[reservation](t, store, "orders", "SELECT * FROM reporting.orders WHERE id = '"+id+"'")
		said.Reason = row.Reason // the API does not tell it
		require.Equal(t, client.Order{ID: row.ID, UserID: row.BuyerID, Status: row.Status, Reason: row.Reason, ExpiresAt: row.ExpiresAt.UTC(),
			Ticket:  client.OrderedTicket{ID: row.TicketID, Title: row.Title, Price: row.Price, Currency: row.Currency},
			Version: row.Version, CreatedAt: row.CreatedAt.UTC(), UpdatedAt: row.UpdatedAt.UTC()}, said)
	}
	require.Equal(t, paid.ID, reportOne[reservation](t, store, "orders", "SELECT * FROM reporting.orders WHERE id = '"+complete.ID+"'").PaymentID)
	require.Equal(t, "user", reportOne[reservation](t, store, "orders", "SELECT * FROM reporting.orders WHERE id = '"+given.ID+"'").Reason)

	type money struct {
		ID, Status, Currency string
		Amount               int64
		Attempts             int
		Version              int
		OrderID              string    `json:"order_id"`
		BuyerID              string    `json:"buyer_id"`
		StripeID             string    `json:"stripe_id"`
		CreatedAt            time.Time `json:"created_at"`
		UpdatedAt            time.Time `json:"updated_at"`
	}
	row := reportOne[money](t, store, "payments", "SELECT * FROM reporting.payments WHERE stripe_id = '"+paid.StripeID+"'")
	require.Equal(t, buyer.ID, row.BuyerID)
	require.Equal(t, 1, row.Attempts)
	require.Equal(t, client.Payment{ID: row.ID, OrderID: row.OrderID, StripeID: row.StripeID, Status: row.Status, Amount: row.Amount, Currency: row.Currency,
		CreatedAt: row.CreatedAt.UTC(), UpdatedAt: row.UpdatedAt.UTC()}, paid)

	type replica struct {
		ID, Status string
		Version    int
		OrderID    string `json:"order_id"`
		PaymentID  string `json:"payment_id"`
	}
	eventuallyEqual(t, replica{ID: complete.ID, Status: "complete", Version: complete.Version, PaymentID: paid.ID}, "payments' replica of the order", func() replica {
		return reportOne[replica](t, store, "payments", "SELECT * FROM reporting.order_replicas WHERE id = '"+complete.ID+"'")
	})
	require.Empty(t, report[any](t, store, "orders", "SELECT * FROM reporting.payment_replicas"), "they are of the release before")
	listed := s.ticket(t, open.Ticket.ID)
	require.Equal(t, 1, reportOne[listing](t, store, "tickets", "SELECT * FROM reporting.tickets WHERE id = '"+listed.ID+"'").ListedVersion)
	eventuallyEqual(t, replica{ID: listed.ID, Status: "created", Version: 1, OrderID: open.ID}, "orders' replica of the ticket", func() replica {
		return reportOne[replica](t, store, "orders", "SELECT *, order_status AS status FROM reporting.ticket_replicas WHERE id = '"+listed.ID+"'")
	})

	require.Empty(t, report[any](t, store, "dead-letters", "SELECT * FROM reporting.dead_letters"))
	type format struct {
		Kind      string
		Schema    int
		Documents int
	}
	require.Contains(t, report[format](t, store, "orders", "SELECT * FROM reporting.formats"), format{Kind: "order", Schema: 1, Documents: 3})
}

func requireJournalReports(t *testing.T, store *postgres) {
	type writer struct {
		Writer, Instance, State string
		Partition, Entries      int
		RenewedAt               time.Time `json:"renewed_at"`
	}
	const all = "SELECT * FROM reporting.journal_writers ORDER BY partition"
	for _, service := range []string{"auth", "tickets", "orders", "payments"} {
		writers := report[writer](t, store, service, all)
		require.NotEmpty(t, writers)
		entries := 0
		for partition, w := range writers {
			require.Equal(t, "living", w.State)
			require.NotEmpty(t, w.Instance)
			require.Equal(t, partition, w.Partition)
			require.WithinDuration(t, time.Now(), w.RenewedAt, 15*time.Second)
			entries += w.Entries
		}
		require.Positive(t, entries, "the entry of a writer's last transaction stays")
		require.Empty(t, report[any](t, store, service, "SELECT * FROM reporting.journal_events_left"), "what a living writer's entries hold says nothing")
	}
	// As it looks with an entry that is not published when the process of orders is silent, or another is taking over, or
	// nobody knows of the writer. Fences are nobody's.
	w := report[writer](t, store, "orders", all)[0]
	own := "'orders||journal/" + w.Writer + "'"
	fenced := uuid.NewString()
	entries := `INSERT INTO public.state (key, value) VALUES
		('orders||journal/` + w.Writer + `/1000000', '{"schema": 1, "batch": "b", "events": [{"id": "order.created:o:1", "type": "order.created", "subject": "o"}]}'),
		('orders||journal/` + fenced + `/1', '{"schema": 1, "batch": "", "fence": true}')`
	look := "SELECT string_agg(DISTINCT state, ' ') || ' ' || count(*) FROM reporting.journal_events_left"
	for state, makeIt := range map[string]string{
		"silent":   "UPDATE public.state SET updated_at = now() - interval '16 seconds' WHERE key = " + own,
		"closed":   "UPDATE public.state SET value = convert_to(jsonb_set(reporting.document(value), '{closed}', 'true')::text, 'UTF8') WHERE key = " + own,
		"gone":     "DELETE FROM public.state WHERE key = " + own,
		"unlisted": `UPDATE public.state SET value = '{"schema": 1, "writers": null}' WHERE key = 'orders||journal/registry'`,
	} {
		said := strings.Fields(store.asSuperuser(t, "boxoffice_orders", "BEGIN", entries, makeIt, look, "SELECT count(*) FROM reporting.journal_writers WHERE writer = '"+fenced+"'", "ROLLBACK"))
		require.Len(t, said, 3, state)
		require.Equal(t, state, said[0])
		require.NotEqual(t, "0", said[1])
		require.Equal(t, "0", said[2])
	}
}

func requireAccessLimits(t *testing.T, store *postgres) {
	refusedTo := func(role, service, why string, statements ...string) {
		t.Helper()
		said, err := store.sql("boxoffice_"+role, passwordOf(role), "boxoffice_"+service, statements...)
		require.Error(t, err, "%s in %s: %s", role, service, statements)
		require.Contains(t, said, why)
	}
	const writable = "SET default_transaction_read_only = off"
	refusedTo("reporting", "auth", "permission denied for schema public", "SELECT count(*) FROM public.state")
	refusedTo("reporting", "auth", "permission denied for schema public", "SELECT count(*) FROM public.dapr_metadata")
	refusedTo("reporting", "auth", "read-only transaction", "CREATE TABLE reporting.mine (x int)")
	refusedTo("reporting", "auth", "permission denied for schema reporting", writable, "CREATE TABLE reporting.mine (x int)")
	refusedTo("reporting", "auth", "permission denied for schema public", writable, "CREATE TABLE public.mine (x int)")
	refusedTo("reporting", "auth", "permission denied to create temporary tables", writable, "CREATE TEMPORARY TABLE mine (x int)")
	refusedTo("reporting", "auth", "cannot delete from view", writable, "DELETE FROM reporting.users")
	for _, service := range rolesWithPasswords[:len(rolesWithPasswords)-1] {
		require.Equal(t, "t", store.asSuperuser(t, "boxoffice_"+service, `SELECT bool_and(has_table_privilege('boxoffice_reporting', c.oid, 'SELECT') = (c.relkind = 'v'))
			FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname IN ('public', 'reporting') AND c.relkind IN ('r', 'v')`), "of %s, all views and no table", service)
		require.Equal(t, "0", store.asSuperuser(t, "boxoffice_"+service, `SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE n.nspname = 'reporting' AND c.relkind = 'v' AND obj_description(c.oid) IS NULL`), "every view of %s is explained", service)
		refusedTo(service, service, "permission denied to create role", "CREATE ROLE mine")
		_, err := store.sql("boxoffice_"+service, "not the password", "boxoffice_"+service, "SELECT 1")
		require.Error(t, err)
	}
	refusedTo("tickets", "orders", "permission denied for database", "SELECT 1")
	require.Empty(t, store.asSuperuser(t, "postgres", `SELECT rolname, datname FROM pg_roles, pg_database
		WHERE rolname LIKE 'boxoffice\_%' AND datname LIKE 'boxoffice%' AND has_database_privilege(rolname, datname, 'CONNECT')
		AND NOT (rolname = datname OR rolname = 'boxoffice_reporting' AND datname <> 'boxoffice')`), "each enters its own database, and reports all of them")
}

// questionsTakeIndexes asks what the README says is quick, among as many documents as make an index worth its while.
func requireIndexUse(t *testing.T, store *postgres) {
	const many = `
		INSERT INTO public.state (key, value)
		SELECT '%[1]s' || id, convert_to((reporting.document(value) || jsonb_build_object('id', id, 'email', id, 'orderId', id,
			'payment', reporting.document(value) -> 'payment' || jsonb_build_object('id', id, 'stripeId', id)))::text, 'UTF8')
		FROM (SELECT value, gen_random_uuid() AS id FROM (SELECT value FROM public.state WHERE key LIKE '%[1]s%%' LIMIT 1) AS model, generate_series(1, 2000)) AS copies`
	for service, kind := range map[string]string{"auth": "user", "tickets": "ticket", "orders": "order", "payments": "order"} {
		store.asSuperuser(t, "boxoffice_"+service, fmt.Sprintf(many, service+"||"+kind+"/"), "ANALYZE public.state")
	}
	id := uuid.NewString()
	for _, question := range []struct{ service, query, index string }{
		{"auth", "SELECT * FROM reporting.users WHERE email = 'ada@example.com'", "users_email"},
		{"auth", "SELECT * FROM reporting.users WHERE id = '" + id + "'", "users_id"},
		{"auth", "SELECT id, email FROM reporting.users ORDER BY made_at DESC LIMIT 20", "users_made_at"},
		{"tickets", "SELECT * FROM reporting.tickets WHERE id = '" + id + "'", "tickets_id"},
		{"tickets", "SELECT * FROM reporting.tickets ORDER BY made_at DESC LIMIT 20", "tickets_made_at"},
		{"orders", "SELECT * FROM reporting.orders WHERE id = '" + id + "'", "orders_id"},
		{"orders", "SELECT * FROM reporting.orders ORDER BY made_at DESC LIMIT 20", "orders_made_at"},
		{"orders", "SELECT * FROM reporting.orders WHERE made_at BETWEEN now() - interval '1 day' AND now() AND status = 'created'", "orders_made_at"},
		{"payments", "SELECT * FROM reporting.payments WHERE id = '" + id + "'", "order_payments_id"},
		{"payments", "SELECT * FROM reporting.payments WHERE order_id = '" + id + "'", "order_payments_id"},
		{"payments", "SELECT * FROM reporting.payments WHERE stripe_id = 'pi_1'", "order_payments_stripe_id"},
		{"payments", "SELECT * FROM reporting.payments WHERE made_at > now() - interval '1 day'", "order_payments_made_at"},
		{"payments", "SELECT * FROM reporting.payments WHERE status = 'authorized' AND made_at < now() - interval '1 hour'", "order_payments_authorized"},
		{"orders", "SELECT * FROM reporting.journal_writers", "state_pkey"},
		{"orders", "SELECT count(*) FROM reporting.payment_replicas", "state_pkey"},
	} {
		plan, err := store.sql("boxoffice_"+question.service, passwordOf(question.service), "boxoffice_"+question.service, "EXPLAIN "+question.query)
		require.NoError(t, err, "%s", plan)
		require.Contains(t, plan, question.index+" ", "%s", question.query)
		require.NotContains(t, plan, "Seq Scan", "%s", question.query)
	}
}
