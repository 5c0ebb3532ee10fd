package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/dapr/go-sdk/client"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/service"
	"boxoffice/services/internal/state"
)

const usage = `usage: dead-letters [-json] list|show ID|send ID|send-all

  list       say which events could not be handled: where, when, how often it was tried, and why
  show ID    all that is known of one, and the event itself
  send ID    send it again, to the service that could not handle it; also one that was sent before
  send-all   send again all that wait

  -json      answer in JSON, for programs

It works through the sidecar of dead-letters, whose gRPC port is in DAPR_GRPC_PORT, with DAPR_API_TOKEN if that asks for one:
  make dead-letters ARGS='show ID'
  kubectl exec deploy/dead-letters -c dead-letters -- /service show ID

Exit status: 0 done, 1 not done (the text says why), 2 a wrong command line.
`

// commandTime bounds a command, however many letters there are.
const commandTime = time.Minute

// Command runs `dead-letters` with args and returns the exit status.
func Command(ctx context.Context, args []string, out, problems io.Writer) int {
	flags := flag.NewFlagSet("dead-letters", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	asJSON := flags.Bool("json", false, "")
	wrong := func(format string, args ...any) int {
		fmt.Fprintf(problems, "dead-letters: "+format+"\n\n%s", append(args, usage)...)
		return 2
	}
	var words []string
	for rest := args; ; { // flags may stand anywhere
		if err := flags.Parse(rest); errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(out, usage)
			return 0
		} else if err != nil {
			return wrong("%v", err)
		}
		if flags.NArg() == 0 {
			break
		}
		words, rest = append(words, flags.Arg(0)), flags.Args()[1:]
	}
	if len(words) == 0 {
		words = []string{"list"} // only flags were given
	}
	verb, words := words[0], words[1:]
	run, known := verbs[verb]
	switch {
	case !known:
		return wrong("there is no %q", verb)
	case run.takesID && len(words) != 1:
		return wrong("%s takes the ID of one letter; list shows them", verb)
	case !run.takesID && len(words) != 0:
		return wrong("%s takes nothing more, but got %q", verb, words)
	}

	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	err := withBox(ctx, func(ctx context.Context, b *box) error {
		return run.do(ctx, b, words, printer{out, *asJSON})
	})
	if err != nil {
		fmt.Fprintf(problems, "dead-letters: %v\n", err)
		return 1
	}
	return 0
}

var verbs = map[string]struct {
	takesID bool
	do      func(ctx context.Context, b *box, words []string, p printer) error
}{
	"list":     {false, list},
	"show":     {true, show},
	"send":     {true, send},
	"send-all": {false, sendAll},
}

func list(ctx context.Context, b *box, _ []string, p printer) error {
	letters, err := b.all(ctx)
	if err != nil {
		return err
	}
	return p.list(letters)
}

func show(ctx context.Context, b *box, words []string, p printer) error {
	letter, err := b.get(ctx, words[0])
	if err != nil {
		return named(words[0], err)
	}
	return p.letter(letter)
}

func send(ctx context.Context, b *box, words []string, p printer) error {
	letter, err := b.send(ctx, words[0])
	if err != nil {
		return named(words[0], err)
	}
	return p.sent([]Letter{letter})
}

// sendAll sends what waits. One that cannot be sent holds up no other.
func sendAll(ctx context.Context, b *box, _ []string, p printer) error {
	letters, err := b.all(ctx)
	if err != nil {
		return err
	}
	var done []Letter
	var failed []error
	for _, l := range letters {
		if l.status() == sent {
			continue
		}
		if l, err = b.send(ctx, l.ID); err != nil {
			failed = append(failed, named(l.ID, err))
			continue
		}
		done = append(done, l)
	}
	return errors.Join(append([]error{p.sent(done)}, failed...)...)
}

func named(id string, err error) error {
	if errors.Is(err, errNotFound) {
		return fmt.Errorf("%w as %q; list shows them", err, id)
	}
	return fmt.Errorf("letter %s: %w", id, err)
}

// withBox opens the box, finishes what a command before has begun, and lets do work with it.
func withBox(ctx context.Context, do func(context.Context, *box) error) (err error) {
	dapr, err := connect(ctx)
	if err != nil {
		return err
	}
	defer dapr.Close()
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	store, err := state.Open(ctx, dapr, state.Options{
		Service: name,
		// Of this process alone: it must not take the place of another command that is still at work.
		Instance: fmt.Sprintf("command@%s:%d", host, os.Getpid()),
		Log:      slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return fmt.Errorf("open the letters' store: %w", err)
	}
	defer func() { err = errors.Join(err, store.Close(ctx)) }()
	b := &box{store: store, publish: func(ctx context.Context, topic string, event []byte) error {
		ctx, cancel := context.WithTimeout(ctx, publishTime)
		defer cancel()
		err := dapr.PublishEvent(ctx, events.PubSub, topic, event, client.PublishEventWithContentType(events.ContentType))
		if err != nil {
			return fmt.Errorf("the broker did not take the event; the next command tries again: %w", err)
		}
		return nil
	}}
	if err := b.finishAll(ctx); err != nil {
		return err
	}
	return do(ctx, b)
}

const (
	// connectTime bounds the wait for a sidecar that is there; one that is not is noticed at once.
	connectTime = 5 * time.Second
	publishTime = 5 * time.Second
)

func connect(ctx context.Context) (client.Client, error) {
	const hint = "is the box office running (`make run`)? In Kubernetes run this in the container dead-letters"
	given := os.Getenv("DAPR_GRPC_PORT")
	if given == "" {
		return nil, errors.New("DAPR_GRPC_PORT, the gRPC port of the sidecar of dead-letters, is not set: use `make dead-letters`, or run this in the container dead-letters")
	}
	port, err := strconv.Atoi(given)
	if err != nil || port < 1 || port > 65535 {
		return nil, fmt.Errorf("DAPR_GRPC_PORT=%q is not a port", given)
	}
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", given))
	if err != nil {
		return nil, fmt.Errorf("no sidecar answers on port %d: %s: %w", port, hint, err)
	}
	_ = conn.Close()
	dapr, err := service.Connect(ctx, port)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, hint)
	}
	return dapr, nil
}
