package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"boxoffice/deploy/local/stack"
)

const (
	// pageLength is the usual length of a page of a list, longPage the longest.
	pageLength = 50
	longPage   = 200
	// reservedRate and boughtRate are how many free tickets a second are prepared for a workload that uses them up. A faster
	// workload ends early.
	reservedRate = 3000
	boughtRate   = 800
	// reservations and purchases are made one after the other at the end, without other load.
	reservations = 25
	purchases    = 10
)

// workload is one row of the table.
type workload struct {
	name     string
	expected []int // statuses
	// job makes the job of the clients on a route.
	job func(via *route) (job, error)
	// uses is the number of free tickets that it needs in a second, or singleTicket; 0 for none.
	uses int
	// clients is the number of clients at once, if it is not that of the settings.
	clients int
	// onlyGateway means that it is measured through the gateway only.
	onlyGateway bool
	// shows means that it needs shows in the catalogue.
	shows bool
	// publishes means that it causes events.
	publishes bool
	// prepare makes what it uses up on a route, if that is not free tickets.
	prepare func(ctx context.Context) error
	// withoutWarmUp means that it counts from its begin, because what it uses up lasts for a short time.
	withoutWarmUp bool
	// background is the job of as many further clients as the settings have, at the same time. Its outcome is shown, not
	// measured.
	background func(via *route) job
	// bare are the same operations on the bare sidecar, by the number of changes in a transaction.
	bare map[int]job
}

// groups are the numbers of changes in a transaction of the bare sidecar.
var groups = []int{1, 16, 64}

// singleTicket is the number of tickets of a workload whose clients all reserve the same one.
const singleTicket = 1

// result has the measurements of a workload.
type result struct {
	workload *workload
	routes   [2]*measurement // through the gateway, directly at the service
	bare     map[int]*measurement

	// Through the gateway, until all services have handled the last event:
	lag     time.Duration // from the end of the load
	handled time.Duration // from its begin
	cpu     cpuTimes      // from its begin
	cost    *cost         // from its begin
	steps   string        // the times of the steps of purchases

	background string // the outcome of the background job
}

type bench struct {
	settings        *settings
	stack           *stack.Stack
	gateway, direct *route
	data            *dataset
	events          *eventReader
	costs           *costReader
	bare            *bare
	cpu             cpuReader
	results         []*result

	// Without other load:
	shownReserved []time.Duration // until the tickets service shows a reservation; sorted
	purchaseCost  *cost           // of purchases one after the other, with their listings
	purchaseSteps string          // the times of their steps

	endpoints  *endpointsResult
	program    *program
	passes     passes
	catalogues []*endpoint // the replicas of the catalogue
	catalogue  *catalogueResult
}

func newBench(ctx context.Context, s *settings, running *stack.Stack, apps []string) (*bench, error) {
	b := &bench{settings: s, stack: running, data: &dataset{}, cpu: cpuReader{running}, program: newProgram()}
	var err error
	if b.gateway, b.direct, err = newRoutes(running); err != nil {
		return nil, err
	}
	for _, replica := range running.Replicas(catalogueApp) {
		only, err := newEndpoint([]string{running.URL(replica)})
		if err != nil {
			return nil, err
		}
		b.catalogues = append(b.catalogues, only)
	}
	if b.events, err = newEventReader(running, apps); err != nil {
		return nil, err
	}
	b.costs = &costReader{running, b.events, apps}
	if b.bare, err = newBare(ctx, running.SidecarGRPC(bareSidecar), running.SidecarToken(bareSidecar)); err != nil {
		return nil, err
	}
	return b, nil
}

func (b *bench) close() {
	b.bare.close()
	b.events.close()
}

func (b *bench) workloads() []*workload {
	d, s := b.data, b.settings
	always := func(make func(*route) job) func(*route) (job, error) {
		return func(via *route) (job, error) { return make(via), nil }
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
		{name: "read one ticket", expected: []int{200}, job: always(d.readOne), bare: map[int]job{1: b.bare.readOne}},
		{name: fmt.Sprintf("read a page of %d", pageLength), expected: []int{200}, job: always(d.readPage), bare: map[int]job{1: b.bare.readPage}},
		{name: fmt.Sprintf("read a list of %d", s.listed), expected: []int{200}, job: always(d.readAll), bare: map[int]job{1: b.bare.readAll}},
		{name: "list a ticket", expected: []int{201}, job: always(d.listOne), publishes: true,
			bare: grouped(func(group int) job { return b.bare.listing(s.clients, group) })},
		{name: "reserve, each its own", expected: []int{201}, job: always(d.reserveOwn), uses: reservedRate, publishes: true,
			bare: grouped(func(group int) job { return b.bare.reserving(s.clients, group, s.users) })},
		{name: "reserve, all the same", expected: []int{201, 409}, job: d.reserveSame, uses: singleTicket, publishes: true},
		{name: "reserve the same, give it back", expected: []int{201, 409}, job: d.reserveAndCancel, uses: singleTicket, publishes: true},
		{name: "buy: reserve, pay, complete", expected: []int{201}, job: always(d.buy), uses: boughtRate, publishes: true},
	}
	for _, clients := range []int{1, 4, 16} {
		if clients != s.clients {
			name := fmt.Sprintf("buy with %d clients", clients)
			if clients == 1 {
				name = "buy with 1 client"
			}
			all = append(all, &workload{name: name, expected: []int{201}, job: always(d.buy),
				uses: min(boughtRate, 100*clients), clients: clients, onlyGateway: true, publishes: true})
		}
	}
	for _, flooded := range []bool{false, true} {
		w := &workload{name: fmt.Sprintf("reserve with %d clients", calmClients), expected: []int{201}, job: always(d.reserveOwn),
			uses: reservedRate / 2, clients: calmClients, onlyGateway: true, publishes: true}
		if flooded {
			w.name, w.background = "  in a flood of sign-ins", d.signInWrong
		}
		all = append(all, w)
	}
	return slices.Concat(all, b.catalogueWorkloads(), b.storefrontWorkloads(), b.passWorkloads())
}

