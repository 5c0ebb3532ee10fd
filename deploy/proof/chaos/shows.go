package chaos

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"boxoffice/deploy/proof/check"
	"boxoffice/deploy/proof/client"
)

// show is a show with its owner.
type show struct {
	id    string
	name  string
	owner *user
	token string // the owner's at the announcement, for other clients too; it may have been revoked since
	far   bool   // it starts long after the run
	// cancelled is the call of a request that may have cancelled it, or may have deleted its owner's account; zero if there is none. The load's mutex protects it.
	cancelled time.Time
}

const (
	newestShows = 12
	// rowsOfShow and placesOfRow are few, so that a place is wanted twice, and listed again after a deletion.
	rowsOfShow, placesOfRow = 2, 6
	// twiceShare: a place is listed twice at the same moment so often.
	twiceShare = 4
	// soonest and latest are how long after its announcement a show starts that starts within the run.
	soonest, latest = 4 * time.Second, 25 * time.Second
)

// showWords are the words of shows' names.
var showWords = strings.Fields("winter summer midnight river stone paper golden silent northern electric velvet garden mirror thunder harbour lantern")

// actOnShows does one thing with shows, their tickets or the catalogue.
func (c *simulatedClient) actOnShows(ctx context.Context) {
	switch n := c.chance.IntN(100); {
	case n < 12:
		c.createShow(ctx)
	case n < 18:
		c.changeShow(ctx)
	case n < 20:
		c.cancelShow(ctx)
	case n < 22:
		c.putImage(ctx)
	case n < 52:
		c.listPlace(ctx)
	case n < 57:
		c.reserve(ctx, c.endingTicket())
	case n < 61:
		c.search(ctx)
	case n < 64:
		c.readCatalogueShow(ctx)
	case n < 76:
		c.chooseInCatalogue(ctx)
	case n < 83:
		c.readPass(ctx)
	case n < 88:
		c.checkIn(ctx)
	case n < 95:
		c.resell(ctx)
	case n < 97:
		c.do(ctx, "read what is available", "", client.ReadAvailable().WithQuery("limit", 20))
	default:
		c.readImage(ctx)
	}
}

// startTime is a random start of a show.
func (c *simulatedClient) startTime(far bool) time.Time {
	if far {
		return time.Now().Add(time.Duration(1+c.chance.IntN(300)) * 24 * time.Hour).Truncate(time.Minute)
	}
	return time.Now().Add(between(c.chance, soonest, latest)).Truncate(time.Millisecond)
}

func (c *simulatedClient) showName() string {
	first, _ := pick(c.chance, showWords)
	second, _ := pick(c.chance, showWords)
	return fmt.Sprintf("%s %s %d", first, second, c.chance.IntN(1_000_000))
}

// announced is a random show. Some start within the run.
func (c *simulatedClient) announced() (body client.NewShow, far bool) {
	far = c.chance.IntN(5) > 1
	city, _ := pick(c.chance, []string{"Berlin", "Paris", "Lisbon"})
	category, _ := pick(c.chance, []string{"music", "theatre", "sport"})
	body = client.NewShow{
		Name: c.showName(), Venue: "Hall", City: city, Country: map[string]string{"Berlin": "DE", "Paris": "FR", "Lisbon": "PT"}[city], StartsAt: c.startTime(far),
		TimeZone: "Europe/" + city, Category: category,
	}
	if c.chance.IntN(2) == 0 {
		body.MaxMarkup = new(c.chance.IntN(30))
	}
	return body, far
}

// recordShow adds the version of a show in a response to the history.
func (c *simulatedClient) recordShow(r client.Response) (s client.Show, ok bool) {
	if s, ok = decode[client.Show](r); ok {
		c.history.Showed(s.ID, check.ShowVersion{Version: s.Version, Name: s.Name})
	}
	return s, ok
}

func (c *simulatedClient) createShow(ctx context.Context) {
	owner := c.anyUser()
	body, far := c.announced()
	made, ok := c.recordShow(c.doWithKey(ctx, "announce a show", owner, client.CreateShow(body)).Response)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shows = append(c.shows, &show{id: made.ID, name: made.Name, owner: owner, token: owner.token, far: far})
}

