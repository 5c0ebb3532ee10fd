// Command dead-letters keeps dead letters: the events that services could not handle, which they or their sidecars publish on the
// topics dead.SERVICE. It counts those that wait. As a command line tool (`dead-letters list` and so on) it lists them, shows them,
// and sends them again, through the sidecar of the service's process.
//
// Read dead_letter.go for the rules, store.go for the documents, subscriptions.go for the messages that it handles, command.go and
// printer.go for the command line tool, gauge.go for the metric.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/service"
)

// name is the app id.
const name = "dead-letters"

type config struct{ service.Config }

func main() {
	if service.IsCommand(os.Args) {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		status := runCommand(ctx, os.Args[1:], os.Stdout, os.Stderr)
		stop()
		os.Exit(status)
	}
	var cfg config
	service.Main(name, &cfg, func(ctx context.Context, s *service.Service) error {
		documents, err := s.OpenStore(ctx)
		if err != nil {
			return err
		}
		store := newStore(documents, clock.System)
		waiting := newGauge(store, s.Metrics, s.Log)
		(&subscriptions{store, waiting, s.Log}).register(s.Callback)
		s.Go("count the dead letters", waiting.Run)
		return nil
	})
}
