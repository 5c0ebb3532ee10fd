package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// fill is what the stores hold before anything is measured.
type fill struct{ tickets, orders int }

// parseFill reads "tickets=300000,orders=100000"; either may be left out.
func parseFill(text string) (f fill, err error) {
	for part := range strings.SplitSeq(text, ",") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 {
			return f, fmt.Errorf("%q is not NAME=NUMBER", part)
		}
		switch name {
		case "tickets":
			f.tickets = n
		case "orders":
			f.orders = n
		default:
			return f, fmt.Errorf("%q: there are tickets and orders", name)
		}
	}
	f.tickets = max(f.tickets, f.orders) // an order needs a ticket
	return f, nil
}

// fillClients fill the stores at once: as many as make full transactions.
const fillClients = 128

// fill lists tickets and reserves the first of them, at the services' REST API and nowhere else: so what lies in the stores is
// what the services have written, whatever their documents look like. It takes about as long as the rates of listing and
// reserving say.
func (b *bench) fill(ctx context.Context) error {
	f := b.settings.fill
	if f.tickets == 0 {
		return nil
	}
	begin := time.Now()
	taken := &market{users: b.market.users}
	if err := b.reported(ctx, "tickets", f.tickets, func(_ context.Context, client int) (int, int, error) {
		id, status, err := taken.list(b.straight, client)
		if err == nil && status == 201 {
			taken.put(id)
		}
		return 1, status, err
	}); err != nil {
		return err
	}
	if err := b.settled(ctx); err != nil {
		return err
	}
	if err := b.reported(ctx, "orders", f.orders, taken.reserveOwn(b.straight)); err != nil {
		return err
	}
	if err := b.settled(ctx); err != nil {
		return err
	}
	progress("the stores hold %d tickets and %d orders more, after %.0f s", f.tickets, f.orders, time.Since(begin).Seconds())
	return nil
}

// reported does a job n times and says every few seconds how far it is.
func (b *bench) reported(ctx context.Context, what string, n int, work job) error {
	var left, done atomic.Int64
	left.Store(int64(n))
	ended := make(chan struct{})
	defer close(ended)
	begin := time.Now()
	go func() {
		for {
			select {
			case <-ended:
				return
			case <-time.After(10 * time.Second):
				progress("fill: %d of %d %s, %.0f/s", done.Load(), n, what, float64(done.Load())/time.Since(begin).Seconds())
			}
		}
	}()
	made := load(ctx, fillClients, 0, 24*time.Hour, cpuWatch{}, func(ctx context.Context, client int) (int, int, error) {
		if left.Add(-1) < 0 {
			return 0, 0, errOut
		}
		n, status, err := work(ctx, client)
		done.Add(int64(n))
		return n, status, err
	})
	if n == 0 {
		return nil
	}
	if err := errors.Join(made.wrong(201), ctx.Err()); err != nil {
		return fmt.Errorf("fill the stores with %s: %w", what, err)
	}
	return nil
}
