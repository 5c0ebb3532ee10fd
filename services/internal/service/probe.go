package service

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// probeTime bounds one look at this machine's own process.
const probeTime = 3 * time.Second

// probe is the health check of an image that has no shell and no curl: `tickets healthz` asks the process on PORT of
// this machine whether it lives, `tickets readyz` whether it is ready. The error says what it answered.
func probe(ctx context.Context, path, port string) error {
	if port == "" {
		return fmt.Errorf("PORT is not set, so there is nobody to ask for %s", path)
	}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	scheme := "http"
	if os.Getenv("TLS_CERT_FILE") != "" {
		scheme = "https"
	}
	address := scheme + "://" + net.JoinHostPort("127.0.0.1", port) + "/" + path
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return fmt.Errorf("PORT=%q: %w", port, err)
	}
	// The certificate is for the name that others call this process by.
	itself := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	response, err := itself.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10))
		return fmt.Errorf("%s answers %s: %s", address, response.Status, said)
	}
	return nil
}

// isProbe is whether the process was called to ask another one for its health.
func isProbe(args []string) bool {
	return len(args) == 2 && (args[1] == "healthz" || args[1] == "readyz")
}

// probeOnce ends the process: with status 0 if all is well, with 1 and a message otherwise.
func probeOnce(name, path string) {
	if err := probe(context.Background(), path, os.Getenv("PORT")); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
	os.Exit(0)
}
