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

	"boxoffice/deploy/local/broker"
	"boxoffice/deploy/local/stack"
)

// eventFlow looks at how far the events of a stack have come: those that a journal still holds, those that the
// broker still holds for a service, and those that went astray.
type eventFlow struct {
	stack  *stack.Stack
	broker broker.Broker
}

func watchEvents(s *stack.Stack) (*eventFlow, error) {
	b, err := broker.Open(s.Broker())
	return &eventFlow{s, b}, err
}

func (f *eventFlow) close() { f.broker.Close() }

// settled waits until every event has been handled by every service that hears it, and those that were caused
// by that as well.
func (f *eventFlow) settled(ctx context.Context) error {
	quiet, quietSince := false, ""
	for {
		waiting, last, err := f.waiting(ctx)
		if err != nil {
			return err
		}
		if waiting == 0 && quiet && last == quietSince {
			return nil
		}
		quiet, quietSince = waiting == 0, last // look once more: a handler's events are in its journal before it is done
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%d events are not handled yet: %w", waiting, ctx.Err())
		}
	}
}

// waiting is how many events are on their way, counted once for each service that is to hear them, and the place of
// the newest one.
func (f *eventFlow) waiting(ctx context.Context) (waiting int, last string, err error) {
	state, err := f.broker.State(ctx)
	if err != nil {
		return 0, "", fmt.Errorf("look at the broker: %w", err)
	}
	waiting = int(state.Waiting)
	for _, app := range writing {
		told, err := f.meters(ctx, app, "boxoffice_journal_backlog_events")
		if err != nil {
			return 0, "", err
		}
		waiting += int(told[0])
	}
	return waiting, state.Last, nil
}

// astray is how many events went to the dead letters.
func (f *eventFlow) astray(ctx context.Context) (uint64, error) {
	state, err := f.broker.State(ctx)
	return state.Dead, err
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
