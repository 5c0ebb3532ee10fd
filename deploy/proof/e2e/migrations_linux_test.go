package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/client"
)

// The migrations of deploy/postgres run on a real server, and their views are compared with the API.

const (
	superPassword = "secret-of-the-superuser"
	// deployer may create roles and databases, and no more, as on managed servers.
	deployer = "deployer"
)

// rolesWithPasswords are the roles that the migrations create.
var rolesWithPasswords = []string{"auth", "dead-letters", "expiration", "orders", "payments", "tickets", "catalogue", "webhooks", "reporting"}

func passwordOf(role string) string { return "secret-of-" + role }

// migrator is the built program deploy/postgres with a server.
type migrator struct {
	program string
	store   *postgres
}

func newMigrator(t *testing.T, store *postgres) *migrator {
	t.Helper()
	program := filepath.Join(t.TempDir(), "migrate")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = filepath.Join(root(t), "deploy", "postgres")
	text, err := build.CombinedOutput()
	require.NoError(t, err, "%s", text)
	return &migrator{program: program, store: store}
}

// run runs the program with the passwords of all roles except these.
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

// sql runs statements as a role, with psql, and returns what psql prints.
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

// client returns the path of psql: the server's own if there is one, because Debian's on the path is a slow wrapper.
func (p *postgres) client() string {
	if program, err := filepath.EvalSymlinks(p.program); err == nil {
		client := filepath.Join(filepath.Dir(program), "psql")
		if _, err := os.Stat(client); err == nil {
			return client
		}
	}
	return "psql"
}

// asSuperuser runs statements as the superuser, which must succeed.
func (p *postgres) asSuperuser(t testing.TB, database string, statements ...string) string {
	t.Helper()
	text, err := p.sql("boxoffice", p.password, database, statements...)
	require.NoError(t, err, "%s", text)
	return text
}

// report reads the rows of a query as the reporting role.
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

