package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"boxoffice/deploy/local/stack"
)

// endpoint is a server, or several replicas of it that take turns, with connections that are kept. Its client is
// fasthttp's, for it costs least of the machine that the servers need as well.
type endpoint struct {
	replicas []*fasthttp.HostClient
	turn     atomic.Uint64
}

// answerTime bounds one call; an answer that takes longer is a failure.
const answerTime = 30 * time.Second

func newEndpoint(addresses []string) (*endpoint, error) {
	e := &endpoint{}
	for _, address := range addresses {
		parsed, err := url.Parse(address)
		if err != nil {
			return nil, err
		}
		e.replicas = append(e.replicas, &fasthttp.HostClient{
			Addr: parsed.Host, MaxConns: 4096, ReadTimeout: answerTime, WriteTimeout: answerTime,
			NoDefaultUserAgentHeader: true, MaxIdemponentCallAttempts: 1,
		})
	}
	return e, nil
}

// call makes a request and gives what came to read, if it is not nil, before the answer is gone.
func (e *endpoint) call(method, path, token, body string, read func(*fasthttp.Response) error) (status int, err error) {
	req, res := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(res)
	client := e.replicas[e.turn.Add(1)%uint64(len(e.replicas))]
	req.Header.SetMethod(method)
	req.SetRequestURI("http://" + client.Addr + path)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.SetContentType("application/json")
		req.SetBodyString(body)
	}
	if err := client.Do(req, res); err != nil {
		return 0, fmt.Errorf("%s %s: %w", method, place(path), err)
	}
	status = res.StatusCode()
	if status >= 500 {
		return status, fmt.Errorf("%s %s: status %d: %.200s", method, place(path), status, res.Body())
	}
	if read != nil {
		if err := read(res); err != nil {
			return status, fmt.Errorf("%s %s: status %d: %w", method, place(path), status, err)
		}
	}
	return status, nil
}

// place is a path without its id, so that failures of one kind have one name.
func place(path string) string {
	parts := strings.SplitN(path, "/", 4)
	return strings.Join(parts[:min(3, len(parts))], "/")
}

// created reads the id of what was made from the answer's Location.
func created(id *string) func(*fasthttp.Response) error {
	return func(res *fasthttp.Response) error {
		location := string(res.Header.Peek("Location"))
		*id = location[strings.LastIndexByte(location, '/')+1:]
		return nil
	}
}

func decode(into any) func(*fasthttp.Response) error {
	return func(res *fasthttp.Response) error { return json.Unmarshal(res.Body(), into) }
}

// way is how clients reach the services: all through the gateway, or each at its own port.
type way struct {
	name                            string
	auth, tickets, orders, payments *endpoint
}

func ways(s *stack.Stack) (gateway, straight *way, err error) {
	made := map[string]*endpoint{}
	for _, app := range []string{"gateway", "auth", "tickets", "orders", "payments"} {
		var addresses []string
		for _, replica := range s.Replicas(app) {
			addresses = append(addresses, s.URL(replica))
		}
		if made[app], err = newEndpoint(addresses); err != nil {
			return nil, nil, fmt.Errorf("address of %s: %w", app, err)
		}
	}
	front := made["gateway"]
	return &way{"gateway", front, front, front, front},
		&way{"service", made["auth"], made["tickets"], made["orders"], made["payments"]}, nil
}

// market is what the workloads work on: users, and tickets that nobody has reserved yet.
type market struct {
	users  []string // their tokens
	listed []string // the tickets that were there first; they are read, never reserved

	mu   sync.Mutex
	free []string

	steps steps // of purchases
}

// steps are the times that the parts of purchases took, with the moments at which they ended.
type steps struct {
	mu  sync.Mutex
	all []purchase
}

type purchase struct {
	ended                  time.Time
	reserve, pay, complete time.Duration
}

func (s *steps) add(p purchase) {
	s.mu.Lock()
	s.all = append(s.all, p)
	s.mu.Unlock()
}

// take returns the purchases that ended within a measured time, and forgets all.
func (s *steps) take(m *measurement) []purchase {
	s.mu.Lock()
	defer s.mu.Unlock()
	inside := slices.DeleteFunc(s.all, func(p purchase) bool { return p.ended.Before(m.begin) || p.ended.After(m.begin.Add(m.took)) })
	s.all = nil
	return inside
}

// describeSteps are the middle times of purchases by step.
func describeSteps(all []purchase) string {
	if len(all) == 0 {
		return ""
	}
	middle := func(of func(purchase) time.Duration) float64 {
		times := make([]time.Duration, len(all))
		for i, p := range all {
			times[i] = of(p)
		}
		slices.Sort(times)
		return milliseconds(times[len(times)/2])
	}
	return fmt.Sprintf("reserve %.1f ms, pay %.1f ms, complete %.1f ms later", middle(func(p purchase) time.Duration { return p.reserve }),
		middle(func(p purchase) time.Duration { return p.pay }), middle(func(p purchase) time.Duration { return p.complete }))
}

