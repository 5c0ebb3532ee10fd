package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"boxoffice/deploy/proof/client"
)

// Measures what people do with what they have bought: read passes, check in, sell a place again. And the pages of the storefront.

const (
	// checkedIn is how many passes are prepared to be checked in: few, because each is a purchase, which takes longer. So they are used up
	// within a second or two.
	checkedIn = 4000
	// resoldRate is how many tickets that are sold again are prepared for each second. A faster workload ends early.
	resoldRate = 300
	// passesRead are the passes that are read.
	passesRead = 500
	// placesOfPasses is how many places a show has whose passes are used up.
	placesOfPasses = 200
	// numberOfPasses is the number of the first of these shows, far behind those of the catalogue's workloads.
	numberOfPasses = 1_000_000
)

// pass is a complete order of a place.
type pass struct {
	order, ticket, show, code string
	buyer                     int    // the number of a user
	owner                     string // the token of the show's owner
}

// resale is a ticket that its buyer sells again.
type resale struct {
	ticket string
	holder int
}

// passes are complete orders that the workloads use up.
type passes struct {
	shows int // that were made for them

	mu      sync.Mutex
	read    []pass // that are read, and never used
	free    []pass
	resales []resale
}

// take removes the first entry of a list that is used up.
func take[T any](mu *sync.Mutex, list *[]T) (T, error) {
	mu.Lock()
	defer mu.Unlock()
	if len(*list) == 0 {
		var none T
		return none, errExhausted
	}
	first := (*list)[0]
	*list = (*list)[1:]
	return first, nil
}

// passWorkloads are the rows about passes, check-in and resale.
func (b *bench) passWorkloads() []*workload {
	if len(b.catalogues) == 0 {
		return nil // there are no shows
	}
	resold := int(resoldRate * (b.settings.warm + b.settings.span).Seconds())
	return []*workload{
		{name: "read a pass", expected: []int{200}, prepare: b.preparePassesToRead, job: b.readPass("application/json")},
		{name: "read a pass as a picture", expected: []int{200}, prepare: b.preparePassesToRead, job: b.readPass("image/svg+xml")},
		{name: "check a pass in", expected: []int{200}, publishes: true, job: b.checkIn, withoutWarmUp: true,
			prepare: func(ctx context.Context) error { return b.preparePasses(ctx, checkedIn) }},
		{name: "buy a resale", expected: []int{201}, publishes: true, job: b.buyResale, onlyGateway: true,
			prepare: func(ctx context.Context) error { return b.prepareResales(ctx, resold) }},
	}
}

func (b *bench) readPass(accept string) func(*route) (job, error) {
	return func(via *route) (job, error) {
		var turn atomic.Uint64
		return func(context.Context, int) (int, int, error) {
			one := b.passes.read[turn.Add(1)%uint64(len(b.passes.read))]
			status, err := via.orders.call(b.data.users[one.buyer], client.ReadPass(one.order).With("Accept", accept), nil)
			return 1, status, err
		}, nil
	}
}

func (b *bench) checkIn(via *route) (job, error) {
	return func(context.Context, int) (int, int, error) {
		one, err := take(&b.passes.mu, &b.passes.free)
		if err != nil {
			return 0, 0, err
		}
		status, err := via.orders.call(one.owner, client.CheckIn(one.show, one.code), nil)
		return 1, status, err
	}, nil
}

func (b *bench) buyResale(via *route) (job, error) {
	return func(ctx context.Context, _ int) (int, int, error) {
		one, err := take(&b.passes.mu, &b.passes.resales)
		if err != nil {
			return 0, 0, err
		}
		buyer := b.data.buyerNumber()
		if buyer == one.holder {
			buyer = one.holder - 1 // another buyer, or the last seller, who may buy what a buyer sells
		}
		return b.data.buyTicketAs(ctx, via, b.data.users[buyer], one.ticket)
	}, nil
}

func (b *bench) preparePassesToRead(ctx context.Context) error {
	if len(b.passes.read) > 0 {
		return nil
	}
	if err := b.preparePasses(ctx, passesRead); err != nil {
		return err
	}
	b.passes.read, b.passes.free = b.passes.free[:passesRead], b.passes.free[passesRead:]
	return nil
}

