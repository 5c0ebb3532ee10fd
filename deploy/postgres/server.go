package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

const (
	// oldest is the first version of PostgreSQL in which nobody but its owner may write to a database's public schema.
	oldest = 15
	// lockKey is the advisory lock that a run holds, so that two at once are two in a row.
	lockKey = 0x626f786f66666963
	// lockTime bounds the wait for another run.
	lockTime = 5 * time.Minute
)

// server is a connection of the administrator, and how to make others.
type server struct {
	config *pgx.ConnConfig
	admin  *pgx.Conn
	out    io.Writer
}

func open(ctx context.Context, config *pgx.ConnConfig, out io.Writer) (*server, error) {
	admin, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to DATABASE_URL: %w", err)
	}
	s := &server{config: config, admin: admin, out: out}
	var version int
	if err := admin.QueryRow(ctx, "SELECT current_setting('server_version_num')::int / 10000").Scan(&version); err != nil {
		s.close()
		return nil, err
	}
	if version < oldest {
		s.close()
		return nil, fmt.Errorf("this is PostgreSQL %d; the migrations need %d or later", version, oldest)
	}
	return s, nil
}

func (s *server) close() { _ = s.admin.Close(context.Background()) }

// up applies what has not been applied, and gives the roles their passwords, if there are any.
func (s *server) up(ctx context.Context, passwords map[string]string) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	if err := s.ensureDatabase(ctx, ledger, ""); err != nil {
		return err
	}
	applied, err := s.apply(ctx, serverStep())
	if err != nil {
		return err
	}
	for role, password := range passwords {
		if err := s.setPassword(ctx, role, password); err != nil {
			return err
		}
	}
	for _, service := range services {
		if err := s.ensureDatabase(ctx, databaseOf(service), roleOf(service)); err != nil {
			return err
		}
		for _, step := range steps(service) {
			n, err := s.apply(ctx, step)
			if err != nil {
				return err
			}
			applied += n
		}
	}
	if applied == 0 {
		fmt.Fprintln(s.out, "Nothing to do: all migrations have been applied.")
	}
	return nil
}

// lock waits until no other run is under way. The lock goes with the connection.
func (s *server) lock(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lockTime)
	defer cancel()
	if _, err := s.admin.Exec(ctx, "SELECT pg_advisory_lock($1)", int64(lockKey)); err != nil {
		return fmt.Errorf("wait for another run to end: %w", err)
	}
	return nil
}

// ensureDatabase makes a database, unless it is there: CREATE DATABASE cannot be part of a migration, for it runs in
// no transaction. An empty owner is the administrator.
func (s *server) ensureDatabase(ctx context.Context, name, owner string) error {
	var admin string
	var super bool
	if err := s.admin.QueryRow(ctx, "SELECT rolname, rolsuper FROM pg_roles WHERE rolname = current_user").Scan(&admin, &super); err != nil {
		return err
	}
	if owner == "" {
		owner = admin
	} else if !super {
		// Who is not a superuser can act only for a role whose member it is.
		if _, err := s.admin.Exec(ctx, "GRANT "+quote(owner)+" TO "+quote(admin)); err != nil {
			return fmt.Errorf("become a member of %s, to make its database: %w", owner, err)
		}
	}
	var has string
	err := s.admin.QueryRow(ctx, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = $1", name).Scan(&has)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		// By bytes, so that the primary key serves for all documents whose key begins alike.
		if _, err := s.admin.Exec(ctx, "CREATE DATABASE "+quote(name)+" OWNER "+quote(owner)+" TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'"); err != nil {
			return fmt.Errorf("create the database %s: %w", name, err)
		}
		fmt.Fprintf(s.out, "%-22s created\n", name)
		return nil
	case err != nil:
		return err
	case has != owner && name != ledger:
		return fmt.Errorf("the database %s belongs to %s, and must belong to %s: ALTER DATABASE %s OWNER TO %s", name, has, owner, quote(name), quote(owner))
	}
	return nil
}

