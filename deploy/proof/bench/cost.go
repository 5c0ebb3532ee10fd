package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/stripe/sandbox"
)

// cost counts what a stack has done since its start, from the metrics of its processes. The difference of two costs, divided by the
// operations between them, is the cost of an operation.
type cost struct {
	calls        map[string]float64 // of services at their sidecars' API, by app and method ("orders GetState")
	deliveries   float64            // of events to services, including redeliveries; an event for two services is two
	stripeReads  float64
	stripeWrites float64
	commits      map[string]commit
}

// commit counts what a service wrote: transactions, the changes in them, and transactions that were retried because of a conflict.
// retries is -1 if the service does not count them.
type commit struct{ changes, transactions, retries float64 }

const (
	// apiCalls is the sidecar's counter of calls at its gRPC API. Calls of other sidecars and of the scheduler have other
	// methods.
	apiCalls  = "dapr_grpc_io_server_completed_rpcs"
	apiPrefix = "/dapr.proto.runtime.v1.Dapr/"
	// readinessMethod is the only method that no operation causes.
	readinessMethod = "GetMetadata"
)

// costReader reads the metrics of a stack.
type costReader struct {
	stack  *stack.Stack
	events *eventReader
	apps   []string
}

func (r *costReader) read(ctx context.Context) (*cost, error) {
	c := &cost{calls: map[string]float64{}, commits: map[string]commit{}}
	for _, app := range r.apps {
		for _, replica := range r.stack.Replicas(app) {
			if err := scrape(ctx, r.stack.SidecarMetrics(replica), func(s sample) {
				method, ok := strings.CutPrefix(s.label("grpc_server_method"), apiPrefix)
				if s.name == apiCalls && ok && method != readinessMethod {
					c.calls[app+" "+method] += s.value
				}
			}); err != nil {
				return nil, fmt.Errorf("metrics of the sidecar of %s: %w", replica, err)
			}
		}
		committed := commit{retries: -1}
		err := r.events.metrics(ctx, app, func(s sample) {
			switch s.name {
			case "boxoffice_commit_changes_sum":
				committed.changes += s.value
			case "boxoffice_commit_changes_count":
				committed.transactions += s.value
			case "boxoffice_commit_retries_total":
				committed.retries = max(0, committed.retries) + s.value
			}
		})
		if err != nil {
			return nil, err
		}
		c.commits[app] = committed
	}
	state, err := r.events.broker.State(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the broker: %w", err)
	}
	c.deliveries = float64(state.Delivered)
	calls, err := stripeCalls(ctx, r.stack.SandboxURL())
	c.stripeReads, c.stripeWrites = float64(calls.Reads), float64(calls.Writes)
	return c, err
}

func stripeCalls(ctx context.Context, url string) (calls sandbox.Calls, err error) {
	response, err := get(ctx, url+"/sandbox/calls")
	if err != nil {
		return calls, err
	}
	defer func() { _ = response.Body.Close() }()
	return calls, json.NewDecoder(response.Body).Decode(&calls)
}

func (c *cost) since(before *cost) *cost {
	d := &cost{
		calls: map[string]float64{}, commits: map[string]commit{}, deliveries: c.deliveries - before.deliveries,
		stripeReads: c.stripeReads - before.stripeReads, stripeWrites: c.stripeWrites - before.stripeWrites,
	}
	for name, n := range c.calls {
		if n > before.calls[name] {
			d.calls[name] = n - before.calls[name]
		}
	}
	for app, after := range c.commits {
		earlier := before.commits[app]
		difference := commit{after.changes - earlier.changes, after.transactions - earlier.transactions, -1}
		if after.retries >= 0 {
			difference.retries = after.retries - max(0, earlier.retries)
		}
		if difference.transactions > 0 {
			d.commits[app] = difference
		}
	}
	return d
}

// callsOf sums the calls of one method; "" is all methods.
func (c *cost) callsOf(method string) (sum float64) {
	for name, n := range c.calls {
		if _, m, _ := strings.Cut(name, " "); method == "" || m == method {
			sum += n
		}
	}
	return sum
}

const transaction = "ExecuteStateTransaction"

// perOperation describes the cost of an operation in three or four lines.
func (c *cost) perOperation(operations int) string {
	per := func(n float64) float64 { return n / float64(max(1, operations)) }
	text := fmt.Sprintf("%.2f calls to sidecars, of them %.2f transactions; %.2f deliveries", per(c.callsOf("")), per(c.callsOf(transaction)), per(c.deliveries))
	if c.stripeWrites+c.stripeReads > 0 {
		text += fmt.Sprintf("; Stripe: %.2f writes, %.2f reads", per(c.stripeWrites), per(c.stripeReads))
	}
	byApp := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(c.calls)) {
		app, method, _ := strings.Cut(name, " ")
		if n := per(c.calls[name]); n >= 0.005 {
			byApp[app] = append(byApp[app], fmt.Sprintf("%s %.2f", method, n))
		}
	}
	for _, app := range slices.Sorted(maps.Keys(byApp)) {
		text += fmt.Sprintf("\n    %-11s %s", app, strings.Join(byApp[app], ", "))
	}
	return text
}

// changesPerTransaction describes by service how many changes shared a transaction, and which share of the transactions was
// retried.
func (c *cost) changesPerTransaction() string {
	var parts []string
	for _, app := range slices.Sorted(maps.Keys(c.commits)) {
		committed := c.commits[app]
		text := fmt.Sprintf("%s %.1f", app, committed.changes/committed.transactions)
		if committed.retries >= 0 {
			text += fmt.Sprintf(" (%.1f%% tried again)", 100*committed.retries/committed.transactions)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}
