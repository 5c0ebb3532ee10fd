package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"boxoffice/deploy/local/stack"
)

const (
	// pageLength is the page of a list that clients usually ask for, longPage the longest there is.
	pageLength = 50
	longPage   = 200
	// reservedRate and boughtRate are how many tickets a second are made ready for a workload that uses them up; one that
	// is faster ends early.
	reservedRate = 3000
	boughtRate   = 800
	// probes are the reservations, and purchases the purchases, that are made one after the other with nothing else going on.
	probes    = 25
	purchases = 10
)

// workload is one row of the table.
type workload struct {
	name     string
	expected []int // statuses
	// job makes what clients do on a way.
	job func(w *way) (job, error)
	// uses is how many free tickets it needs in a second, or one in all; 0 for none.
	uses int
	// clients are how many work at once, if not as many as the settings say.
	clients int
	// front says that it is measured through the gateway alone.
	front bool
	// changes says that events follow.
	changes bool
	// meanwhile is what as many clients as the settings say do at the same time, all of it; its outcome is shown, not measured.
	meanwhile func(w *way) job
	// bare is the same on the bare sidecar, in groups of so many.
	bare map[int]job
}

// groups are how many changes share a transaction of the bare sidecar.
var groups = []int{1, 16, 64}

// one is the number of tickets of a workload whose clients all want the same.
const one = 1

// result is what was measured of a workload.
type result struct {
	workload *workload
	ways     [2]*measurement // through the gateway, at the service
	bare     map[int]*measurement

	// After the load through the gateway, until the last event that it caused was handled everywhere:
	lag     time.Duration // from the load's end
	handled time.Duration // from its begin
	cpu     cpuTimes      // from its begin
	did     *activity     // from its begin
	bought  string        // how long the steps of a purchase took

	meanwhile string // what became of that through the gateway
}

type bench struct {
	settings          *settings
	stack             *stack.Stack
	gateway, straight *way
	market            *market
	flow              *eventFlow
	meter             *meter
	bare              *bare
	cpu               cpuWatch
	results           []*result

	// With nothing else going on:
	idle   []time.Duration // until a reserved ticket shows it, sorted
	single *activity       // what the purchases did, one after the other, listing included
	steps  string          // how long their steps took
}

func newBench(ctx context.Context, s *settings, running *stack.Stack, apps []string) (*bench, error) {
	b := &bench{settings: s, stack: running, market: &market{}, cpu: cpuWatch{running}}
	var err error
	if b.gateway, b.straight, err = ways(running); err != nil {
		return nil, err
	}
	if b.flow, err = watchEvents(running, apps); err != nil {
		return nil, err
	}
	b.meter = &meter{running, b.flow, apps}
	if b.bare, err = newBare(ctx, running.SidecarGRPC(bareSidecar), running.APIToken(bareSidecar)); err != nil {
		return nil, err
	}
	return b, nil
}

func (b *bench) close() {
	b.bare.close()
	b.flow.close()
}

func (b *bench) workloads() []*workload {
	m, s := b.market, b.settings
	always := func(make func(*way) job) func(*way) (job, error) {
		return func(w *way) (job, error) { return make(w), nil }
	}
	grouped := func(make func(group int) job) map[int]job {
		jobs := map[int]job{}
		for _, group := range groups {
			if group <= s.clients {
				jobs[group] = make(group)
			}
		}
		return jobs
	}
	all := []*workload{
		{name: "read one ticket", expected: []int{200}, job: always(m.readOne), bare: map[int]job{1: b.bare.readOne}},
		{name: fmt.Sprintf("read a page of %d", pageLength), expected: []int{200}, job: always(m.readPage), bare: map[int]job{1: b.bare.readPage}},
		{name: fmt.Sprintf("read a list of %d", s.listed), expected: []int{200}, job: always(m.readAll), bare: map[int]job{1: b.bare.readAll}},
		{name: "list a ticket", expected: []int{201}, job: always(m.listOne), changes: true,
			bare: grouped(func(group int) job { return b.bare.listing(s.clients, group) })},
		{name: "reserve, each its own", expected: []int{201}, job: always(m.reserveOwn), uses: reservedRate, changes: true,
			bare: grouped(func(group int) job { return b.bare.reserving(s.clients, group, s.users) })},
		{name: "reserve, all the same", expected: []int{201, 409}, job: m.reserveHot, uses: one, changes: true},
		{name: "reserve the same, give it back", expected: []int{201, 409}, job: m.reservePassed, uses: one, changes: true},
		{name: "buy: reserve, pay, complete", expected: []int{201}, job: always(m.buy), uses: boughtRate, changes: true},
	}
	for _, clients := range []int{1, 4, 16} {
		if clients != s.clients {
			name := fmt.Sprintf("buy with %d clients", clients)
			if clients == 1 {
				name = "buy with 1 client"
			}
			all = append(all, &workload{name: name, expected: []int{201}, job: always(m.buy),
				uses: min(boughtRate, 100*clients), clients: clients, front: true, changes: true})
		}
	}
	for _, flooded := range []bool{false, true} {
		w := &workload{name: fmt.Sprintf("reserve with %d clients", calmClients), expected: []int{201}, job: always(m.reserveOwn),
			uses: reservedRate / 2, clients: calmClients, front: true, changes: true}
		if flooded {
			w.name, w.meanwhile = "  in a flood of sign-ins", m.signInWrong
		}
		all = append(all, w)
	}
	return all
}

