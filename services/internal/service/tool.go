package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/dapr/go-sdk/client"

	"boxoffice/services/internal/state"
)

const (
	// toolConnectTime limits a tool's wait for the sidecar. If nothing listens on its port, the tool fails at once.
	toolConnectTime = 5 * time.Second
	// toolCloseTime limits its wait for the broker at its end.
	toolCloseTime = 10 * time.Second
)

// WithStore opens the store of a service for a command line tool, which runs beside the service's process and uses its sidecar, calls do, and
// closes the store. DAPR_GRPC_PORT is the sidecar's port. target is the target of the Makefile that runs the tool; errors
// name it.
func WithStore(ctx context.Context, service, target string, do func(ctx context.Context, dapr client.Client, documents *state.Store) error) (err error) {
	dapr, err := connectTool(ctx, service, target)
	if err != nil {
		return err
	}
	defer dapr.Close()
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	documents, err := state.Open(ctx, dapr, state.Options{
		Service:   service,
		PublicURL: os.Getenv("PUBLIC_URL"),
		// Unique to this process: it must not take the journal of another process that still runs.
		Instance: fmt.Sprintf("command@%s:%d", host, os.Getpid()),
		Log:      slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return fmt.Errorf("open the store of %s: %w", service, err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), toolCloseTime)
		defer cancel()
		err = errors.Join(err, documents.Close(ctx))
	}()
	return do(ctx, dapr, documents)
}

func connectTool(ctx context.Context, service, target string) (client.Client, error) {
	hint := "is the box office running (`make run`)? In Kubernetes run this in the container " + service
	given := os.Getenv("DAPR_GRPC_PORT")
	if given == "" {
		return nil, fmt.Errorf("DAPR_GRPC_PORT, the gRPC port of the sidecar of %s, is not set: use `make %s`, or run this in the container %s", service, target, service)
	}
	port, err := strconv.Atoi(given)
	if err != nil || port < 1 || port > 65535 {
		return nil, fmt.Errorf("DAPR_GRPC_PORT=%q is not a port", given)
	}
	ctx, cancel := context.WithTimeout(ctx, toolConnectTime)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", given))
	if err != nil {
		return nil, fmt.Errorf("no sidecar listens on port %d: %s: %w", port, hint, err)
	}
	_ = conn.Close()
	dapr, err := Connect(ctx, port)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, hint)
	}
	return dapr, nil
}