// migratedResources returns components for the migrated server: a database and a role for each service.
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
scopes: [auth, catalogue, dead-letters, expiration, orders, payments, tickets]
`, p.port))
}

// passwordFile writes the passwords of all roles into a file that PostgreSQL's clients read.
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

	output, err := migrate.run("up", "tickets", "reporting")
	require.Error(t, err)
	require.Contains(t, output, "POSTGRES_PASSWORD_TICKETS, POSTGRES_PASSWORD_REPORTING", "all missing passwords are named before anything is changed")
	output, err = migrate.run("status")
	require.NoError(t, err, "%s", output)
	require.Contains(t, output, "every/00001_database.sql")
	require.NotContains(t, output, "\n0 pending")
	require.Equal(t, "postgres", store.asSuperuser(t, "postgres", "SELECT string_agg(datname, ' ') FROM pg_database WHERE NOT datistemplate"),
		"status changes nothing")

	first, second := migrateTwice(t, migrate)
	require.Equal(t, 1, strings.Count(first+second, "Nothing to do"), "of two at the same time, one has nothing to do:\n%s\n%s", first, second)
	output, err = migrate.run("status")
	require.NoError(t, err, "%s", output)
	require.Contains(t, output, "\n0 pending")

	s := newStack(t, stack.Options{
		Resources: withEvents(t, store.migratedResources(t)),
		Env:       map[string]string{"PGPASSFILE": passwordFile(t)},
	})
	output, err = migrate.run("up")
	require.NoError(t, err, "%s", output)
	require.Equal(t, "Nothing to do: all migrations have been applied.\n", output, "also after Dapr has used the databases")
	for _, service := range rolesWithPasswords[:len(rolesWithPasswords)-1] {
		if service == "webhooks" {
			continue // this stack is without it
		}
		require.Equal(t, "1", store.asSuperuser(t, "boxoffice_"+service, "SELECT count(*) FROM pg_indexes WHERE tablename = 'state' AND indexdef LIKE '%(expires_at)'"),
			"Dapr uses the table of %s, and has added its index once", service)
	}

	t.Run("reports", func(t *testing.T) { requireReportsMatchAPI(t, s, store) })
	t.Run("journal", func(t *testing.T) { requireJournalReports(t, store) })
	t.Run("shows", func(t *testing.T) { requireShowReports(t, s, store) })
	t.Run("endpoints", func(t *testing.T) { requireEndpointReports(t, store) })
	t.Run("access", func(t *testing.T) { requireAccessLimits(t, store) })
	t.Run("indexes", func(t *testing.T) { requireIndexUse(t, store) })
}

// migrateTwice applies all migrations, twice at the same time.
func migrateTwice(t *testing.T, migrate *migrator) (first, second string) {
	t.Helper()
	var outputs [2]string
	var errs [2]error
	atOnce(2, func(i int) { outputs[i], errs[i] = migrate.run("up") })
	for i := range errs {
		require.NoError(t, errs[i], "%s", outputs[i])
	}
	return outputs[0], outputs[1]
}

func requireReportsMatchAPI(t *testing.T, s *testStack, store *postgres) {
	seller, buyer := s.signUp(t), s.signUp(t)
	sale := s.sell(t, buyer)
	paid := buyer.paymentBecomes(t, "captured", sale.ID)
	complete := buyer.order(t, paid.OrderID)
	open := buyer.reserve(t, seller.list(t, "Open", 2500).ID)
	cancelled := buyer.reserve(t, seller.list(t, "Cancelled", 3500).ID)
	buyer.cancel(t, cancelled.ID)
	s.ticketBecomes(t, "available", cancelled.Ticket.ID)
	s.ticketBecomes(t, "reserved", open.Ticket.ID)
	withdrawn := seller.list(t, "Withdrawn", 4500)
	requireStatus(t, 204, seller.call(t, client.DeleteTicket(withdrawn.ID)))

	type account struct {
		ID, Email string
		CreatedAt time.Time `json:"created_at"`
		MadeAt    time.Time `json:"made_at"`
	}
	user := reportOne[account](t, store, "auth", "SELECT * FROM reporting.users WHERE email = '"+buyer.Email+"'")
	require.Equal(t, buyer.ID, user.ID)
	require.WithinDuration(t, buyer.CreatedAt, user.CreatedAt, 0)
	require.WithinDuration(t, buyer.CreatedAt, user.MadeAt, time.Second, "an id has the time of its creation")

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
	for _, id := range []string{complete.Ticket.ID, open.Ticket.ID, cancelled.Ticket.ID} {
		shown := s.ticket(t, id)
		row := reportOne[listing](t, store, "tickets", "SELECT * FROM reporting.tickets WHERE id = '"+id+"'")
		require.Equal(t, client.Ticket{ID: row.ID, Title: row.Title, Price: row.Price, Currency: row.Currency, UserID: row.SellerID, Status: row.Status,
			OrderID: row.OrderID, Version: row.Version, CreatedAt: row.CreatedAt.UTC(), UpdatedAt: row.UpdatedAt.UTC()}, shown)
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
	for _, id := range []string{complete.ID, open.ID, cancelled.ID} {
		shown := buyer.order(t, id)
		row := reportOne[reservation](t, store, "orders", "SELECT * FROM reporting.orders WHERE id = '"+id+"'")
		shown.Reason = row.Reason // the API does not show it
		require.Equal(t, client.Order{ID: row.ID, UserID: row.BuyerID, Status: row.Status, Reason: row.Reason, ExpiresAt: row.ExpiresAt.UTC(),
			Ticket:  client.OrderedTicket{ID: row.TicketID, Title: row.Title, Price: row.Price, Currency: row.Currency},
			Version: row.Version, CreatedAt: row.CreatedAt.UTC(), UpdatedAt: row.UpdatedAt.UTC()}, shown)
	}
	require.Equal(t, paid.ID, reportOne[reservation](t, store, "orders", "SELECT * FROM reporting.orders WHERE id = '"+complete.ID+"'").PaymentID)
	require.Equal(t, "user", reportOne[reservation](t, store, "orders", "SELECT * FROM reporting.orders WHERE id = '"+cancelled.ID+"'").Reason)

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

	type projection struct {
		ID, Status string
		Version    int
		OrderID    string `json:"order_id"`
		PaymentID  string `json:"payment_id"`
	}
	eventuallyEqual(t, projection{ID: complete.ID, Status: "complete", Version: complete.Version, PaymentID: paid.ID}, "payments' projection of the order", func() projection {
		return reportOne[projection](t, store, "payments", "SELECT * FROM reporting.order_replicas WHERE id = '"+complete.ID+"'")
	})
	require.Empty(t, report[any](t, store, "orders", "SELECT * FROM reporting.payment_replicas"), "they are of an earlier release")
	listed := s.ticket(t, open.Ticket.ID)
	require.Equal(t, 1, reportOne[listing](t, store, "tickets", "SELECT * FROM reporting.tickets WHERE id = '"+listed.ID+"'").ListedVersion)
	eventuallyEqual(t, projection{ID: listed.ID, Status: "created", Version: 1, OrderID: open.ID}, "orders' projection of the ticket", func() projection {
		return reportOne[projection](t, store, "orders", "SELECT *, order_status AS status FROM reporting.ticket_replicas WHERE id = '"+listed.ID+"'")
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
		require.Positive(t, entries, "the entry of a writer's last transaction is kept")
		require.Empty(t, report[any](t, store, service, "SELECT * FROM reporting.journal_events_left"), "the entries of a living writer are not counted as left")
	}
	// An entry is not published, and its writer is silent, is closed by a takeover, is deleted, or is not in the registry. A fence has no
	// writer.
	w := report[writer](t, store, "orders", all)[0]
	own := "'orders||journal/" + w.Writer + "'"
	fenced := uuid.NewString()
	entries := `INSERT INTO public.state (key, value) VALUES
		('orders||journal/` + w.Writer + `/1000000', '{"schema": 1, "batch": "b", "events": [{"id": "order.created:o:1", "type": "order.created", "subject": "o"}]}'),
		('orders||journal/` + fenced + `/1', '{"schema": 1, "batch": "", "fence": true}')`
	query := "SELECT string_agg(DISTINCT state, ' ') || ' ' || count(*) FROM reporting.journal_events_left"
	for state, makeIt := range map[string]string{
		"silent":   "UPDATE public.state SET updated_at = now() - interval '16 seconds' WHERE key = " + own,
		"closed":   "UPDATE public.state SET value = convert_to(jsonb_set(reporting.document(value), '{closed}', 'true')::text, 'UTF8') WHERE key = " + own,
		"gone":     "DELETE FROM public.state WHERE key = " + own,
		"unlisted": `UPDATE public.state SET value = '{"schema": 1, "writers": null}' WHERE key = 'orders||journal/registry'`,
	} {
		output := strings.Fields(store.asSuperuser(t, "boxoffice_orders", "BEGIN", entries, makeIt, query, "SELECT count(*) FROM reporting.journal_writers WHERE writer = '"+fenced+"'", "ROLLBACK"))
		require.Len(t, output, 3, state)
		require.Equal(t, state, output[0])
		require.NotEqual(t, "0", output[1])
		require.Equal(t, "0", output[2])
	}
}

func requireAccessLimits(t *testing.T, store *postgres) {
	refusedTo := func(role, service, why string, statements ...string) {
		t.Helper()
		output, err := store.sql("boxoffice_"+role, passwordOf(role), "boxoffice_"+service, statements...)
		require.Error(t, err, "%s in %s: %s", role, service, statements)
		require.Contains(t, output, why)
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
			FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname IN ('public', 'reporting') AND c.relkind IN ('r', 'v')`), "the reporting role may read all views of %s, and no table", service)
		require.Equal(t, "0", store.asSuperuser(t, "boxoffice_"+service, `SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE n.nspname = 'reporting' AND c.relkind = 'v' AND obj_description(c.oid) IS NULL`), "every view of %s has a comment", service)
		refusedTo(service, service, "permission denied to create role", "CREATE ROLE mine")
		_, err := store.sql("boxoffice_"+service, "not the password", "boxoffice_"+service, "SELECT 1")
		require.Error(t, err)
	}
	refusedTo("tickets", "orders", "permission denied for database", "SELECT 1")
	require.Empty(t, store.asSuperuser(t, "postgres", `SELECT rolname, datname FROM pg_roles, pg_database
		WHERE rolname LIKE 'boxoffice\_%' AND datname LIKE 'boxoffice%' AND has_database_privilege(rolname, datname, 'CONNECT')
		AND NOT (rolname = datname OR rolname = 'boxoffice_reporting' AND datname <> 'boxoffice')`), "each service connects to its own database, and reporting to all")
}