// calmClients are fewer than it takes to keep the machine busy, so that a flood shows.
const calmClients = 4

// measure does all of it. The results are those that it came to, also after an error.
func (b *bench) measure(ctx context.Context) error {
	s := b.settings
	if err := b.market.signUp(ctx, b.straight, s.users); err != nil {
		return err
	}
	if err := b.market.supply(ctx, b.straight, s.clients, s.listed); err != nil {
		return err
	}
	b.market.listed, b.market.free = b.market.free, nil
	if err := b.bare.seed(ctx, s.listed); err != nil {
		return err
	}
	if err := b.settled(ctx); err != nil {
		return err
	}
	progress("%d users, %d tickets", s.users, s.listed)
	if err := b.fill(ctx); err != nil {
		return err
	}

	var problems []error
	all := b.workloads()
	for round := range s.rounds {
		for i, w := range all {
			if !s.only.MatchString(w.name) {
				continue
			}
			r, err := b.one(ctx, w)
			if err != nil {
				problems = append(problems, fmt.Errorf("%s: %w", w.name, err))
			}
			if ctx.Err() != nil {
				return errors.Join(problems...)
			}
			if round == 0 {
				b.results = append(b.results, r)
			} else if at := slices.IndexFunc(b.results, func(r *result) bool { return r.workload == all[i] }); at >= 0 {
				b.results[at].better(r)
			}
		}
	}
	if err := b.probeLag(ctx); err != nil {
		problems = append(problems, err)
	}
	if s.only.MatchString(singlePurchase) {
		if err := b.probePurchase(ctx); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", singlePurchase, err))
		}
	}
	if dead, err := b.flow.dead(ctx); err != nil || dead > 0 {
		problems = append(problems, errors.Join(err, fmt.Errorf("%d events went to the dead letters", dead)))
	}
	return errors.Join(problems...)
}

func (b *bench) settled(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, b.settings.settle)
	defer cancel()
	return b.flow.settled(ctx)
}

// one measures a workload on both ways and on the bare sidecar.
func (b *bench) one(ctx context.Context, w *workload) (*result, error) {
	s := b.settings
	r := &result{workload: w, bare: map[int]*measurement{}}
	var problems []error
	for i, way := range []*way{b.gateway, b.straight} {
		if i > 0 && w.front {
			break
		}
		if err := b.follow(ctx, w, r, i, way); err != nil {
			problems = append(problems, fmt.Errorf("by the %s: %w", way.name, err))
		}
		if ctx.Err() != nil {
			return r, errors.Join(problems...)
		}
	}
	if s.bare {
		for _, group := range groups {
			if work := w.bare[group]; work != nil {
				m := load(ctx, max(1, s.clients/group), s.warm, s.span, b.cpu, work)
				if err := m.wrong(0); err != nil {
					problems = append(problems, fmt.Errorf("bare sidecar, %d at once: %w", group, err))
				}
				r.bare[group] = m
				progress("%-32s bare, %2d at once  %7.0f/s", w.name, group, m.rate())
			}
		}
	}
	return r, errors.Join(problems...)
}

