package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"boxoffice/deploy/proof/client"
)

// Measures how fast events arrive at users' own servers: first at a steady rate, then as fast as tickets can be listed. The servers are
// one, in this process; each user has one endpoint there, and lists the tickets whose events it gets.

const (
	webhooksApp = "webhooks"
	// webhooksName is the name of the measurement, for -only.
	webhooksName = "events to endpoints"
	// steadyRate is the number of events in a second, and steadyTime the shortest time.
	steadyRate = 100
	steadyTime = 10 * time.Second
	// firstSeller is the number of the first user with an endpoint. Users of workloads have smaller numbers.
	firstSeller = 1_000_000
)

// deliveries is what came to the endpoints.
type deliveries struct {
	mu        sync.Mutex
	messages  map[string]int  // how often, by id
	latencies []time.Duration // from the event's time to the first arrival
	last      time.Time
}

func (d *deliveries) handle(request *fasthttp.RequestCtx) {
	now := time.Now()
	var message struct {
		Timestamp time.Time `json:"timestamp"`
	}
	if json.Unmarshal(request.PostBody(), &message) != nil {
		request.SetStatusCode(fasthttp.StatusBadRequest)
		return
	}
	id := string(request.Request.Header.Peek("webhook-id"))
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.messages[id]++; d.messages[id] == 1 {
		d.latencies = append(d.latencies, now.Sub(message.Timestamp))
		d.last = now
	}
}

func (d *deliveries) reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.messages, d.latencies = map[string]int{}, nil
}

// arrived is the number of different messages.
func (d *deliveries) arrived() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.messages)
}

// endpointsResult has the measurements of webhooks.
type endpointsResult struct {
	Endpoints int     `json:"endpoints"`
	Rate      int     `json:"eventsPerSecond"`
	P50       float64 `json:"p50Ms"` // from the event's time to its arrival
	P99       float64 `json:"p99Ms"`
	Full      float64 `json:"fullPerSecond"` // deliveries in a second, while tickets are listed without a pause and until the last one arrived
	Repeats   int     `json:"repeats"`       // messages that came again
	MemoryMB  float64 `json:"memoryMB"`      // the most that one process had in memory, until the end of the steady rate
	FullMB    float64 `json:"fullMemoryMB"`  // and until the end of full load
}

func (r *endpointsResult) String() string {
	return fmt.Sprintf("%d endpoints, %d events a second: from an event to its arrival %.0f ms (p50), %.0f ms (p99); at full load %.0f deliveries a second; %d came again; a process of webhooks had at most %.0f MB in memory before, and %.0f MB at full load",
		r.Endpoints, r.Rate, r.P50, r.P99, r.Full, r.Repeats, r.MemoryMB, r.FullMB)
}

// measureEndpoints measures webhooks, if it runs.
func (b *bench) measureEndpoints(ctx context.Context) (*endpointsResult, error) {
	s := b.settings
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	came := &deliveries{}
	came.reset()
	server := &fasthttp.Server{Handler: came.handle, NoDefaultServerHeader: true}
	go func() { _ = server.Serve(listener) }()
	defer func() { _ = server.Shutdown() }()

	tokens, err := b.signUpWithEndpoints(ctx, "http://"+listener.Addr().String())
	if err != nil {
		return nil, err
	}
	progress("%d endpoints are ready", s.endpoints)
	r := &endpointsResult{Endpoints: s.endpoints, Rate: steadyRate}

	// For a moment before the measured time, too.
	if err := b.listSteadily(ctx, tokens, s.warm); err != nil {
		return nil, err
	}
	if err := b.waitHandled(ctx); err != nil {
		return nil, err
	}
	came.reset()
	span := max(s.span, steadyTime)
	if err := b.listSteadily(ctx, tokens, span); err != nil {
		return nil, err
	}
	if err := b.waitArrived(ctx, came, int(steadyRate*span.Seconds())); err != nil {
		return nil, err
	}
	slices.Sort(came.latencies)
	steady := &measurement{latencies: came.latencies}
	r.P50, r.P99 = milliseconds(steady.percentile(.5)), milliseconds(steady.percentile(.99))
	r.Repeats = came.repeats()
	if r.MemoryMB, err = b.memory(webhooksApp); err != nil {
		return nil, err
	}
	progress("%-32s %d a second: p50 %.0f ms, p99 %.0f ms", webhooksName, steadyRate, r.P50, r.P99)

	came.reset()
	var turn atomic.Int64
	begin := time.Now()
	full := load(ctx, s.clients, 0, s.span, b.cpu, func(context.Context, int) (int, int, error) {
		status, err := b.gateway.tickets.call(tokens[int(turn.Add(1))%len(tokens)], listTicket, nil)
		return 1, status, err
	})
	if err := full.problems(201); err != nil {
		return nil, err
	}
	if err := b.waitArrived(ctx, came, full.all); err != nil {
		return nil, err
	}
	r.Full = float64(full.all) / came.last.Sub(begin).Seconds()
	r.Repeats += came.repeats()
	if r.FullMB, err = b.memory(webhooksApp); err != nil {
		return nil, err
	}
	progress("%-32s full load          %7.0f/s", webhooksName, r.Full)
	return r, nil
}

