package stack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// PostgreSQL as the sets run it: only over TLS, a password for each user, a database for each service. The program is the one that is
// installed on this machine. The data belongs to the stack.

// PostgresPrograms is the folder of the programs of the newest PostgreSQL that is installed, or "". On Debian they are not on the
// path.
func PostgresPrograms() string {
	folders, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	slices.SortFunc(folders, func(a, b string) int { return majorVersion(a) - majorVersion(b) })
	if path, err := exec.LookPath("initdb"); err == nil {
		folders = append(folders, filepath.Dir(path))
	}
	for _, folder := range slices.Backward(folders) {
		_, noServer := os.Stat(filepath.Join(folder, "postgres"))
		_, noInit := os.Stat(filepath.Join(folder, "initdb"))
		if noServer == nil && noInit == nil {
			return folder
		}
	}
	return ""
}

// majorVersion is that of a folder /usr/lib/postgresql/15/bin.
func majorVersion(folder string) int {
	version, _ := strconv.Atoi(filepath.Base(filepath.Dir(folder)))
	return version
}

// postgresFolder is the parent of the data folder, because PostgreSQL wants nothing else in that.
func (l *layout) postgresFolder() string { return filepath.Join(l.dataFolder(), "postgres") }

func (l *layout) postgresData() string { return filepath.Join(l.postgresFolder(), "data") }

// databaseOf is the name of an app's database, and of the role that owns it. It is that of the migrations
// (deploy/postgres).
func databaseOf(app string) string { return "boxoffice_" + app }

// preparePostgres makes the database cluster, and the roles and databases of new apps. It runs before the server starts.
func (s *Stack) preparePostgres(ctx context.Context) error {
	if err := s.ensureCluster(ctx); err != nil {
		return err
	}
	for from, to := range map[string]string{s.plan.certificates.Server: "server.pem", s.plan.certificates.ServerKey: "server-key.pem"} {
		text, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		// PostgreSQL refuses a key that others may read, or that belongs to another account.
		if err := s.writeForPostgres(to, text); err != nil {
			return err
		}
	}
	return s.makeDatabases(ctx)
}

// templates guards the making and copying of templates.
var templates sync.Mutex

// ensureCluster makes the database cluster if there is none. A copy of a template has the template's passwords until
// makeDatabases sets the stack's own.
func (s *Stack) ensureCluster(ctx context.Context) error {
	template := s.plan.opts.DatabaseTemplate
	switch there, err := exists(s.plan.postgresData()); {
	case err != nil || there:
		return err
	case template == "":
		return s.makeCluster(ctx)
	}
	templates.Lock()
	defer templates.Unlock()
	switch there, err := exists(template); {
	case err != nil:
		return err
	case there:
		if err := s.makePostgresFolder(); err != nil {
			return err
		}
		return s.copyCluster(ctx, template, s.plan.postgresData())
	}
	if err := s.makeCluster(ctx); err != nil {
		return err
	}
	if err := s.makeDatabases(ctx); err != nil {
		return err
	}
	return s.copyCluster(ctx, s.plan.postgresData(), template)
}