// password is every user's. That bcrypt takes its time is why there are not more of them.
const password = "a password for the bench"

func (m *market) signUp(ctx context.Context, w *way, users int) error {
	m.users = make([]string, users)
	next := make(chan int, users)
	for i := range users {
		next <- i
	}
	close(next)
	made := load(ctx, runtime.NumCPU(), 0, time.Hour, cpuWatch{}, func(context.Context, int) (int, int, error) {
		i, more := <-next
		if !more {
			return 0, 0, errOut
		}
		var answer struct {
			Token string `json:"token"`
		}
		status, err := w.auth.call("POST", "/api/users/signup", "", fmt.Sprintf(`{"email":"user%d@example.com","password":%q}`, i, password), decode(&answer))
		m.users[i] = answer.Token
		return 1, status, err
	})
	if err := made.wrong(201); err != nil {
		return fmt.Errorf("sign up: %w", err)
	}
	return nil
}

// signInWrong makes jobs that try to sign in as somebody, with a wrong password: each costs a bcrypt, unless it is refused before.
// Also that it is refused because there are too many (503) is an answer here.
func (m *market) signInWrong(w *way) job {
	return func(context.Context, int) (int, int, error) {
		body := fmt.Sprintf(`{"email":"user%d@example.com","password":"wrong password %d"}`, rand.IntN(len(m.users)), rand.Int())
		status, err := w.auth.call("POST", "/api/users/signin", "", body, nil)
		if status != 0 {
			err = nil
		}
		return 1, status, err
	}
}

// seller is whoever sells at a client: one of the first half of the users, for nobody may buy their own tickets.
func (m *market) seller(client int) string { return m.users[client%(len(m.users)/2)] }

// buyer is one of the other half, for most people buy once.
func (m *market) buyer() string {
	return m.users[len(m.users)/2+rand.IntN(len(m.users)-len(m.users)/2)]
}

func (m *market) put(id string) {
	m.mu.Lock()
	m.free = append(m.free, id)
	m.mu.Unlock()
}

// take returns a ticket that is free, the longest listed first.
func (m *market) take() (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.free) == 0 {
		return "", errOut
	}
	id := m.free[0]
	m.free = m.free[1:]
	return id, nil
}

func (m *market) left() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.free)
}

const offer = `{"title":"Front row, seat 17","price":4500}`

func (m *market) list(w *way, client int) (id string, status int, err error) {
	status, err = w.tickets.call("POST", "/api/tickets", m.seller(client), offer, created(&id))
	return id, status, err
}

// supply lists tickets until so many are free.
func (m *market) supply(ctx context.Context, w *way, clients, enough int) error {
	var missing atomic.Int64
	if missing.Store(int64(enough - m.left())); missing.Load() <= 0 {
		return nil
	}
	made := load(ctx, clients, 0, time.Hour, cpuWatch{}, func(_ context.Context, client int) (int, int, error) {
		if missing.Add(-1) < 0 {
			return 0, 0, errOut
		}
		id, status, err := m.list(w, client)
		if err == nil && status == 201 {
			m.put(id)
		}
		return 1, status, err
	})
	if err := made.wrong(201); err != nil {
		return fmt.Errorf("list tickets: %w", err)
	}
	return nil
}

func (m *market) reserve(w *way, buyer, ticket string) (order string, status int, err error) {
	status, err = w.orders.call("POST", "/api/orders", buyer, `{"ticketId":"`+ticket+`"}`, created(&order))
	return order, status, err
}

// The jobs. Each is told the way to go.

func (m *market) readOne(w *way) job {
	ids := m.listed
	return func(_ context.Context, client int) (int, int, error) {
		status, err := w.tickets.call("GET", "/api/tickets/"+ids[client%len(ids)], "", "", nil)
		return 1, status, err
	}
}

func (m *market) readPage(w *way) job {
	return func(context.Context, int) (int, int, error) {
		status, err := w.tickets.call("GET", fmt.Sprintf("/api/tickets?limit=%d", pageLength), "", "", nil)
		return 1, status, err
	}
}

