package chaos

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"boxoffice/deploy/proof/check"
	"boxoffice/deploy/proof/client"
)

// pass is a pass that its holder has read.
type pass struct {
	of    listing
	order string
	code  string
}

// newestPasses is how many passes are at the doors.
const newestPasses = 40

// boughtPlace is an order of a ticket for a show that a user of this client may have bought.
func (c *simulatedClient) boughtPlace() (payment, bool) {
	var bought []payment
	for _, p := range c.payments {
		if p.of.show != nil {
			bought = append(bought, p)
		}
	}
	return pick(c.chance, bought)
}

// readPass reads the pass of an order. From then on the show's owner may check it in.
func (c *simulatedClient) readPass(ctx context.Context) {
	bought, ok := c.boughtPlace()
	if !ok {
		return
	}
	read, ok := decode[client.Pass](c.do(ctx, "read a pass", bought.buyer.token, client.ReadPass(bought.order)).Response)
	if !ok {
		return
	}
	if read.OrderID != bought.order || read.TicketID != bought.of.id || read.ShowID != bought.of.show.id {
		c.stats.unexpectedly("the pass of order %s is of order %s, ticket %s and show %s", bought.order, read.OrderID, read.TicketID, read.ShowID)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.passes = append(c.passes, pass{bought.of, bought.order, read.Code})
}

// passAtDoor is one of the newest passes.
func (c *simulatedClient) passAtDoor() (pass, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return pick(c.chance, c.passes[max(0, len(c.passes)-newestPasses):])
}

// checkIn checks a pass in, at two doors at the same moment. At most one of them may be granted. A ticket whose pass was used is not sold
// again, and a listing of it ends.
func (c *simulatedClient) checkIn(ctx context.Context) {
	p, ok := c.passAtDoor()
	if !ok {
		return
	}
	call := time.Now()
	var doors sync.WaitGroup
	for door := range 2 {
		doors.Go(func() {
			r := client.CheckIn(p.of.show.id, p.code).WithKey(uuid.NewString())
			x := exchange{Response: c.send(ctx, c.gateway+door, p.of.show.token, r), call: call, answer: time.Now()}
			if !c.endedWithLoad(ctx, x.Response) {
				c.stats.count("check in", x.Response)
			}
			c.record(x, check.Request{Kind: check.CheckIn, Ticket: p.of.id, Order: p.order})
			if checked, ok := decode[client.CheckedIn](x.Response); ok {
				c.history.CheckedIn(check.GrantedCheckIn{Order: checked.OrderID, Ticket: checked.TicketID, Show: checked.ShowID, UsedAt: checked.UsedAt})
			}
		})
	}
	doors.Wait()
	c.resaleMayEnd(p.of.id, call)
}

// resell lists the ticket of an order again. From then on the first listing may stay sold though its order has ended.
func (c *simulatedClient) resell(ctx context.Context) {
	bought, ok := c.boughtPlace()
	if !ok {
		return
	}
	price := bought.amount * int64(70+c.chance.IntN(60)) / 100
	x := c.doWithKey(ctx, "resell a ticket", bought.buyer, client.Resell(bought.of.id, max(50, price)))
	c.record(x, check.Request{Kind: check.Resell, Ticket: bought.of.id})
	c.addListing(x.Response, listing{seller: bought.buyer, show: bought.of.show, resaleOf: bought.of.id})
}

// resaleMayEnd records that the resale of a ticket may end from a moment on, also if it is sold: its pass may be used first, or its own order may be
// refunded.
func (c *simulatedClient) resaleMayEnd(ticket string, from time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.resalesEnd[ticket]; !known {
		c.resalesEnd[ticket] = from // for a resale whose listing is not answered yet
	}
	for _, t := range c.tickets {
		if t.resaleOf == ticket {
			c.history.Add(check.Request{Kind: check.Revoke, Ticket: t.id, Call: from})
		}
	}
}
