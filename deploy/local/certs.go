package main

import (
	"flag"
	"fmt"
	"path/filepath"

	"boxoffice/deploy/local/stack"
)

const aboutCerts = `Makes a certificate for PostgreSQL, NATS and Redis servers that you run yourself, and the authority that signed
it. It is for tests: it is valid for a year, for localhost and the hosts that you name. A call in the last thirty
days, or with other hosts, makes a new one. (local run makes what it needs by itself.)

  local certs -folder certs db.example.com 10.0.0.7`

// certs makes certificates for servers that the launcher does not start.
func certs(args []string) error {
	flags := flag.NewFlagSet("local certs", flag.ContinueOnError)
	folder := flags.String("folder", "certs", "`folder` for the files")
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "usage: local certs [flags] [host...]\n\n%s\n\n", aboutCerts)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	absolute, err := filepath.Abs(*folder)
	if err != nil {
		return err
	}
	files, err := stack.MakeCertificates(absolute, flags.Args()...)
	if err != nil {
		return err
	}
	fmt.Printf(`For the servers:   %s
                   %s
For the sidecars:  export SSL_CERT_DIR=%s
`, files.Server, files.ServerKey, files.Trusted)
	return nil
}