// follow measures a workload on one way, with the events that it causes.
func (b *bench) follow(ctx context.Context, w *workload, r *result, i int, way *way) error {
	s := b.settings
	need, clients := w.uses, cmp.Or(w.clients, s.clients)
	if need > one {
		need = int(float64(need) * (s.warm + s.span).Seconds())
	}
	if b.market.left() < need {
		if err := b.market.supply(ctx, b.straight, s.clients, need); err != nil {
			return err
		}
		if err := b.settled(ctx); err != nil {
			return err
		}
		progress("%-32s %d tickets are ready", w.name, need)
	}
	work, err := w.job(way)
	if err != nil {
		return err
	}
	before, err := b.meter.read(ctx)
	if err != nil {
		return err
	}
	profiles := func() error { return nil }
	if i == 0 {
		profiles = profiler{s.profile, b.stack}.during(ctx, w.name, s.warm, s.span)
	}
	begin, cpu := time.Now(), b.cpu.times()
	ended := b.flood(ctx, w, way)
	m := load(ctx, clients, s.warm, s.span, b.cpu, work)
	end := time.Now()
	meanwhile := ended()
	r.ways[i] = m
	bought := describeSteps(b.market.steps.take(m))
	if i == 0 {
		r.meanwhile = meanwhile
	}
	problem := errors.Join(m.wrong(w.expected...), profiles())
	progress("%-32s %-16s %7.0f/s", w.name, way.name, m.rate())
	if !w.changes {
		return problem
	}
	if err := b.settled(ctx); err != nil {
		return errors.Join(problem, err)
	}
	settled := time.Now()
	used := b.cpu.times().since(cpu)
	after, err := b.meter.read(ctx)
	if err == nil && i == 0 {
		r.lag, r.handled, r.cpu, r.did, r.bought = settled.Sub(end), settled.Sub(begin), used, after.since(before), bought
		progress("%-32s all events handled %.1f s later", w.name, r.lag.Seconds())
	}
	return errors.Join(problem, err)
}

// flood lets clients do what a workload says that they do meanwhile, until ended is called, which says what became of it.
func (b *bench) flood(ctx context.Context, w *workload, way *way) (ended func() string) {
	if w.meanwhile == nil {
		return func() string { return "" }
	}
	ctx, cancel := context.WithCancel(ctx)
	result := make(chan *measurement, 1)
	go func() { result <- load(ctx, b.settings.clients, 0, time.Hour, cpuWatch{}, w.meanwhile(way)) }()
	return func() string {
		cancel()
		m := <-result
		var outcomes []string
		for _, status := range slices.Sorted(maps.Keys(m.statuses)) {
			outcomes = append(outcomes, fmt.Sprintf("%d: %d", status, m.statuses[status]))
		}
		for _, message := range slices.Sorted(maps.Keys(m.failures)) {
			outcomes = append(outcomes, fmt.Sprintf("%s: %d", message, m.failures[message]))
		}
		return fmt.Sprintf("%.0f/s; %s; p99 %.0f ms", m.rate(), strings.Join(outcomes, ", "), milliseconds(m.percentile(.99)))
	}
}

// better takes from another round what was faster.
func (r *result) better(other *result) {
	for i, m := range other.ways {
		if m != nil && (r.ways[i] == nil || m.rate() > r.ways[i].rate()) {
			r.ways[i] = m
		}
	}
	for group, m := range other.bare {
		if r.bare[group] == nil || m.rate() > r.bare[group].rate() {
			r.bare[group] = m
		}
	}
	if other.sustained() > r.sustained() {
		r.lag, r.handled, r.cpu, r.did, r.bought, r.meanwhile = other.lag, other.handled, other.cpu, other.did, other.bought, other.meanwhile
	}
}

// sustained is the rate at which the whole system keeps up with the workload: the events that it causes are
// handled within the time that is counted.
func (r *result) sustained() float64 {
	if r.handled == 0 || r.ways[0] == nil {
		return 0
	}
	return float64(r.ways[0].all) / r.handled.Seconds()
}

// best is what the bare sidecar reached, in whatever groups.
func (r *result) best() float64 {
	best := 0.0
	for _, m := range r.bare {
		best = max(best, m.rate())
	}
	return best
}

// probeLag measures how long it takes until others see a reservation, when nothing else goes on.
func (b *bench) probeLag(ctx context.Context) error {
	if err := b.market.supply(ctx, b.straight, 1, probes); err != nil {
		return err
	}
	if err := b.settled(ctx); err != nil {
		return err
	}
	for range probes {
		lag, err := b.market.shownReserved(ctx, b.gateway)
		if err != nil {
			return err
		}
		b.idle = append(b.idle, lag)
	}
	slices.Sort(b.idle)
	return nil
}

const singlePurchase = "one purchase alone"