// signUpWithEndpoints makes users with an endpoint each, and returns their tokens.
func (b *bench) signUpWithEndpoints(ctx context.Context, url string) ([]string, error) {
	tokens := make([]string, b.settings.endpoints)
	var next atomic.Int64
	made := load(ctx, 2*runtime.NumCPU(), 0, time.Hour, cpuReader{}, func(context.Context, int) (int, int, error) {
		i := int(next.Add(1)) - 1
		if i >= len(tokens) {
			return 0, 0, errExhausted
		}
		var signedIn client.SignedIn
		status, err := b.direct.auth.call("", client.SignUp(email(firstSeller+i), password), body(&signedIn))
		if err != nil || status != 201 {
			return 0, status, err
		}
		tokens[i] = signedIn.Token
		status, err = b.gateway.auth.call(signedIn.Token, client.CreateWebhook(url+"/"+strconv.Itoa(i), "ticket.created"), nil)
		return 1, status, err
	})
	return tokens, made.problems(201)
}

// listSteadily lists tickets at the steady rate, whatever the time of an answer.
func (b *bench) listSteadily(ctx context.Context, tokens []string, span time.Duration) error {
	ticker := time.NewTicker(time.Second / steadyRate)
	defer ticker.Stop()
	var listing sync.WaitGroup
	failures := make(chan error, 1)
	for i := range int(steadyRate * span.Seconds()) {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		listing.Go(func() {
			status, err := b.gateway.tickets.call(tokens[i%len(tokens)], listTicket, nil)
			if err == nil && status != 201 {
				err = fmt.Errorf("list a ticket: status %d", status)
			}
			if err != nil {
				select {
				case failures <- err:
				default:
				}
			}
		})
	}
	listing.Wait()
	select {
	case err := <-failures:
		return err
	default:
		return nil
	}
}

// waitArrived waits until so many messages have come.
func (b *bench) waitArrived(ctx context.Context, came *deliveries, want int) error {
	ctx, cancel := context.WithTimeout(ctx, b.settings.settle)
	defer cancel()
	for came.arrived() < want {
		if pause(ctx, 20*time.Millisecond); ctx.Err() != nil {
			return fmt.Errorf("%d of %d events arrived: %w", came.arrived(), want, ctx.Err())
		}
	}
	return nil
}

// repeats is how many messages came again.
func (d *deliveries) repeats() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, times := range d.messages {
		n += times - 1
	}
	return n
}

// The lines of /proc/PID/status with the most that a process ever had in memory, and what it has now.
const (
	memoryMost = "VmHWM:"
	memoryNow  = "VmRSS:"
)

// memory is the most that one process of an app ever had in memory, in MB. It is 0 on systems other than Linux.
func (b *bench) memory(app string) (float64, error) { return b.memoryOf(app, memoryMost) }

// memoryOf is the largest memory of an app's processes, in MB, by a line of their status.
func (b *bench) memoryOf(app, line string) (most float64, err error) {
	for _, replica := range b.stack.Replicas(app) {
		text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(b.stack.Process(replica).PID()), "status"))
		if errors.Is(err, os.ErrNotExist) {
			continue
		} else if err != nil {
			return 0, err
		}
		for each := range strings.Lines(string(text)) {
			if value, is := strings.CutPrefix(each, line); is {
				kilobytes, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
				if err != nil {
					return 0, err
				}
				most = max(most, kilobytes*1024/1e6)
			}
		}
	}
	return most, nil
}
