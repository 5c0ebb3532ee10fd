package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/dapr/go-sdk/client"
	"github.com/urfave/cli/v3"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/service"
	"boxoffice/services/internal/state"
)

const usage = `usage: dead-letters [-json] list | show ID | send ID | send-all

  list       list the events that could not be handled: where, when, how many attempts, and why
  show ID    show one of them, with the whole event
  send ID    send it again to the service that could not handle it; also one that was sent before
  send-all   send all that were not sent yet

  -json      print JSON

It needs the sidecar of dead-letters. DAPR_GRPC_PORT is its gRPC port, DAPR_API_TOKEN its token. To run it:
  make dead-letters ARGS='show ID'
  kubectl exec deploy/dead-letters -c dead-letters -- /service show ID

Exit status: 0 done, 1 failed (the error explains why), 2 wrong command line.
`

const (
	// commandTime limits a command, however many dead letters there are.
	commandTime = time.Minute
	publishTime = 5 * time.Second
)

// usageError is a wrong command line.
type usageError struct{ error }

// runCommand runs the command line tool and returns its exit status.
func runCommand(ctx context.Context, args []string, out, problems io.Writer) int {
	if service.WantsHelp(args) {
		fmt.Fprint(out, usage) // the library takes an ID before -h for a topic of its help
		return 0
	}
	err := newCommand(out).Run(ctx, append([]string{name}, args...))
	if wrong, ok := errors.AsType[usageError](err); ok {
		fmt.Fprintf(problems, "dead-letters: %v\n\n%s", wrong, usage)
		return 2
	}
	if err != nil {
		fmt.Fprintf(problems, "dead-letters: %v\n", err)
		return 1
	}
	return 0
}

func newCommand(out io.Writer) *cli.Command {
	asJSON := false
	wrongUsage := func(_ context.Context, _ *cli.Command, err error, _ bool) error { return usageError{err} }
	// command makes a command with an ID as its argument, or with none.
	command := func(verb string, takesID bool, run func(ctx context.Context, s *sender, id string, p printer) error) *cli.Command {
		return &cli.Command{
			Name: verb, HideHelpCommand: true, CustomHelpTemplate: usage, OnUsageError: wrongUsage,
			Action: func(ctx context.Context, c *cli.Command) error {
				switch arguments := c.Args(); {
				case takesID && arguments.Len() != 1:
					return usageError{fmt.Errorf("%s takes the ID of one dead letter; list shows them", verb)}
				case !takesID && arguments.Len() != 0:
					return usageError{fmt.Errorf("%s takes no arguments, but got %q", verb, arguments.Slice())}
				}
				return withSender(ctx, func(ctx context.Context, s *sender) error {
					return run(ctx, s, c.Args().First(), printer{out, asJSON})
				})
			},
		}
	}
	listCommand := command("list", false, runList)
	return &cli.Command{
		Name: name, Writer: out, HideVersion: true, HideHelpCommand: true,
		CustomRootCommandHelpTemplate: usage, OnUsageError: wrongUsage,
		Flags:    []cli.Flag{&cli.BoolFlag{Name: "json", Destination: &asJSON}},
		Commands: []*cli.Command{listCommand, command("show", true, runShow), command("send", true, runSend), command("send-all", false, runSendAll)},
		Action: func(ctx context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return usageError{fmt.Errorf("there is no command %q", c.Args().First())}
			}
			return listCommand.Action(ctx, c) // there are only flags
		},
	}
}

func runList(ctx context.Context, s *sender, _ string, p printer) error {
	letters, err := s.store.All(ctx)
	if err != nil {
		return err
	}
	return p.list(letters)
}

func runShow(ctx context.Context, s *sender, id string, p printer) error {
	letter, err := s.store.Get(ctx, id)
	if err != nil {
		return withID(id, err)
	}
	return p.show(letter)
}

func runSend(ctx context.Context, s *sender, id string, p printer) error {
	letter, err := s.Send(ctx, id)
	if err != nil {
		return withID(id, err)
	}
	return p.showSent([]DeadLetter{letter})
}

func runSendAll(ctx context.Context, s *sender, _ string, p printer) error {
	sent, err := s.SendAll(ctx)
	return errors.Join(p.showSent(sent), err)
}

// withSender opens the store, finishes what an earlier command has begun, and runs do.
func withSender(ctx context.Context, do func(context.Context, *sender) error) error {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	return service.WithStore(ctx, name, func(ctx context.Context, dapr client.Client, documents *state.Store) error {
		s := &sender{store: newStore(documents, clock.System), publish: func(ctx context.Context, topic string, event []byte) error {
			ctx, cancel := context.WithTimeout(ctx, publishTime)
			defer cancel()
			err := dapr.PublishEvent(ctx, events.PubSub, topic, event, client.PublishEventWithContentType(events.ContentType))
			if err != nil {
				return fmt.Errorf("publish the event (the next command tries again): %w", err)
			}
			return nil
		}}
		if err := s.FinishAll(ctx); err != nil {
			return err
		}
		return do(ctx, s)
	})
}
