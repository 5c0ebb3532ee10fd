// Migrate prepares a PostgreSQL server for the box office: a role and a database a service, and reporting views
// over the documents in them. What is done is in migrations/, in order; this program applies it once, and again
// only what is new.
//
//	migrate up       apply what has not been applied
//	migrate status   print what has been applied, and when
//
// See README.md beside it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/jackc/pgx/v5"
)

const usage = `Usage: migrate [-keep-passwords] up | status

  up       apply what has not been applied yet
  status   print what has been applied, and when

Environment:
  DATABASE_URL                  the server, and an administrator there who may create roles and databases:
                                postgres://admin@db.example.com:5432/postgres?sslmode=verify-full
                                (the password in it, or in PGPASSWORD, or in a file that PGPASSFILE names)
  POSTGRES_PASSWORD_AUTH        for "up": the passwords that the roles are to have
  POSTGRES_PASSWORD_TICKETS …   (also _ORDERS, _PAYMENTS, _EXPIRATION, _DEAD_LETTERS, _WEBHOOKS, _CATALOGUE,
                                _REPORTING)

Flags:
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "migrate:", err)
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("migrate", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
	}
	keep := flags.Bool("keep-passwords", false, "do not change the roles' passwords")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 || flags.Arg(0) != "up" && flags.Arg(0) != "status" {
		flags.Usage()
		return errors.New("a command is missing: up or status")
	}
	address := os.Getenv("DATABASE_URL")
	if address == "" {
		return errors.New("DATABASE_URL is not set: it names the server and an administrator there, as in postgres://admin@localhost:5432/postgres")
	}
	config, err := pgx.ParseConfig(address)
	if err != nil {
		return fmt.Errorf("DATABASE_URL cannot be read: %w", err)
	}

	var passwords map[string]string
	if flags.Arg(0) == "up" && !*keep {
		if passwords, err = passwordsFrom(os.LookupEnv); err != nil {
			return err
		}
	}
	s, err := open(ctx, config, os.Stdout)
	if err != nil {
		return err
	}
	defer s.close()
	if flags.Arg(0) == "status" {
		return s.status(ctx)
	}
	return s.up(ctx, passwords)
}