// ownShow is one of the newest shows that a user of this client owns, and that nobody has tried to cancel.
func (c *simulatedClient) ownShow() (*show, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var own []*show
	for _, s := range c.shows {
		if s.cancelled.IsZero() && slices.Contains(c.users, s.owner) {
			own = append(own, s)
		}
	}
	return pick(c.chance, own[max(0, len(own)-newestShows):])
}

// newShow is one of the newest shows.
func (c *simulatedClient) newShow() (*show, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return pick(c.chance, c.shows[max(0, len(c.shows)-4*newestShows):])
}

// changeShow changes a show with one or two requests at the same time. Both have the same version, so at most one may be granted.
func (c *simulatedClient) changeShow(ctx context.Context) {
	own, ok := c.ownShow()
	if !ok {
		return
	}
	x := c.do(ctx, "read a show", "", client.ReadShow(own.id))
	s, ok := decode[client.Show](x.Response)
	if !ok {
		return
	}
	var changing sync.WaitGroup
	for i := range 1 + c.chance.IntN(2) {
		body := client.NewShow{
			Name: c.showName(), Venue: s.Venue, City: s.City, Country: s.Country, StartsAt: s.StartsAt, TimeZone: s.TimeZone, Category: s.Category,
			MaxMarkup: s.MaxMarkup, Version: s.Version,
		}
		if c.chance.IntN(2) == 0 {
			body.StartsAt = c.startTime(own.far)
		}
		changing.Go(func() {
			response := c.send(ctx, c.gateway+i, own.owner.token, client.ChangeShow(own.id, body))
			if !c.endedWithLoad(ctx, response) {
				c.stats.count("change a show", response)
			}
			c.recordShow(response)
		})
	}
	changing.Wait()
}

// cancelShow cancels a show. From its call on, orders of its tickets may end, also complete ones.
func (c *simulatedClient) cancelShow(ctx context.Context) {
	own, ok := c.ownShow()
	if !ok {
		return
	}
	call := time.Now()
	c.mu.Lock()
	own.cancelled = call
	c.mu.Unlock()
	x := c.do(ctx, "cancel a show", own.owner.token, client.CancelShow(own.id))
	c.mu.Lock()
	defer c.mu.Unlock()
	if !x.Granted() && !unclear(x.Response) && x.Status < 500 {
		own.cancelled = time.Time{}
		return
	}
	if x.Granted() {
		c.history.ShowCancelled(own.id)
	}
	c.ticketsMayBeRevoked(own, call)
}

// ticketsMayBeRevoked records that the tickets of a show may be revoked from a moment on. The caller holds the load's mutex.
func (l *load) ticketsMayBeRevoked(of *show, from time.Time) {
	for _, t := range l.tickets {
		if t.show == of {
			l.history.Add(check.Request{Kind: check.Revoke, Ticket: t.id, Call: from})
		}
	}
}

// showsMayEnd records that the shows of a user whose account may be deleted may be cancelled from a moment on.
func (l *load) showsMayEnd(owner *user, from time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.shows {
		if s.owner == owner && s.cancelled.IsZero() {
			s.cancelled = from
			l.ticketsMayBeRevoked(s, from)
		}
	}
}

// picture is a small image in a random colour.
func (c *simulatedClient) picture() []byte {
	picture := image.NewRGBA(image.Rect(0, 0, 40, 30))
	shade := color.RGBA{R: uint8(c.chance.IntN(256)), G: uint8(c.chance.IntN(256)), B: uint8(c.chance.IntN(256)), A: 255}
	for x := range 40 {
		for y := range 30 {
			picture.Set(x, y, shade)
		}
	}
	var file bytes.Buffer
	_ = png.Encode(&file, picture) // it cannot fail with such an image
	return file.Bytes()
}

func (c *simulatedClient) putImage(ctx context.Context) {
	if own, ok := c.ownShow(); ok {
		c.recordShow(c.do(ctx, "upload an image", own.owner.token, client.PutImage(own.id, "image/png", c.picture())).Response)
	}
}

