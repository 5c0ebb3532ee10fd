// Command dead-letters keeps the events that could not be handled (dead letters): what services and their sidecars put on the
// topics dead.SERVICE. It counts those that wait for somebody. As `dead-letters list` and so on it lists them, shows
// them, and sends them again, through the sidecar of the process that runs beside it.
//
// Read letter.go for what a letter is and what may be done with it, store.go for its documents, subscriptions.go for how
// letters come in, and command.go for what a person types.
package main

import (
	"context"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"boxoffice/services/internal/service"
)

// name is the app id.
const name = "dead-letters"

type config struct{ service.Config }

func main() {
	if isCommand(os.Args) {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		status := Command(ctx, os.Args[1:], os.Stdout, os.Stderr)
		stop()
		os.Exit(status)
	}
	var cfg config
	service.Main(name, &cfg, func(ctx context.Context, s *service.Service) error {
		store, err := s.OpenStore(ctx)
		if err != nil {
			return err
		}
		b := &box{store: store}
		g := newGauge(s.Metrics)
		subscribe(s, b, g)
		s.Go("count the letters", func(ctx context.Context) error {
			g.keep(ctx, b, s.Log)
			return nil
		})
		return nil
	})
}

// isCommand is whether the process was called by a person, and not to run as the service or to probe one.
func isCommand(args []string) bool {
	return len(args) > 1 && args[1] != "healthz" && args[1] != "readyz" && strings.TrimSpace(args[1]) != ""
}