// calmClients do not keep the machine busy, so that the effect of a flood is visible.
const calmClients = 4

// measure measures all workloads. After an error it keeps the results so far.
func (b *bench) measure(ctx context.Context) error {
	s := b.settings
	if err := b.data.signUp(ctx, b.direct, s.users); err != nil {
		return err
	}
	if err := b.data.supply(ctx, b.direct, s.clients, s.listed); err != nil {
		return err
	}
	b.data.listed, b.data.free = b.data.free, nil
	if err := b.bare.seed(ctx, s.listed); err != nil {
		return err
	}
	if err := b.waitHandled(ctx); err != nil {
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
			if w.shows {
				if err := b.fillCatalogue(ctx); err != nil {
					return err
				}
			}
			r, err := b.measureWorkload(ctx, w)
			if err != nil {
				problems = append(problems, fmt.Errorf("%s: %w", w.name, err))
			}
			if ctx.Err() != nil {
				return errors.Join(problems...)
			}
			if round == 0 {
				b.results = append(b.results, r)
			} else if at := slices.IndexFunc(b.results, func(r *result) bool { return r.workload == all[i] }); at >= 0 {
				b.results[at].keepBest(r)
			}
		}
	}
	if err := b.measureShownReserved(ctx); err != nil {
		problems = append(problems, err)
	}
	if s.only.MatchString(singlePurchase) {
		if err := b.measurePurchases(ctx); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", singlePurchase, err))
		}
	}
	if err := b.measureCatalogue(ctx); err != nil {
		problems = append(problems, err)
	}
	if s.endpoints > 0 && s.only.MatchString(webhooksName) && b.stack.Process(webhooksApp) != nil {
		var err error
		if b.endpoints, err = b.measureEndpoints(ctx); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", webhooksName, err))
		}
	}
	if dead, err := b.events.dead(ctx); err != nil || dead > 0 {
		problems = append(problems, errors.Join(err, fmt.Errorf("%d events went to the dead letters", dead)))
	}
	return errors.Join(problems...)
}

func (b *bench) waitHandled(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, b.settings.settle)
	defer cancel()
	return b.events.waitHandled(ctx)
}

// measureWorkload measures a workload on both routes and on the bare sidecar.
func (b *bench) measureWorkload(ctx context.Context, w *workload) (*result, error) {
	s := b.settings
	r := &result{workload: w, bare: map[int]*measurement{}}
	var problems []error
	for i, via := range []*route{b.gateway, b.direct} {
		if i > 0 && w.onlyGateway {
			break
		}
		if err := b.measureRoute(ctx, w, r, i, via); err != nil {
			problems = append(problems, fmt.Errorf("by the %s: %w", via.name, err))
		}
		if ctx.Err() != nil {
			return r, errors.Join(problems...)
		}
	}
	if s.bare {
		for _, group := range groups {
			if work := w.bare[group]; work != nil {
				m := load(ctx, max(1, s.clients/group), s.warm, s.span, b.cpu, work)
				if err := m.problems(0); err != nil {
					problems = append(problems, fmt.Errorf("bare sidecar, %d at once: %w", group, err))
				}
				r.bare[group] = m
				progress("%-32s bare, %2d at once  %7.0f/s", w.name, group, m.rate())
			}
		}
	}
	return r, errors.Join(problems...)
}

