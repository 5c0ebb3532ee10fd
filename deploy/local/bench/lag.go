package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"boxoffice/deploy/local/stack"
)

// eventFlow looks at how far the events of a stack have come: those that a journal still holds, those that the
// broker still holds for a service, and those that went astray.
type eventFlow struct {
	stack *stack.Stack
	conn  *nats.Conn
	js    jetstream.JetStream
}

func watchEvents(s *stack.Stack) (*eventFlow, error) {
	conn, err := nats.Connect(s.NATSURL())
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(conn)
	return &eventFlow{s, conn, js}, err
}

func (f *eventFlow) close() { f.conn.Close() }

// last is the number of the newest event.
func (f *eventFlow) last(ctx context.Context) (uint64, error) {
	stream, err := f.js.Stream(ctx, "events")
	if err != nil {
		return 0, err
	}
	return stream.CachedInfo().State.LastSeq, nil
}

// settled waits until every event has been handled by every service that hears it, and those that were caused
// by that as well.
func (f *eventFlow) settled(ctx context.Context) error {
	var quietSince uint64
	for {
		last, err := f.last(ctx)
		if err != nil {
			return err
		}
		waiting, err := f.waiting(ctx)
		if err != nil {
			return err
		}
		if waiting == 0 && last == quietSince {
			return nil
		}
		quietSince = 0
		if waiting == 0 {
			quietSince = last // look once more: a handler's events are in its journal before it is done
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%d events are not handled yet: %w", waiting, ctx.Err())
		}
	}
}

// waiting is how many events are on their way, counted once for each service that is to hear them.
func (f *eventFlow) waiting(ctx context.Context) (int, error) {
	stream, err := f.js.Stream(ctx, "events")
	if err != nil {
		return 0, err
	}
	waiting := 0
	consumers := stream.ListConsumers(ctx)
	for consumer := range consumers.Info() {
		waiting += int(consumer.NumPending) + consumer.NumAckPending
	}
	if err := consumers.Err(); err != nil {
		return 0, fmt.Errorf("look at the consumers: %w", err)
	}
	for _, app := range writing {
		told, err := f.meters(ctx, app, "boxoffice_journal_backlog_events")
		if err != nil {
			return 0, err
		}
		waiting += int(told[0])
	}
	return waiting, nil
}

// astray is how many events went to the dead letters.
func (f *eventFlow) astray(ctx context.Context) (uint64, error) {
	stream, err := f.js.Stream(ctx, "events-dead")
	if err != nil {
		return 0, err
	}
	return stream.CachedInfo().State.Msgs, nil
}

// writing are the services with a journal that the workloads fill.
var writing = []string{"tickets", "orders", "payments"}

// commits are the transactions of each of those so far, and the changes in them.
type commits map[string]struct{ changes, transactions float64 }

func (f *eventFlow) commits(ctx context.Context) (commits, error) {
	all := commits{}
	for _, app := range writing {
		told, err := f.meters(ctx, app, "boxoffice_commit_changes_sum", "boxoffice_commit_changes_count")
		if err != nil {
			return nil, err
		}
		all[app] = struct{ changes, transactions float64 }{told[0], told[1]}
	}
	return all, nil
}

// since says how many changes shared a transaction, by service.
func (c commits) since(before commits) string {
	var parts []string
	for _, app := range writing {
		changes, transactions := c[app].changes-before[app].changes, c[app].transactions-before[app].transactions
		if transactions > 0 {
			parts = append(parts, fmt.Sprintf("%s %.1f", app, changes/transactions))
		}
	}
	return strings.Join(parts, ", ")
}

// meters reads figures from a service's page of metrics.
func (f *eventFlow) meters(ctx context.Context, app string, names ...string) ([]float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, f.stack.URL(app)+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	values, found := make([]float64, len(names)), 0
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if i := slices.Index(names, name); i >= 0 {
			if values[i], err = strconv.ParseFloat(value, 64); err != nil {
				return nil, err
			}
			found++
		}
	}
	if found < len(names) {
		return nil, errors.Join(fmt.Errorf("%s does not tell all of %s", app, strings.Join(names, ", ")), lines.Err())
	}
	return values, nil
}
