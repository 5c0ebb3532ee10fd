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

// probeTime bounds one probe.
const probeTime = 3 * time.Second

// probe is the health check of an image without a shell and curl. `tickets healthz` checks whether the process on PORT of this
// machine runs, and `tickets readyz` whether it is ready. The error has the response.
func probe(ctx context.Context, path, port string) error {
	if port == "" {
		return fmt.Errorf("PORT is not set, so %s cannot be requested", path)
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
	// The certificate is for the name with which others call this process.
	itself := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	response, err := itself.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10))
		return fmt.Errorf("%s responds %s: %s", address, response.Status, body)
	}
	return nil
}

// isProbe reports whether the process was called as a probe.
func isProbe(args []string) bool {
	return len(args) == 2 && (args[1] == "healthz" || args[1] == "readyz")
}

// probeOnce makes a probe and ends the process: with status 0 on success, and otherwise with 1 and a message.
func probeOnce(name, path string) {
	if err := probe(context.Background(), path, os.Getenv("PORT")); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
	os.Exit(0)
}
