package main

import (
	"embed"
	"io/fs"
)

//go:embed migrations
var files embed.FS

// services are the app ids that keep documents. Each has a database and a role that owns it, both called boxoffice_{app id}.
var services = []string{"auth", "catalogue", "dead-letters", "expiration", "orders", "payments", "tickets", "webhooks"}

const (
	// reporting may read the views, in all databases, and nothing else.
	reporting = "boxoffice_reporting"
	// ledger is the database that keeps the record of what was done to the whole server.
	ledger = "boxoffice"
)

func databaseOf(service string) string { return "boxoffice_" + service }
func roleOf(service string) string     { return "boxoffice_" + service }

// step is a folder of migrations and where it is applied.
type step struct {
	folder   string // under migrations/
	service  string // "" for the whole server
	database string
	role     string // who does it, and owns what is made; "" is the administrator
	record   string // the table of what has been applied
}

// serverStep comes before all others.
func serverStep() step {
	return step{folder: "cluster", database: ledger, record: "migrations_cluster"}
}

// steps are what is applied to a service's database: what every service has, then what is its own.
func steps(service string) []step {
	all := []step{{folder: "every", service: service, database: databaseOf(service), role: roleOf(service), record: "migrations_every"}}
	if _, err := fs.Stat(files, "migrations/"+service); err == nil {
		all = append(all, step{folder: service, service: service, database: databaseOf(service), role: roleOf(service), record: "migrations_service"})
	}
	return all
}