// measureRoute measures a workload on one route, until the events that it causes are handled.
func (b *bench) measureRoute(ctx context.Context, w *workload, r *result, i int, via *route) error {
	s := b.settings
	if err := b.prepareTickets(ctx, w); err != nil {
		return err
	}
	if w.prepare != nil {
		if err := w.prepare(ctx); err != nil {
			return err
		}
	}
	work, err := w.job(via)
	if err != nil {
		return err
	}
	before, err := b.costs.read(ctx)
	if err != nil {
		return err
	}
	profiles := func() error { return nil }
	if i == 0 {
		profiles = profiler{s.profile, b.stack}.during(ctx, w.name, s.warm, s.span)
	}
	warm := s.warm
	if w.withoutWarmUp {
		warm = 0
	}
	begin, cpu := time.Now(), b.cpu.times()
	endBackground := b.startBackground(ctx, w, via)
	m := load(ctx, cmp.Or(w.clients, s.clients), warm, s.span, b.cpu, work)
	end := time.Now()
	background := endBackground()
	r.routes[i] = m
	steps := medianSteps(b.data.purchases.take(m))
	if i == 0 {
		r.background = background
	}
	problem := errors.Join(m.problems(w.expected...), profiles())
	progress("%-32s %-16s %7.0f/s", w.name, via.name, m.rate())
	if !w.publishes {
		return problem
	}
	if err := b.waitHandled(ctx); err != nil {
		return errors.Join(problem, err)
	}
	handled := time.Now()
	used := b.cpu.times().since(cpu)
	after, err := b.costs.read(ctx)
	if err == nil && i == 0 {
		r.lag, r.handled, r.cpu, r.cost, r.steps = handled.Sub(end), handled.Sub(begin), used, after.since(before), steps
		progress("%-32s all events handled %.1f s later", w.name, r.lag.Seconds())
	}
	return errors.Join(problem, err)
}

// prepareTickets lists the free tickets that a workload uses.
func (b *bench) prepareTickets(ctx context.Context, w *workload) error {
	s, need := b.settings, w.uses
	if need > singleTicket {
		need = int(float64(need) * (s.warm + s.span).Seconds())
	}
	if b.data.left() >= need {
		return nil
	}
	if err := b.data.supply(ctx, b.direct, s.clients, need); err != nil {
		return err
	}
	if err := b.waitHandled(ctx); err != nil {
		return err
	}
	progress("%-32s %d tickets are ready", w.name, need)
	return nil
}

// startBackground starts the background job of a workload. The function that it returns ends the job and describes its outcome.
func (b *bench) startBackground(ctx context.Context, w *workload, via *route) (end func() string) {
	if w.background == nil {
		return func() string { return "" }
	}
	ctx, cancel := context.WithCancel(ctx)
	result := make(chan *measurement, 1)
	go func() { result <- load(ctx, b.settings.clients, 0, time.Hour, cpuReader{}, w.background(via)) }()
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

// keepBest takes the faster measurements from another round.
func (r *result) keepBest(other *result) {
	for i, m := range other.routes {
		if m != nil && (r.routes[i] == nil || m.rate() > r.routes[i].rate()) {
			r.routes[i] = m
		}
	}
	for group, m := range other.bare {
		if r.bare[group] == nil || m.rate() > r.bare[group].rate() {
			r.bare[group] = m
		}
	}
	if other.sustained() > r.sustained() {
		r.lag, r.handled, r.cpu, r.cost, r.steps, r.background = other.lag, other.handled, other.cpu, other.cost, other.steps, other.background
	}
}

// sustained is the rate including the time until all events are handled: the rate with which the whole system keeps up.
func (r *result) sustained() float64 {
	if r.handled == 0 || r.routes[0] == nil {
		return 0
	}
	return float64(r.routes[0].all) / r.handled.Seconds()
}

// bestBare is the best rate of the bare sidecar, in groups of any size.
func (r *result) bestBare() float64 {
	best := 0.0
	for _, m := range r.bare {
		best = max(best, m.rate())
	}
	return best
}

// measureShownReserved measures the time until the tickets service shows a reservation, without other load.
func (b *bench) measureShownReserved(ctx context.Context) error {
	if err := b.data.supply(ctx, b.direct, 1, reservations); err != nil {
		return err
	}
	if err := b.waitHandled(ctx); err != nil {
		return err
	}
	for range reservations {
		lag, err := b.data.timeUntilShownReserved(ctx, b.gateway)
		if err != nil {
			return err
		}
		b.shownReserved = append(b.shownReserved, lag)
	}
	slices.Sort(b.shownReserved)
	return nil
}

const singlePurchase = "one purchase alone"

// measurePurchases makes purchases one after the other, each when the events of the one before are handled. So no purchase shares a
// transaction or a delivery with another, and the cost of one can be counted.
func (b *bench) measurePurchases(ctx context.Context) error {
	before, err := b.costs.read(ctx)
	if err != nil {
		return err
	}
	b.data.purchases.take(&measurement{})
	begin := time.Now()
	for range purchases {
		ticket, status, err := b.data.list(b.gateway, 0)
		if err != nil || status != 201 {
			return errors.Join(err, fmt.Errorf("list a ticket: status %d", status))
		}
		if err := b.waitHandled(ctx); err != nil {
			return err
		}
		if done, status, err := b.data.buyTicket(ctx, b.gateway, ticket); err != nil || done != 1 {
			return errors.Join(err, fmt.Errorf("buy a ticket: status %d", status))
		}
		if err := b.waitHandled(ctx); err != nil {
			return err
		}
	}
	b.purchaseSteps = medianSteps(b.data.purchases.take(&measurement{begin: begin, took: time.Since(begin)}))
	after, err := b.costs.read(ctx)
	if err == nil {
		b.purchaseCost = after.since(before)
	}
	return err
}