// readAll follows the list from its newest ticket through as many as were listed first.
func (m *market) readAll(w *way) job {
	pages := len(m.listed) / longPage
	return func(context.Context, int) (int, int, error) {
		path := fmt.Sprintf("/api/tickets?limit=%d", longPage)
		for range pages {
			if path == "" {
				return 0, 0, errors.New("the list ends too soon")
			}
			next := ""
			status, err := w.tickets.call("GET", path, "", "", func(res *fasthttp.Response) error {
				// Link: </api/tickets?limit=200&cursor=…>; rel="next"
				link := string(res.Header.Peek("Link"))
				if from, to := strings.IndexByte(link, '<'), strings.IndexByte(link, '>'); from >= 0 && to > from {
					next = link[from+1 : to]
				}
				return nil
			})
			if err != nil || status != 200 {
				return 0, status, err
			}
			path = next
		}
		return 1, 200, nil
	}
}

func (m *market) listOne(w *way) job {
	return func(_ context.Context, client int) (int, int, error) {
		id, status, err := m.list(w, client)
		if err == nil && status == 201 {
			m.put(id)
		}
		return 1, status, err
	}
}

func (m *market) reserveOwn(w *way) job {
	return func(context.Context, int) (int, int, error) {
		ticket, err := m.take()
		if err != nil {
			return 0, 0, err
		}
		_, status, err := m.reserve(w, m.buyer(), ticket)
		return 1, status, err
	}
}

// reserveHot lets everybody want the same ticket.
func (m *market) reserveHot(w *way) (job, error) {
	ticket, err := m.take()
	if err != nil {
		return nil, err
	}
	return func(context.Context, int) (int, int, error) {
		_, status, err := m.reserve(w, m.buyer(), ticket)
		return 1, status, err
	}, nil
}

// reservePassed lets everybody want the same ticket, and whoever gets it gives it back at once.
func (m *market) reservePassed(w *way) (job, error) {
	ticket, err := m.take()
	if err != nil {
		return nil, err
	}
	return func(context.Context, int) (int, int, error) {
		buyer := m.buyer()
		order, status, err := m.reserve(w, buyer, ticket)
		if err != nil || status != 201 {
			return 1, status, err
		}
		if cancelled, err := w.orders.call("DELETE", "/api/orders/"+order, buyer, "", nil); err != nil || cancelled != 204 {
			return 0, cancelled, err
		}
		return 1, status, nil
	}, nil
}

// completeTime bounds the wait for a paid order to be complete.
const completeTime = 20 * time.Second

// buy reserves a ticket, pays for it, and waits until the order is complete.
func (m *market) buy(w *way) job {
	return func(ctx context.Context, _ int) (int, int, error) {
		ticket, err := m.take()
		if err != nil {
			return 0, 0, err
		}
		return m.buyThis(ctx, w, ticket)
	}
}

func (m *market) buyThis(ctx context.Context, w *way, ticket string) (done, status int, err error) {
	buyer, begin := m.buyer(), time.Now()
	order, status, err := m.reserve(w, buyer, ticket)
	if err != nil || status != 201 {
		return 0, status, err
	}
	reserved := time.Now()
	status, err = w.payments.call("POST", "/api/payments", buyer, `{"orderId":"`+order+`","paymentMethod":"pm_card_visa"}`, nil)
	if err != nil || status != 201 {
		return 0, status, err
	}
	paid := time.Now()
	deadline := paid.Add(completeTime)
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		var answer struct {
			Status string `json:"status"`
		}
		status, err := w.orders.call("GET", "/api/orders/"+order, buyer, "", decode(&answer))
		switch {
		case err != nil || status != 200:
			return 0, status, err
		case answer.Status == "complete":
			now := time.Now()
			m.steps.add(purchase{ended: now, reserve: reserved.Sub(begin), pay: paid.Sub(reserved), complete: now.Sub(paid)})
			return 1, 201, nil
		case time.Now().After(deadline):
			return 0, 0, fmt.Errorf("an order was still %s %s after it was paid", answer.Status, completeTime)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// shownReserved reserves a free ticket and returns how long it takes until the tickets service shows it so.
func (m *market) shownReserved(ctx context.Context, w *way) (time.Duration, error) {
	ticket, err := m.take()
	if err != nil {
		return 0, err
	}
	if _, status, err := m.reserve(w, m.buyer(), ticket); err != nil || status != 201 {
		return 0, errors.Join(err, fmt.Errorf("reserve a ticket: status %d", status))
	}
	answered := time.Now()
	for time.Since(answered) < completeTime && ctx.Err() == nil {
		var answer struct {
			Status string `json:"status"`
		}
		if status, err := w.tickets.call("GET", "/api/tickets/"+ticket, "", "", decode(&answer)); err != nil || status != 200 {
			return 0, errors.Join(err, fmt.Errorf("read a ticket: status %d", status))
		}
		if answer.Status == "reserved" {
			return time.Since(answered), nil
		}
		time.Sleep(500 * time.Microsecond)
	}
	return 0, fmt.Errorf("a ticket was not shown reserved within %s", completeTime)
}
