package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/dapr/go-sdk/client"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/service"
	"boxoffice/services/internal/state"
)

const usage = `usage: tickets republish [-rate 2000]

Publishes the last event of every ticket again. Services that have it ignore it; those that have missed it apply it. It is needed after
"catalogue rebuild", and when a further service begins to subscribe to tickets.

  -rate N   publish at most N events a second; 0 is no limit

It needs the sidecar of tickets. DAPR_GRPC_PORT is its gRPC port, DAPR_API_TOKEN its token. To run it:
  make republish-tickets
  kubectl exec deploy/tickets -c tickets -- /service republish

Exit status: 0 done, 1 failed (run it again), 2 wrong command line.
`

// runCommand runs the command line tool and returns its exit status.
func runCommand(ctx context.Context, args []string, out, problems io.Writer) int {
	if service.WantsHelp(args) {
		fmt.Fprint(out, usage)
		return 0
	}
	flags := flag.NewFlagSet("republish", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	rate := flags.Int("rate", 2000, "")
	err := fmt.Errorf("there is no command %q", args[0])
	if args[0] == "republish" {
		err = flags.Parse(args[1:])
		if err == nil && (flags.NArg() > 0 || *rate < 0) {
			err = errors.New("republish takes only -rate, which is not negative")
		}
	}
	if err != nil {
		fmt.Fprintf(problems, "tickets: %v\n\n%s", err, usage)
		return 2
	}
	began := time.Now()
	published := 0
	err = service.WithStore(ctx, "tickets", func(ctx context.Context, _ client.Client, documents *state.Store) error {
		published, err = republish(ctx, documents, *rate)
		return err
	})
	fmt.Fprintf(out, "published the last events of %d tickets again in %s\n", published, time.Since(began).Round(time.Millisecond))
	if err != nil {
		fmt.Fprintf(problems, "tickets: %v\n", err)
		return 1
	}
	return 0
}

// republishAtOnce bounds the events of one publication.
const republishAtOnce = 128

// republish publishes the last event of every ticket in the index again, at most rate a second, and returns how many.
func republish(ctx context.Context, documents *state.Store, rate int) (published int, err error) {
	name := "all-" + id.New[string]()
	began := time.Now()
	err = state.Each(ctx, documents, allTickets, keyOfIndexed, func(docs []state.Doc[Ticket]) error {
		for some := range slices.Chunk(docs, republishAtOnce) {
			again := make([]events.Event, len(some))
			for i, doc := range some {
				event, err := events.New(ctx, doc.Value.ListingEvent())
				if err != nil {
					return err
				}
				again[i] = event.Again(name)
			}
			if err := documents.PublishAgain(ctx, again); err != nil {
				return err
			}
			published += len(again)
			if rate > 0 {
				select {
				case <-time.After(time.Until(began.Add(time.Duration(published) * time.Second / time.Duration(rate)))):
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
		return nil
	})
	return published, err
}