// probePurchase buys one ticket after the other, each when the events of the one before have been handled: so no purchase
// shares a transaction or a delivery with another, and what each costs can be counted.
func (b *bench) probePurchase(ctx context.Context) error {
	before, err := b.meter.read(ctx)
	if err != nil {
		return err
	}
	b.market.steps.take(&measurement{})
	begin := time.Now()
	for range purchases {
		ticket, status, err := b.market.list(b.gateway, 0)
		if err != nil || status != 201 {
			return errors.Join(err, fmt.Errorf("list a ticket: status %d", status))
		}
		if err := b.settled(ctx); err != nil {
			return err
		}
		if done, status, err := b.market.buyThis(ctx, b.gateway, ticket); err != nil || done != 1 {
			return errors.Join(err, fmt.Errorf("buy a ticket: status %d", status))
		}
		if err := b.settled(ctx); err != nil {
			return err
		}
	}
	b.steps = describeSteps(b.market.steps.take(&measurement{begin: begin, took: time.Since(begin)}))
	after, err := b.meter.read(ctx)
	if err == nil {
		b.single = after.since(before)
	}
	return err
}

func (b *bench) print(to io.Writer) {
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(cells ...any) {
		for _, cell := range cells {
			fmt.Fprintf(table, "%v\t", cell)
		}
		fmt.Fprintln(table)
	}
	fmt.Fprintln(to, "by the second                       through the gateway         at the service             bare sidecar, so many at once  of bare sidecar")
	row("", "/s", "p50", "p99", "/s", "p50", "p99", "1", "16", "64", "gateway", "service")
	for _, r := range b.results {
		cells := []any{fmt.Sprintf("%-31s", r.workload.name)}
		for _, m := range r.ways {
			cells = append(cells, rate(m), latency(m, .5), latency(m, .99))
		}
		for _, group := range groups {
			cells = append(cells, rate(r.bare[group]))
		}
		for _, m := range r.ways {
			cells = append(cells, share(m, r.best()))
		}
		row(cells...)
	}
	_ = table.Flush()

	fmt.Fprintln(to)
	for _, r := range b.results {
		if m := r.ways[0]; m != nil && len(r.workload.expected) > 1 {
			fmt.Fprintf(to, "%s: %d got it (201), %d did not (409)\n", r.workload.name, m.statuses[201], m.statuses[409])
		}
		if r.meanwhile != "" {
			fmt.Fprintf(to, "%s, of %d clients more: %s\n", strings.TrimSpace(r.workload.name), b.settings.clients, r.meanwhile)
		}
	}
	for _, r := range b.results {
		if r.handled > 0 {
			fmt.Fprintf(to, "%s: %.0f/s with all events handled, the last %.1f s after the load; changes that shared a transaction: %s\n",
				r.workload.name, r.sustained(), r.lag.Seconds(), r.did.shared())
			if r.bought != "" {
				fmt.Fprintf(to, "  half of the purchases took at most: %s\n", r.bought)
			}
		}
	}
	fmt.Fprintln(to, "\nwhat one costs, with all events handled")
	for _, r := range b.results {
		if r.handled > 0 {
			fmt.Fprintf(to, "%s: %s\n", r.workload.name, r.did.each(r.ways[0].all))
		}
	}
	if b.single != nil {
		fmt.Fprintf(to, "%s, listing included: %s\n    %s\n", singlePurchase, b.single.each(purchases), b.steps)
	}
	fmt.Fprintln(to)
	if len(b.idle) > 0 {
		fmt.Fprintf(to, "at rest, a reserved ticket is shown so %.1f ms after the answer (half of %d; at most %.1f ms)\n",
			milliseconds(b.idle[len(b.idle)/2]), len(b.idle), milliseconds(b.idle[len(b.idle)-1]))
	}
	if b.settings.cpu {
		b.printCPU(to)
	}
}

func (b *bench) printCPU(to io.Writer) {
	fmt.Fprintln(to, "\nprocessor time of one, in microseconds: the sum, and by kind of process; replicas together, ended processes too")
	for _, r := range b.results {
		for i, name := range []string{"gateway", "service"} {
			if m := r.ways[i]; m != nil {
				fmt.Fprintf(to, "%s (%s): %s\n", r.workload.name, name, m.cpu.each(m.done))
			}
		}
		if r.handled > 0 {
			fmt.Fprintf(to, "  with all events handled: %s\n", r.cpu.each(r.ways[0].all))
		}
		for _, group := range groups {
			if m := r.bare[group]; m != nil {
				fmt.Fprintf(to, "  bare, %d at once: %s\n", group, m.cpu.each(m.done))
			}
		}
	}
}

func rate(m *measurement) string {
	if m == nil {
		return "-"
	}
	return fmt.Sprintf("%.0f", m.rate())
}

func latency(m *measurement, share float64) string {
	if m == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f ms", milliseconds(m.percentile(share)))
}

func share(m *measurement, best float64) string {
	if m == nil || best == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f%%", 100*m.rate()/best)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