// readImage reads the image of a show, if it has one.
func (c *simulatedClient) readImage(ctx context.Context) {
	of, ok := c.newShow()
	if !ok {
		return
	}
	shown, ok := decode[client.Show](c.do(ctx, "read a show", "", client.ReadShow(of.id)).Response)
	if ok && shown.Image != nil {
		c.do(ctx, "read an image", "", client.Request{Method: http.MethodGet, Path: shown.Image.URL})
	}
}

// listPlace lists a place of a show, sometimes with two requests at the same moment. A place with a number may be listed once. Some prices
// exceed the show's cap.
func (c *simulatedClient) listPlace(ctx context.Context) {
	own, ok := c.ownShow()
	if !ok {
		return
	}
	offer := client.Offer{ShowID: own.id, FaceValue: 1000 + int64(c.chance.IntN(4000))}
	offer.Price = offer.FaceValue * int64(80+c.chance.IntN(60)) / 100
	if c.chance.IntN(3) == 0 {
		offer.Title = "A good place"
	}
	if c.chance.IntN(10) > 0 {
		offer.Seat = &client.Place{Section: "Stalls", Row: strconv.Itoa(c.chance.IntN(rowsOfShow) + 1), Number: strconv.Itoa(c.chance.IntN(placesOfRow) + 1)}
	} else {
		offer.Seat = &client.Place{Section: "Standing"}
	}
	if c.chance.IntN(twiceShare) > 0 {
		c.addListing(c.doWithKey(ctx, "list a place", own.owner, client.ListPlace(offer)).Response, listing{seller: own.owner, show: own})
		return
	}
	var both [2]client.Response
	var sending sync.WaitGroup
	for i := range both {
		sending.Go(func() {
			both[i] = c.send(ctx, c.gateway+i, own.owner.token, client.ListPlace(offer).WithKey(uuid.NewString()))
		})
	}
	sending.Wait()
	for _, response := range both {
		if !c.endedWithLoad(ctx, response) {
			c.stats.count("list a place", response)
		}
		c.addListing(response, listing{seller: own.owner, show: own})
	}
}

// endingTicket is a ticket of a show that has started, or starts soon.
func (c *simulatedClient) endingTicket() listing {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ending []listing
	for _, t := range c.tickets[max(0, len(c.tickets)-5*newestTickets):] {
		if t.show != nil && !t.show.far && t.show.cancelled.IsZero() {
			ending = append(ending, t)
		}
	}
	t, _ := pick(c.chance, ending)
	return t
}

// mayBeVoid records that complete orders of a ticket may end from a time on, if another ticket may get its place.
func (c *simulatedClient) mayBeVoid(t listing, from time.Time) {
	if t.show != nil {
		c.history.Add(check.Request{Kind: check.Revoke, Ticket: t.id, Call: from})
	}
}

func (c *simulatedClient) search(ctx context.Context) {
	request := client.SearchShows()
	if wanted, ok := c.newShow(); ok && c.chance.IntN(3) > 0 {
		word := strings.Fields(wanted.name)[c.chance.IntN(2)]
		request = request.WithQuery("q", word[:len(word)-c.chance.IntN(3)])
	} else {
		request = request.WithQuery("city", "Berlin").WithQuery("sort", "price")
	}
	page, _ := decode[client.Found](c.do(ctx, "search", "", request).Response)
	for _, s := range page.Shows {
		if s.Status != "scheduled" {
			c.stats.unexpectedly("a search found the show %s, which is %s", s.ID, s.Status)
		}
	}
}

func (c *simulatedClient) readCatalogueShow(ctx context.Context) {
	if of, ok := c.newShow(); ok {
		c.do(ctx, "read what is left", "", client.ReadCatalogueShow(of.id))
	}
}

// chooseInCatalogue reads the tickets of a show, and reserves one of them.
func (c *simulatedClient) chooseInCatalogue(ctx context.Context) {
	of, ok := c.newShow()
	if !ok {
		return
	}
	page, _ := decode[[]client.Ticket](c.do(ctx, "read a show's tickets", "", client.ReadShowTickets(of.id)).Response)
	if chosen, ok := pick(c.chance, page); ok && c.chance.IntN(2) == 0 {
		c.reserve(ctx, listing{id: chosen.ID, seller: of.owner, show: of})
	}
}
