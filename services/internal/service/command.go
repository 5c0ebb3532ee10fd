package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dapr/go-sdk/client"

	"boxoffice/services/internal/state"
)

// A service's program is also a command line tool, for example `dead-letters list`. Commands use the sidecar of the service's process, so
// the service must run on the same machine, or in the same pod.

// sidecarTime limits the wait of a command for the sidecar. If nothing listens on its port, the command fails at once.
const sidecarTime = 5 * time.Second

// IsCommand reports whether a program's arguments are for its command line tool, and not for the service or its health probes.
func IsCommand(args []string) bool {
	return len(args) > 1 && !isProbe(args) && strings.TrimSpace(args[1]) != ""
}

// WantsHelp reports whether a command's arguments ask for its usage.
func WantsHelp(args []string) bool {
	return slices.ContainsFunc(args, func(arg string) bool { return arg == "-h" || arg == "-help" || arg == "--help" })
}

// WithStore runs a command of a service with the service's sidecar and state store.
func WithStore(ctx context.Context, name string, do func(ctx context.Context, dapr client.Client, documents *state.Store) error) (err error) {
	dapr, err := connectCommand(ctx, name)
	if err != nil {
		return err
	}
	defer dapr.Close()
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	documents, err := state.Open(ctx, dapr, state.Options{
		Service:   name,
		PublicURL: os.Getenv("PUBLIC_URL"),
		// Unique to this process: it must not take the journal of another command that still runs.
		Instance: fmt.Sprintf("command@%s:%d", host, os.Getpid()),
		Log:      slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return fmt.Errorf("open the state store of %s: %w", name, err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), sidecarTime)
		defer cancel()
		err = errors.Join(err, documents.Close(closing))
	}()
	return do(ctx, dapr, documents)
}

func connectCommand(ctx context.Context, name string) (client.Client, error) {
	hint := fmt.Sprintf("is the box office running (`make run`)? In Kubernetes run this in the container %s", name)
	given := os.Getenv("DAPR_GRPC_PORT")
	if given == "" {
		return nil, fmt.Errorf("DAPR_GRPC_PORT, the gRPC port of the sidecar of %s, is not set: use make (services/%s/README.md), or run this in the container %s", name, name, name)
	}
	port, err := strconv.Atoi(given)
	if err != nil || port < 1 || port > 65535 {
		return nil, fmt.Errorf("DAPR_GRPC_PORT=%q is not a port", given)
	}
	ctx, cancel := context.WithTimeout(ctx, sidecarTime)
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