// preparePasses sells places, so that enough passes are there, with their codes.
func (b *bench) preparePasses(ctx context.Context, enough int) error {
	missing := enough - len(b.passes.free)
	if missing <= 0 {
		return nil
	}
	sold, err := b.sellPlaces(ctx, missing)
	if err != nil {
		return err
	}
	err = b.repeatNumbered(ctx, "passes", len(sold), func(_, i int) (int, int, error) {
		var read client.Pass
		status, err := b.direct.orders.call(b.data.users[sold[i].buyer], client.ReadPass(sold[i].order), body(&read))
		if sold[i].code = read.Code; err == nil && status == http.StatusOK {
			status = http.StatusCreated // as repeatNumbered expects
		}
		return 1, status, err
	})
	b.passes.free = append(b.passes.free, sold...)
	return err
}

// prepareResales sells places, and has their buyers sell them again.
func (b *bench) prepareResales(ctx context.Context, enough int) error {
	missing := enough - len(b.passes.resales)
	if missing <= 0 {
		return nil
	}
	sold, err := b.sellPlaces(ctx, missing)
	if err != nil {
		return err
	}
	resales := make([]resale, len(sold))
	err = b.repeatNumbered(ctx, "resales", len(sold), func(_, i int) (int, int, error) {
		resales[i].holder = sold[i].buyer
		status, err := b.direct.tickets.call(b.data.users[sold[i].buyer], client.Resell(sold[i].ticket, 2000), createdID(&resales[i].ticket))
		return 1, status, err
	})
	if err != nil {
		return err
	}
	b.passes.resales = append(b.passes.resales, resales...)
	return b.waitHandled(ctx)
}

// sellPlaces announces shows, lists places in them and buys all. Each order is complete, and all services know it.
func (b *bench) sellPlaces(ctx context.Context, n int) ([]pass, error) {
	shows := make([]filledShow, (n+placesOfPasses-1)/placesOfPasses)
	err := b.repeatNumbered(ctx, "shows", len(shows), func(_, i int) (int, int, error) {
		number := b.passes.shows + i
		s := filledShow{seller: number % (len(b.data.users) / 2), NewShow: b.program.show(numberOfPasses + number)}
		status, err := b.direct.catalogue.call(b.data.seller(s.seller), client.CreateShow(s.NewShow), createdID(&s.id))
		shows[i] = s
		return 1, status, err
	})
	if err != nil {
		return nil, err
	}
	b.passes.shows += len(shows)
	if err := b.waitHandled(ctx); err != nil {
		return nil, err
	}
	places, err := b.listPlaces(ctx, shows, n)
	if err != nil {
		return nil, err
	}
	sold := make([]pass, n)
	err = b.repeatNumbered(ctx, "purchases", n, func(_, i int) (int, int, error) {
		one := pass{ticket: places[i].id, show: places[i].show, owner: b.data.seller(places[i].seller), buyer: b.data.buyerNumber()}
		buyer := b.data.users[one.buyer]
		order, status, err := b.data.reserve(b.direct, buyer, one.ticket)
		if err == nil && status == http.StatusCreated {
			one.order = order
			status, err = b.data.pay(ctx, b.direct, buyer, order)
		}
		sold[i] = one
		return 1, status, err
	})
	if err != nil {
		return nil, err
	}
	if err := b.waitHandled(ctx); err != nil {
		return nil, err
	}
	// An order is complete some events after its payment.
	last := sold[len(sold)-1]
	_, err = backoff.Retry(ctx, func() (client.Pass, error) {
		var read client.Pass
		status, err := b.direct.orders.call(b.data.users[last.buyer], client.ReadPass(last.order), body(&read))
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("read a pass: status %d", status)
		}
		return read, err
	}, backoff.WithBackOff(backoff.NewConstantBackOff(50*time.Millisecond)), backoff.WithMaxElapsedTime(completeTime))
	return sold, errors.Join(err, b.waitHandled(ctx))
}

// storefrontWorkloads are the pages that the gateway writes: what is on, and a show. Browsers take them compressed.
func (b *bench) storefrontWorkloads() []*workload {
	if len(b.catalogues) == 0 {
		return nil
	}
	page := func(path string) client.Request {
		return client.Request{Method: http.MethodGet, Path: path}.With("Accept", "text/html").With("Accept-Encoding", "gzip")
	}
	whatIsOn := func(i int) client.Request {
		if i%2 == 0 {
			return page("/").WithQuery("category", b.program.shows[i].Category)
		}
		return page("/")
	}
	aShow := func(i int) client.Request { return page("/shows/" + b.program.shows[i].id) }
	return []*workload{
		{name: "storefront, what is on", shows: true, expected: []int{200}, onlyGateway: true, job: b.readPages(whatIsOn)},
		{name: "storefront, a show", shows: true, expected: []int{200}, onlyGateway: true, job: b.readPages(aShow)},
	}
}