func exists(path string) (bool, error) {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// makePostgresFolder makes it new. Files in it without data are from an attempt that was interrupted.
func (s *Stack) makePostgresFolder() error {
	if err := os.RemoveAll(s.plan.postgresFolder()); err != nil {
		return err
	}
	if err := os.MkdirAll(s.plan.postgresFolder(), 0o700); err != nil {
		return err
	}
	return s.ownedByPostgres(s.plan.postgresFolder())
}

// makeCluster makes an empty database cluster, whole or not at all.
func (s *Stack) makeCluster(ctx context.Context) error {
	if err := s.makePostgresFolder(); err != nil {
		return err
	}
	secret, partial := filepath.Join(s.plan.postgresFolder(), "password"), s.plan.postgresData()+".new"
	if err := os.WriteFile(secret, []byte(s.plan.passwords.of(Postgres, administrator)+"\n"), 0o600); err != nil {
		return err
	}
	if err := s.ownedByPostgres(secret); err != nil {
		return err
	}
	_, err := s.asPostgres(ctx, nil, filepath.Join(s.plan.postgresPrograms, "initdb"), "-D", partial, "-U", administrator, "--pwfile", secret,
		"-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync")
	if err != nil {
		return err
	}
	return errors.Join(os.Remove(secret), os.Rename(partial, s.plan.postgresData()))
}

// copyCluster copies a cluster whose server does not run, whole or not at all.
func (s *Stack) copyCluster(ctx context.Context, from, to string) error {
	if _, err := s.asPostgres(ctx, nil, "cp", "-R", from, to+".new"); err != nil {
		return err
	}
	return os.Rename(to+".new", to)
}

const postgresAccess = "# Written at each start. Only over TLS, only with a password.\nhostssl all all 127.0.0.1/32 scram-sha-256\n"

// makeDatabases gives every app a role and a database of its own, which no other role may enter. It uses single-user mode,
// without the server, so that no driver is needed.
func (s *Stack) makeDatabases(ctx context.Context) error {
	if err := s.writeForPostgres("pg_hba.conf", []byte(postgresAccess)); err != nil {
		return err
	}
	var sql strings.Builder
	fmt.Fprintf(&sql, "ALTER ROLE %s PASSWORD '%s'\n", administrator, s.plan.passwords.of(Postgres, administrator))
	for _, id := range s.plan.appIDs() {
		name := `"` + databaseOf(id) + `"`
		// One statement a line. The error that something exists already does not matter, and does not stop the rest.
		fmt.Fprintf(&sql, "CREATE ROLE %s LOGIN\n", name)
		fmt.Fprintf(&sql, "ALTER ROLE %s PASSWORD '%s'\n", name, s.plan.passwords.of(Postgres, id))
		fmt.Fprintf(&sql, "CREATE DATABASE %s OWNER %[1]s\n", name)
		fmt.Fprintf(&sql, "REVOKE ALL ON DATABASE %s FROM PUBLIC\n", name)
	}
	done := filepath.Join(s.plan.postgresFolder(), "databases.sql")
	if before, err := os.ReadFile(done); err == nil && string(before) == sql.String() {
		return nil
	}
	output, err := s.asPostgres(ctx, strings.NewReader(sql.String()), filepath.Join(s.plan.postgresPrograms, "postgres"), "--single", "-D", s.plan.postgresData(), "-c", "log_checkpoints=off", "postgres")
	if err != nil {
		return err
	}
	for line := range strings.Lines(output) {
		if strings.Contains(line, "ERROR:") && !strings.Contains(line, "already exists") {
			return fmt.Errorf("make the databases: %s", strings.TrimSpace(line))
		}
	}
	return os.WriteFile(done, []byte(sql.String()), 0o600)
}

func (s *Stack) writeForPostgres(name string, text []byte) error {
	path := filepath.Join(s.plan.postgresData(), name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return err
	}
	return s.ownedByPostgres(path)
}

// ownedByPostgres gives a file to the account that PostgreSQL runs under.
func (s *Stack) ownedByPostgres(path string) error {
	account, err := postgresAccount()
	if err != nil || account == nil {
		return err
	}
	return os.Chown(path, int(account.Uid), int(account.Gid))
}

// asPostgres runs a program to its end, under the account that PostgreSQL runs under.
func (s *Stack) asPostgres(ctx context.Context, input *strings.Reader, program string, args ...string) (string, error) {
	account, err := postgresAccount()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = "/"                              // its account may have no right to enter the stack's folder; see runAs
	cmd.Env = append(os.Environ(), "LC_ALL=C") // its messages are compared
	cmd.SysProcAttr = childAttributes()
	runAs(cmd.SysProcAttr, account)
	if input != nil {
		cmd.Stdin = input
	}
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := s.spawner.run(cmd); err != nil {
		lines := strings.Split(strings.TrimSpace(output.String()), "\n")
		return "", fmt.Errorf("%s: %w%s", filepath.Base(program), err, quote(lines[max(0, len(lines)-tailShown):]))
	}
	return output.String(), nil
}

func (p *plan) postgresArgs() []string {
	args := []string{filepath.Join(p.postgresPrograms, "postgres"), "-D", p.postgresData(), "-p", strconv.Itoa(p.ports.Postgres)}
	for _, setting := range []string{
		"listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=300", "log_checkpoints=off",
		"ssl=on", "ssl_cert_file=server.pem", "ssl_key_file=server-key.pem", "password_encryption=scram-sha-256",
	} {
		args = append(args, "-c", setting)
	}
	return args
}

var errStarting = errors.New("it is starting")

// postgresReady reads the status in the lock file, as pg_ctl does. The server accepts connections before it is ready.
func (s *Stack) postgresReady(context.Context) error {
	text, err := os.ReadFile(filepath.Join(s.plan.postgresData(), "postmaster.pid"))
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if strconv.Itoa(s.processes[Postgres].PID()) != strings.TrimSpace(lines[0]) || strings.TrimSpace(lines[len(lines)-1]) != "ready" {
		return errStarting
	}
	return nil
}