// requireEndpointReports requires that the views of webhooks show its documents, which this test writes, because the stack has no Node.
func requireEndpointReports(t *testing.T, store *postgres) {
	user, endpoint := uuid.NewString(), uuid.NewString()
	document := func(key string, value string) string {
		return fmt.Sprintf("INSERT INTO public.state (key, value) VALUES ('webhooks||%s', convert_to('%s', 'UTF8'))", key, value)
	}
	store.asSuperuser(t, "boxoffice_webhooks",
		document("account/"+user, `{"schema": 1, "version": 2, "endpoints": [{"id": "`+endpoint+`", "url": "https://example.com/", "events": ["order.created"],
			"status": "disabled", "disabledReason": "failing", "disabledAt": "2026-05-01T12:00:00.000Z", "secret": "whsec_hidden", "version": 3,
			"createdAt": "2026-04-01T12:00:00.000Z", "updatedAt": "2026-05-01T12:00:00.000Z"}]}`),
		document("delivery/msg_1", `{"schema": 1, "id": "msg_1", "userId": "`+user+`", "endpointId": "`+endpoint+`", "eventId": "order.created:1:1", "eventType": "order.created",
			"eventAt": "2026-04-30T12:00:00.000Z", "body": "{}", "status": "failed", "attempts": 9, "createdAt": "2026-04-30T12:00:00.000Z",
			"lastAttempt": {"at": "2026-05-01T12:00:00.000Z", "durationMs": 12, "status": 503}}`))
	type row struct {
		ID     string `json:"id"`
		UserID string `json:"user_id"`
		Reason string `json:"disabled_reason"`
		Status string `json:"status"`
		Last   int    `json:"last_status"`
	}
	require.Equal(t, row{ID: endpoint, UserID: user, Reason: "failing", Status: "disabled"}, reportOne[row](t, store, "webhooks", "SELECT * FROM reporting.endpoints"))
	require.Equal(t, row{ID: "msg_1", UserID: user, Status: "failed", Last: 503}, reportOne[row](t, store, "webhooks", "SELECT * FROM reporting.deliveries"))
	require.NotContains(t, fmt.Sprint(report[map[string]any](t, store, "webhooks", "SELECT * FROM reporting.endpoints")), "whsec_")
}