func (s *server) setPassword(ctx context.Context, role, password string) error {
	secret, err := verifier(password)
	if err != nil {
		return err
	}
	// It holds no quotes; ALTER ROLE takes no parameters.
	if _, err := s.admin.Exec(ctx, "ALTER ROLE "+quote(role)+" PASSWORD '"+secret+"'"); err != nil {
		return fmt.Errorf("set the password of %s: %w", role, err)
	}
	return nil
}

// apply runs a step's new migrations, and returns how many there were.
func (s *server) apply(ctx context.Context, at step) (int, error) {
	provider, err := s.provider(at)
	if err != nil {
		return 0, err
	}
	defer provider.Close()
	results, err := provider.Up(ctx)
	if err != nil {
		return 0, fmt.Errorf("%s, %s: %w", at.database, at.folder, err)
	}
	for _, r := range results {
		fmt.Fprintf(s.out, "%-22s %s/%s  (%s)\n", at.database, at.folder, r.Source.Path, r.Duration.Round(time.Millisecond))
	}
	return len(results), nil
}

// provider is goose on a step's database, with what is made there owned by the step's role. It must be closed.
func (s *server) provider(at step) (*goose.Provider, error) {
	// A migration may name the service that it is for, as ${SERVICE}.
	if err := os.Setenv("SERVICE", at.service); err != nil {
		return nil, err
	}
	folder, err := fs.Sub(files, "migrations/"+at.folder)
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectPostgres, s.database(at), folder, goose.WithTableName(at.record), goose.WithDisableGlobalRegistry(true))
}

func (s *server) database(at step) *sql.DB {
	config := s.config.Copy()
	config.Database = at.database
	if at.role != "" {
		config.RuntimeParams["role"] = at.role
	}
	return stdlib.OpenDB(*config)
}

// status prints of every migration whether and when it was applied. It changes nothing.
func (s *server) status(ctx context.Context) error {
	all := []step{serverStep()}
	for _, service := range services {
		all = append(all, steps(service)...)
	}
	pending := 0
	for _, at := range all {
		lines, err := s.statusOf(ctx, at)
		if err != nil {
			return fmt.Errorf("%s, %s: %w", at.database, at.folder, err)
		}
		for _, line := range lines {
			when := "pending"
			if line.applied {
				when = line.at.UTC().Format(time.DateTime)
			} else {
				pending++
			}
			fmt.Fprintf(s.out, "%-22s %-40s %s\n", at.database, at.folder+"/"+line.file, when)
		}
	}
	fmt.Fprintf(s.out, "%d pending\n", pending)
	return nil
}

type statusLine struct {
	file    string
	applied bool
	at      time.Time
}

// statusOf is a step's status. goose would make the table that it keeps its record in; so this checks first.
func (s *server) statusOf(ctx context.Context, at step) ([]statusLine, error) {
	recorded, err := s.recorded(ctx, at)
	if err != nil {
		return nil, err
	}
	var lines []statusLine
	if !recorded {
		entries, err := fs.ReadDir(files, "migrations/"+at.folder)
		for _, entry := range entries {
			lines = append(lines, statusLine{file: entry.Name()})
		}
		return lines, err
	}
	provider, err := s.provider(at)
	if err != nil {
		return nil, err
	}
	defer provider.Close()
	found, err := provider.Status(ctx)
	for _, m := range found {
		lines = append(lines, statusLine{file: m.Source.Path, applied: m.State == goose.StateApplied, at: m.AppliedAt})
	}
	return lines, err
}

// recorded reports whether anything of a step was ever applied.
func (s *server) recorded(ctx context.Context, at step) (found bool, err error) {
	err = s.admin.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", at.database).Scan(&found)
	if err != nil || !found {
		return false, err
	}
	db := s.database(at)
	defer db.Close()
	err = db.QueryRowContext(ctx, "SELECT to_regclass($1) IS NOT NULL", "public."+at.record).Scan(&found)
	return found, err
}

func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
