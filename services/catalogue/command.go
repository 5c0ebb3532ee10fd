package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/dapr/go-sdk/client"

	"boxoffice/services/catalogue/feed"
	"boxoffice/services/catalogue/index"
	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/service"
	"boxoffice/services/internal/state"
)

const usage = `usage: catalogue rebuild

Builds what clients search from nothing. Every replica drops what it has, and gets the shows again from their documents. Listings come
again with "tickets republish", which has to follow. Until then pages have fewer listings than there are.

It needs the sidecar of catalogue. DAPR_GRPC_PORT is its gRPC port, DAPR_API_TOKEN its token. To run both commands:
  make rebuild-catalogue
  kubectl exec deploy/catalogue -c catalogue -- /service rebuild
  kubectl exec deploy/tickets -c tickets -- /service republish

Exit status: 0 done, 1 failed (run it again), 2 wrong command line.
`

// nextCommand is printed after a rebuild, when no show has listings.
const nextCommand = `Listings are missing until "tickets republish" has ended. Run it now, unless "make rebuild-catalogue" does:
  make republish-tickets
  docker compose exec tickets /service republish
  kubectl exec deploy/tickets -c tickets -- /service republish
`

// runCommand runs the command line tool and returns its exit status.
func runCommand(ctx context.Context, args []string, out, problems io.Writer) int {
	if service.WantsHelp(args) {
		fmt.Fprint(out, usage)
		return 0
	}
	if len(args) != 1 || args[0] != "rebuild" {
		fmt.Fprintf(problems, "catalogue: there is no command %q\n\n%s", args, usage)
		return 2
	}
	began := time.Now()
	err := service.WithStore(ctx, "catalogue", func(ctx context.Context, _ client.Client, documents *state.Store) error {
		appended, err := rebuild(ctx, documents, slog.New(slog.NewTextHandler(problems, &slog.HandlerOptions{Level: slog.LevelWarn})))
		if err == nil {
			fmt.Fprintf(out, "rebuilt in %s with %d changes of shows and recent reservations\n%s", time.Since(began).Round(time.Millisecond), appended, nextCommand)
		}
		return err
	})
	if err != nil {
		fmt.Fprintf(problems, "catalogue: %v\n", err)
		return 1
	}
	return 0
}

// rebuild begins the change feed anew with all shows, and returns how many changes it has appended.
func rebuild(ctx context.Context, documents *state.Store, log *slog.Logger) (appended int, err error) {
	return feed.Rebuild(ctx, documents, log, func(add func([]index.Change) error) error {
		return newStore(documents, clock.System).EachShow(ctx, func(shows []Show) error {
			changes := make([]index.Change, len(shows))
			for i := range shows {
				changes[i] = index.Change{Show: showChange(shows[i].public())}
			}
			return add(changes)
		})
	})
}
