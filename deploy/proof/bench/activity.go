package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/stripe/sandbox"
)

// activity is what a stack has done so far, as its processes count it. The difference of two, divided by the operations
// between them, is what an operation costs.
type activity struct {
	calls       map[string]float64 // of services at their sidecars' API, by app and method ("orders GetState")
	deliveries  float64            // of events to services; an event for two services is two, and a repeated one counts again
	stripeReads float64
	stripe      float64 // writes
	commits     map[string]commit
}

// commit is what a service wrote: transactions, the changes in them, and transactions tried again because another
// writer had been first. retries is -1 if the service does not count them.
type commit struct{ changes, transactions, retries float64 }

const (
	// apiCalls is the sidecar's counter of calls at its gRPC API. The calls that it serves to other sidecars and to the
	// scheduler are under other names.
	apiCalls  = "dapr_grpc_io_server_completed_rpcs"
	apiPrefix = "/dapr.proto.runtime.v1.Dapr/"
	// asksForReadiness is the one call that has nothing to do with an operation.
	asksForReadiness = "GetMetadata"
)

// meter reads what the processes of a stack count.
type meter struct {
	stack *stack.Stack
	flow  *eventFlow
	apps  []string
}

func (m *meter) read(ctx context.Context) (*activity, error) {
	a := &activity{calls: map[string]float64{}, commits: map[string]commit{}}
	for _, app := range m.apps {
		for _, replica := range m.stack.Replicas(app) {
			if err := scrape(ctx, m.stack.SidecarMetrics(replica), func(s sample) {
				method, ok := strings.CutPrefix(s.label("grpc_server_method"), apiPrefix)
				if s.name == apiCalls && ok && method != asksForReadiness {
					a.calls[app+" "+method] += s.value
				}
			}); err != nil {
				return nil, fmt.Errorf("metrics of the sidecar of %s: %w", replica, err)
			}
		}
		c := commit{retries: -1}
		err := m.flow.sum(ctx, app, func(s sample) {
			switch s.name {
			case "boxoffice_commit_changes_sum":
				c.changes += s.value
			case "boxoffice_commit_changes_count":
				c.transactions += s.value
			case "boxoffice_commit_retries_total":
				c.retries = max(0, c.retries) + s.value
			}
		})
		if err != nil {
			return nil, err
		}
		a.commits[app] = c
	}
	state, err := m.flow.broker.State(ctx)
	if err != nil {
		return nil, fmt.Errorf("look at the broker: %w", err)
	}
	a.deliveries = float64(state.Delivered)
	asked, err := stripeCalls(ctx, m.stack.SandboxURL())
	a.stripeReads, a.stripe = float64(asked.Reads), float64(asked.Writes)
	return a, err
}

func stripeCalls(ctx context.Context, url string) (calls sandbox.Calls, err error) {
	response, err := get(ctx, url+"/sandbox/calls")
	if err != nil {
		return calls, err
	}
	defer func() { _ = response.Body.Close() }()
	return calls, json.NewDecoder(response.Body).Decode(&calls)
}

func (a *activity) since(before *activity) *activity {
	d := &activity{
		calls: map[string]float64{}, commits: map[string]commit{}, deliveries: a.deliveries - before.deliveries,
		stripeReads: a.stripeReads - before.stripeReads, stripe: a.stripe - before.stripe,
	}
	for name, n := range a.calls {
		if n > before.calls[name] {
			d.calls[name] = n - before.calls[name]
		}
	}
	for app, now := range a.commits {
		then := before.commits[app]
		c := commit{now.changes - then.changes, now.transactions - then.transactions, -1}
		if now.retries >= 0 {
			c.retries = now.retries - max(0, then.retries)
		}
		if c.transactions > 0 {
			d.commits[app] = c
		}
	}
	return d
}

// callsOf sums the calls of one method, or of all if it is empty.
func (a *activity) callsOf(method string) (sum float64) {
	for name, n := range a.calls {
		if _, m, _ := strings.Cut(name, " "); method == "" || m == method {
			sum += n
		}
	}
	return sum
}

const transaction = "ExecuteStateTransaction"

// each describes what an operation costs, in three or four lines.
func (a *activity) each(operations int) string {
	per := func(n float64) float64 { return n / float64(max(1, operations)) }
	text := fmt.Sprintf("%.2f calls to sidecars, of them %.2f transactions; %.2f deliveries", per(a.callsOf("")), per(a.callsOf(transaction)), per(a.deliveries))
	if a.stripe+a.stripeReads > 0 {
		text += fmt.Sprintf("; Stripe: %.2f writes, %.2f reads", per(a.stripe), per(a.stripeReads))
	}
	byApp := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(a.calls)) {
		app, method, _ := strings.Cut(name, " ")
		if n := per(a.calls[name]); n >= 0.005 {
			byApp[app] = append(byApp[app], fmt.Sprintf("%s %.2f", method, n))
		}
	}
	for _, app := range slices.Sorted(maps.Keys(byApp)) {
		text += fmt.Sprintf("\n    %-11s %s", app, strings.Join(byApp[app], ", "))
	}
	return text
}

// shared says how many changes shared a transaction, by service, and which share of the transactions was tried again.
func (a *activity) shared() string {
	var parts []string
	for _, app := range slices.Sorted(maps.Keys(a.commits)) {
		c := a.commits[app]
		text := fmt.Sprintf("%s %.1f", app, c.changes/c.transactions)
		if c.retries >= 0 {
			text += fmt.Sprintf(" (%.1f%% tried again)", 100*c.retries/c.transactions)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

// sample is one line of a page of metrics.
type sample struct {
	name, labels string
	value        float64
}

// label is the value of a label, "" if there is none of that name.
func (s sample) label(name string) string {
	_, rest, found := strings.Cut(s.labels, name+`="`)
	if !found {
		return ""
	}
	value, _, _ := strings.Cut(rest, `"`)
	return value
}

// scrape hands out the samples of a page of metrics in Prometheus' text format.
func scrape(ctx context.Context, url string, each func(sample)) error {
	response, err := get(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		at := strings.LastIndexByte(line, ' ')
		if at < 0 || line[0] == '#' {
			continue
		}
		value, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			return fmt.Errorf("%s: %q is no sample", url, line)
		}
		name, labels, _ := strings.Cut(line[:at], "{")
		each(sample{name, labels, value})
	}
	return lines.Err()
}

func get(ctx context.Context, url string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("%s: status %d", url, response.StatusCode), response.Body.Close())
	}
	return response, nil
}