// requireShowReports requires that the views of shows, their tickets and orders are what the API shows.
func requireShowReports(t *testing.T, s *testStack, store *postgres) {
	owner, buyer := s.signUp(t), s.signUp(t)
	markup := 20
	announce := func(show client.NewShow) client.Show {
		show.Name, show.Venue, show.City, show.Country = "A show in a report", "A venue", "Berlin", "DE"
		show.StartsAt, show.TimeZone, show.Category = time.Now().Add(30*24*time.Hour).UTC().Truncate(time.Second), "Europe/Berlin", "music"
		created := owner.call(t, client.CreateShow(show))
		requireStatus(t, 201, created)
		return decode[client.Show](t, created)
	}
	scheduled := announce(client.NewShow{})
	cancelled := announce(client.NewShow{Description: "Some words", MaxMarkup: &markup})
	var picture bytes.Buffer
	require.NoError(t, png.Encode(&picture, image.NewGray(image.Rect(0, 0, 8, 8))))
	requireStatus(t, 200, owner.call(t, client.PutImage(cancelled.ID, "image/png", picture.Bytes())))
	requireStatus(t, 204, owner.call(t, client.CancelShow(cancelled.ID)))

	type row struct {
		ID, Name, Venue, City, Country, Category, Description, Status string
		Version                                                       int
		StartsAt                                                      time.Time `json:"starts_at"`
		TimeZone                                                      string    `json:"time_zone"`
		MaxMarkup                                                     *int      `json:"max_markup"`
		HasImage                                                      bool      `json:"has_image"`
		OwnerID                                                       string    `json:"owner_id"`
		CreatedAt                                                     time.Time `json:"created_at"`
		UpdatedAt                                                     time.Time `json:"updated_at"`
	}
	for _, show := range []string{scheduled.ID, cancelled.ID} {
		shown := s.call(t, client.ReadShow(show))
		requireStatus(t, 200, shown)
		want := decode[client.Show](t, shown)
		r := reportOne[row](t, store, "catalogue", "SELECT * FROM reporting.shows WHERE id = '"+show+"'")
		require.Equal(t, want.Image != nil, r.HasImage)
		want.Image = nil
		require.Equal(t, want, client.Show{ID: r.ID, Name: r.Name, Venue: r.Venue, City: r.City, Country: r.Country, StartsAt: r.StartsAt.UTC(),
			TimeZone: r.TimeZone, Category: r.Category, Description: r.Description, MaxMarkup: r.MaxMarkup, Status: r.Status, UserID: r.OwnerID,
			Version: r.Version, CreatedAt: r.CreatedAt.UTC(), UpdatedAt: r.UpdatedAt.UTC()})
	}

	offer := client.Offer{Price: 4200, ShowID: scheduled.ID, Seat: &client.Place{Section: "A", Row: "7", Number: "12"}, FaceValue: 4000}
	created := owner.callKnown(t, client.ListPlace(offer))
	requireStatus(t, 201, created)
	listed := decode[client.Ticket](t, created)
	order := buyer.reserve(t, listed.ID)
	type seat struct {
		ShowID     string    `json:"show_id"`
		Section    string    `json:"seat_section"`
		Row        string    `json:"seat_row"`
		Number     string    `json:"seat_number"`
		FaceValue  int64     `json:"face_value"`
		SalesEndAt time.Time `json:"sales_end_at"`
		Revoked    bool      `json:"revoked"`
	}
	read := func(service, view, id string) seat {
		r := reportOne[seat](t, store, service, "SELECT * FROM reporting."+view+" WHERE id = '"+id+"'")
		r.SalesEndAt = r.SalesEndAt.UTC()
		return r
	}
	want := seat{ShowID: scheduled.ID, Section: "A", Row: "7", Number: "12"}
	require.Equal(t, want, read("orders", "orders", order.ID))
	want.FaceValue, want.SalesEndAt = 4000, scheduled.StartsAt
	require.Equal(t, want, read("tickets", "tickets", listed.ID))
	requireStatus(t, 204, owner.call(t, client.CancelShow(scheduled.ID)))
	eventually(t, "the ticket is revoked", func() bool { return read("tickets", "tickets", listed.ID).Revoked })
}

// requireIndexUse requires that the queries of the README use an index when there are many documents.
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
	for _, c := range []struct{ service, query, index string }{
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
		plan, err := store.sql("boxoffice_"+c.service, passwordOf(c.service), "boxoffice_"+c.service, "EXPLAIN "+c.query)
		require.NoError(t, err, "%s", plan)
		require.Contains(t, plan, c.index+" ", "%s", c.query)
		require.NotContains(t, plan, "Seq Scan", "%s", c.query)
	}
}
