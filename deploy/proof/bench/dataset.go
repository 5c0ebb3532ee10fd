package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"boxoffice/deploy/proof/client"
)

// dataset is what the workloads use: users, and tickets that are not reserved.
type dataset struct {
	users  []string // their tokens
	listed []string // the tickets that were listed first; workloads read them and never reserve them

	mu   sync.Mutex
	free []string

	purchases purchaseLog
}

// password is the password of every user. Its bcrypt hash takes time, so there are few users.
const password = "a password for the bench"

func email(user int) string { return fmt.Sprintf("user%d@example.com", user) }

func (d *dataset) signUp(ctx context.Context, via *route, users int) error {
	d.users = make([]string, users)
	var next atomic.Int64
	made := load(ctx, runtime.NumCPU(), 0, time.Hour, cpuReader{}, func(context.Context, int) (int, int, error) {
		user := int(next.Add(1)) - 1
		if user >= users {
			return 0, 0, errExhausted
		}
		var signedIn client.SignedIn
		status, err := via.auth.call("", client.SignUp(email(user), password), body(&signedIn))
		d.users[user] = signedIn.Token
		return 1, status, err
	})
	if err := made.problems(201); err != nil {
		return fmt.Errorf("sign up: %w", err)
	}
	return nil
}

// seller is the user as which a client sells. Sellers are the first half of the users, for a seller may not buy the own tickets.
func (d *dataset) seller(client int) string { return d.users[client%(len(d.users)/2)] }

// buyer is a random user of the other half, for most buyers buy once.
func (d *dataset) buyer() string { return d.users[d.buyerNumber()] }

func (d *dataset) buyerNumber() int { return len(d.users)/2 + rand.IntN(len(d.users)-len(d.users)/2) }

func (d *dataset) put(ticket string) {
	d.mu.Lock()
	d.free = append(d.free, ticket)
	d.mu.Unlock()
}

// take returns the free ticket that was listed first.
func (d *dataset) take() (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.free) == 0 {
		return "", errExhausted
	}
	ticket := d.free[0]
	d.free = d.free[1:]
	return ticket, nil
}

func (d *dataset) left() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.free)
}

// supply lists tickets until enough are free.
func (d *dataset) supply(ctx context.Context, via *route, clients, enough int) error {
	var missing atomic.Int64
	if missing.Store(int64(enough - d.left())); missing.Load() <= 0 {
		return nil
	}
	made := load(ctx, clients, 0, time.Hour, cpuReader{}, func(_ context.Context, client int) (int, int, error) {
		if missing.Add(-1) < 0 {
			return 0, 0, errExhausted
		}
		ticket, status, err := d.list(via, client)
		if err == nil && status == 201 {
			d.put(ticket)
		}
		return 1, status, err
	})
	if err := made.problems(201); err != nil {
		return fmt.Errorf("list tickets: %w", err)
	}
	return nil
}

func (d *dataset) list(via *route, client int) (ticket string, status int, err error) {
	status, err = via.tickets.call(d.seller(client), listTicket, createdID(&ticket))
	return ticket, status, err
}

func (d *dataset) reserve(via *route, buyer, ticket string) (order string, status int, err error) {
	status, err = via.orders.call(buyer, client.Reserve(ticket), createdID(&order))
	return order, status, err
}

var listTicket = client.ListTicket("Front row, seat 17", 4500)
