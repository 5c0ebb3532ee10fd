package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/client"
)

// followed is an open stream of live updates.
type followed struct {
	t      testing.TB
	stream *client.Stream
	cancel context.CancelFunc
	lastID string
}

// streamTime bounds the wait for an event.
const streamTime = 30 * time.Second

// tryFollow opens a stream at an address. Its connection is its own, as that of a browser.
func tryFollow(t testing.TB, url, lastID string, shows ...string) (*followed, error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	r := client.FollowShows(shows...)
	if lastID != "" {
		r = r.With("Last-Event-ID", lastID)
	}
	stream, err := client.New(url, client.Options{Transport: &http.Transport{DisableKeepAlives: true}}).Stream(ctx, r)
	if err != nil {
		cancel()
		return nil, err
	}
	f := &followed{t: t, stream: stream, cancel: cancel}
	if e := f.next(); e.Type != "ready" {
		return nil, fmt.Errorf("the first event is %s", e.Type)
	}
	return f, nil
}

func follow(t testing.TB, url, lastID string, shows ...string) *followed {
	t.Helper()
	f, err := tryFollow(t, url, lastID, shows...)
	require.NoError(t, err)
	return f
}

func (f *followed) next() client.StreamEvent {
	f.t.Helper()
	late := time.AfterFunc(streamTime, f.cancel)
	defer late.Stop()
	e, err := f.stream.Next()
	require.NoError(f.t, err)
	f.lastID = e.ID
	return e
}

// requireListing waits for the next event, which must be a change of a listing with so many left.
func (f *followed) requireListing(change string, ticket client.Ticket, left int) client.ListingUpdate {
	f.t.Helper()
	e := f.next()
	if e.Type == "show" { // that it is new
		e = f.next()
	}
	require.Equal(f.t, "listing", e.Type, "%s", e.Data)
	update, err := e.Listing()
	require.NoError(f.t, err)
	require.Equal(f.t, change, update.Change, "%s", e.Data)
	require.Equal(f.t, ticket.ID, update.TicketID)
	require.Equal(f.t, left, update.Left, "%s", e.Data)
	return update
}

// requireEnd waits until the server has ended the stream.
func (f *followed) requireEnd() {
	f.t.Helper()
	late := time.AfterFunc(streamTime, f.cancel)
	defer late.Stop()
	for {
		if _, err := f.stream.Next(); err != nil {
			require.True(f.t, late.Stop(), "the stream goes on")
			return
		}
	}
}

func TestLive_AStreamHasWhatHappensToTheListingsOfAShow(t *testing.T) {
	t.Parallel()
	s := pooledStack(t, nil)
	seller, buyer := s.signUp(t), s.signUp(t)
	show, other := seller.announce(t, newShow(inDays(30))), seller.announce(t, newShow(inDays(30)))
	s.waitLeft(t, show.ID, 0) // before the catalogue has the show, its listings have no updates
	f := follow(t, s.GatewayURL(), "", show.ID)

	first := seller.listPlace(t, client.Offer{ShowID: show.ID, Seat: &client.Place{Section: "A", Row: "1", Number: "7"}, Price: 2000})
	update := f.requireListing("new", first, 1)
	require.Equal(t, client.ListingUpdate{
		Change: "new", ShowID: show.ID, TicketID: first.ID, Price: 2000, Currency: "usd", Seat: &client.Place{Section: "A", Row: "1", Number: "7"}, Left: 1, PriceFrom: 2000,
	}, update)
	seller.listPlace(t, client.Offer{ShowID: other.ID, Price: 1000})
	second := seller.listPlace(t, client.Offer{ShowID: show.ID, Price: 1500})
	require.EqualValues(t, 1500, f.requireListing("new", second, 2).PriceFrom)

	requireStatus(t, 200, seller.call(t, client.EditTicket(second.ID, client.Offer{Price: 1200, Version: second.Version})))
	require.EqualValues(t, 1200, f.requireListing("changed", second, 2).PriceFrom)

	cancelled := buyer.reserve(t, first.ID)
	f.requireListing("reserved", first, 1)
	buyer.cancel(t, cancelled.ID)
	f.requireListing("free", first, 2)

	order := buyer.reserve(t, second.ID)
	require.EqualValues(t, 2000, f.requireListing("reserved", second, 1).PriceFrom)
	buyer.payUntilAccepted(t, order.ID, "pm_card_visa")
	f.requireListing("sold", second, 1)

	requireStatus(t, 204, seller.call(t, client.DeleteTicket(first.ID)))
	require.Zero(t, f.requireListing("withdrawn", first, 0).PriceFrom, "there is none when nothing is left")

	changed := newShow(inDays(30))
	changed.Name = "Renamed"
	requireStatus(t, 200, seller.call(t, client.ChangeShow(show.ID, changed)))
	for _, change := range []string{"updated", "cancelled"} {
		e := f.next()
		require.Equal(t, "show", e.Type, "%s", e.Data)
		update, err := e.Show()
		require.NoError(t, err)
		require.Equal(t, client.ShowUpdate{Change: change, ShowID: show.ID}, update)
		if change == "updated" {
			requireStatus(t, 204, seller.call(t, client.CancelShow(show.ID)))
		}
	}
}

func TestLive_AReservationThatIsNotPaidIsFreeAgain(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{Env: map[string]string{"RESERVATION_WINDOW": "5s", "REMINDER_PERIOD": "1s"}})
	seller, buyer := s.signUp(t), s.signUp(t)
	show := seller.announce(t, newShow(inDays(30)))
	s.waitLeft(t, show.ID, 0)
	f := follow(t, s.GatewayURL(), "", show.ID)
	listed := seller.listPlace(t, client.Offer{ShowID: show.ID, Price: 2000})
	f.requireListing("new", listed, 1)
	buyer.reserve(t, listed.ID)
	f.requireListing("reserved", listed, 0)
	f.requireListing("free", listed, 1)
}

func TestLive_AStreamContinuesAtAnyReplicaAndAfterARestart(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{Replicas: 2})
	seller := s.signUp(t)
	show := seller.announce(t, newShow(inDays(30)))
	replicas := []string{s.URL("catalogue"), s.URL("catalogue-2")}
	s.requireLeft(t, seller, show.ID, 0)
	streams := []*followed{follow(t, replicas[0], "", show.ID), follow(t, replicas[1], "", show.ID)}
	through := follow(t, s.GatewayURL(), "", show.ID)
	begin := streams[0].lastID

	tickets := make([]client.Ticket, 4)
	ids := make([]string, len(tickets))
	for i := range tickets {
		tickets[i] = seller.listPlace(t, client.Offer{ShowID: show.ID, Price: int64(1000 + i)})
		streams[0].requireListing("new", tickets[i], i+1)
		streams[1].requireListing("new", tickets[i], i+1)
		through.requireListing("new", tickets[i], i+1)
		ids[i] = streams[0].lastID
		require.Equal(t, ids[i], streams[1].lastID, "the same id at each replica")
		require.Equal(t, ids[i], through.lastID)
	}
	for _, replica := range replicas {
		f := follow(t, replica, ids[1], show.ID)
		require.Equal(t, ids[1], f.lastID)
		f.requireListing("new", tickets[2], 3)
		f.requireListing("new", tickets[3], 4)
		require.Equal(t, ids[3], f.lastID)
	}

	// The stream at the replica that is killed ends; at the other it goes on.
	s.kill(t, "catalogue")
	streams[0].requireEnd()
	fifth := seller.listPlace(t, client.Offer{ShowID: show.ID, Price: 1004})
	streams[1].requireListing("new", fifth, 5)
	again := follow(t, s.GatewayURL(), ids[3], show.ID)
	again.requireListing("new", fifth, 5)
	s.start(t, "catalogue")
	s.waitReady(t, "catalogue")
	f := follow(t, replicas[0], ids[3], show.ID)
	f.requireListing("new", fifth, 5)
	require.Equal(t, streams[1].lastID, f.lastID)

	// From before the first listing: this replica has read the feed again from its begin.
	f = follow(t, replicas[0], begin, show.ID)
	f.requireListing("new", tickets[0], 1)
	f = follow(t, replicas[0], "another-epoch-1-0", show.ID)
	require.Equal(t, "reset", f.next().Type, "a position that is not known")
	f.requireNone(t, seller, show)
}

// A client reads a page at one replica and opens its stream at another, which is behind or ahead: it misses nothing in between.
func TestLive_AStreamContinuesThePageOfAnotherReplica(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{Replicas: 2})
	seller := s.signUp(t)
	show := seller.announce(t, newShow(inDays(30)))
	replicas := []string{s.URL("catalogue"), s.URL("catalogue-2")}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // a stream without the update that is awaited would not end
	t.Cleanup(cancel)
	s.requireLeft(t, seller, show.ID, 0)
	for round := range 6 {
		seller.listPlace(t, client.Offer{ShowID: show.ID, Price: 1000})
		page := s.call(t, client.ReadShowTickets(show.ID).At(replicas[round%2]))
		has := len(decode[[]client.Ticket](t, page))
		seller.listPlace(t, client.Offer{ShowID: show.ID, Price: 2000})
		stream, err := client.New(replicas[(round+1)%2], client.Options{}).Stream(ctx, client.FollowShowsAfter([]string{page.Header.Get("Catalogue-Position")}, show.ID))
		require.NoError(t, err)
		for missing := 2*(round+1) - has; missing > 0; {
			e, err := stream.Next()
			require.NoError(t, err)
			require.NotEqual(t, "reset", e.Type)
			if e.Type != "listing" {
				continue
			}
			update, err := e.Listing()
			require.NoError(t, err)
			missing = 2*(round+1) - update.Left // the two listings may come in either order
		}
		require.NoError(t, stream.Close())
	}
}

// requireNone lists a ticket, whose update must be the next event.
func (f *followed) requireNone(t testing.TB, seller *testUser, show client.Show) {
	t.Helper()
	listed := seller.listPlace(t, client.Offer{ShowID: show.ID, Price: 5000})
	e := f.next()
	update, err := e.Listing()
	require.NoError(t, err)
	require.Equal(t, listed.ID, update.TicketID, "%s", e.Data)
}

// liveMetric reads a metric of the catalogue's streams. It is 0 if it was never counted.
func (s *testStack) liveMetric(t testing.TB, name string) float64 {
	t.Helper()
	value, _ := s.metric(t, "catalogue", "boxoffice_live_"+name)
	return value
}

func TestLive_StreamsHaveLimitsAndEndWithTheirClients(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{Env: map[string]string{"STREAMS_PER_ADDRESS": "2"}, AppEnv: map[string]map[string]string{"catalogue": {"MAX_STREAMS": "3"}}})
	show := s.signUp(t).announce(t, newShow(inDays(30)))
	open := func() float64 { return s.liveMetric(t, "streams") }

	first := follow(t, s.GatewayURL(), "", show.ID)
	follow(t, s.GatewayURL(), "", show.ID)
	_, err := tryFollow(t, s.GatewayURL(), "", show.ID)
	var refused *client.Problem
	require.ErrorAs(t, err, &refused)
	require.Equal(t, 503, refused.Status)
	require.Equal(t, "too_many_streams", refused.Code())
	eventuallyEqual(t, 2.0, "the streams at the catalogue", open)
	direct := follow(t, s.URL("catalogue"), "", show.ID)
	_, err = tryFollow(t, s.URL("catalogue"), "", show.ID)
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "too_many_streams", refused.Code())

	// The catalogue's stream ends with the client's, and not only when the next heartbeat cannot be written, 15 s after the beginning. On a busy
	// machine that may last as long, but not each time.
	began := time.Now()
	first.cancel()
	direct.cancel()
	eventuallyEqual(t, 1.0, "the streams at the catalogue", open)
	for try := 1; time.Since(began) >= 10*time.Second; try++ {
		require.Less(t, try, 4, "a stream ends with its client")
		f := follow(t, s.URL("catalogue"), "", show.ID)
		began = time.Now()
		f.cancel()
		eventuallyEqual(t, 1.0, "the streams at the catalogue", open)
	}
	eventually(t, "the gateway has room for another stream", func() bool {
		_, err := tryFollow(t, s.GatewayURL(), "", show.ID)
		return err == nil
	})

	// A gateway or a catalogue that stops does not wait for its streams: after five seconds it would log that, and go on.
	requireStopped := func(process string) {
		t.Helper()
		require.NotContains(t, strings.Join(s.Process(process).Log(), "\n"), "were not closed in time")
	}
	f := follow(t, s.URL("catalogue"), "", show.ID)
	require.NoError(t, s.Process("catalogue").Stop())
	f.requireEnd()
	requireStopped("catalogue")
	_, err = tryFollow(t, s.GatewayURL(), "", show.ID)
	require.Error(t, err)
	s.start(t, "catalogue")
	s.waitReady(t, "catalogue", "gateway")
	f = follow(t, s.GatewayURL(), "", show.ID)
	require.NoError(t, s.Process("gateway").Stop())
	f.requireEnd()
	requireStopped("gateway")
	eventuallyEqual(t, 0.0, "the streams at the catalogue", open)
	s.start(t, "gateway")
	s.waitReady(t, "gateway")
}

func TestLive_ASlowReaderLosesOnlyItsOwnStream(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{})
	seller := s.signUp(t)
	show := seller.announce(t, newShow(inDays(30)))
	s.waitLeft(t, show.ID, 0)
	reader := follow(t, s.GatewayURL(), "", show.ID)
	listed := seller.listPlace(t, client.Offer{ShowID: show.ID, Seat: &client.Place{Section: strings.Repeat("s", 50), Row: strings.Repeat("r", 50)}, Price: 100_000})
	reader.requireListing("new", listed, 1)

	conn, err := net.Dial("tcp", strings.TrimPrefix(s.GatewayURL(), "http://"))
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.(*net.TCPConn).SetReadBuffer(4<<10))
	fmt.Fprintf(conn, "GET /api/catalogue/live?show=%s HTTP/1.1\r\nHost: x\r\n\r\n", show.ID)
	in := bufio.NewReaderSize(conn, 512)
	for line := ""; line != "event: ready\n"; {
		line, err = in.ReadString('\n')
		require.NoError(t, err)
	}
	// It reads no more. The other stream gets each update, until the slow one has ended.
	ended := func() bool {
		return s.liveMetric(t, `streams_ended_total{reason="slow"}`)+s.liveMetric(t, `streams_ended_total{reason="client"}`) > 0
	}
	version := listed.Version
	for i := 0; !ended(); i++ {
		require.Less(t, i, 200, "the slow reader's stream goes on")
		for range 50 {
			version++
			requireStatus(t, 200, seller.call(t, client.EditTicket(listed.ID, client.Offer{Price: 100_000 - int64(version)})))
			require.Equal(t, 100_000-int64(version), reader.requireListing("changed", listed, 1).Price)
		}
	}
	require.EqualValues(t, 1, s.liveMetric(t, "streams"))
	_, err = io.Copy(io.Discard, conn) // what was on the way; then it ends
	require.False(t, err != nil && strings.Contains(err.Error(), "timeout"), "%v", err)
	reader.requireNone(t, seller, show)
}

// A browser's EventSource needs the media type, takes the retry time, and sends the last id again.
func TestLive_IsForEventSource(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	show := s.signUp(t).announce(t, newShow(inDays(30)))
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.GatewayURL()+"/api/catalogue/live?show="+show.ID, nil)
	require.NoError(t, err)
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Accept-Encoding", "gzip, deflate, br")
	res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	require.Equal(t, 200, res.StatusCode)
	require.Equal(t, "text/event-stream", res.Header.Get("Content-Type"))
	require.Equal(t, "no-store", res.Header.Get("Cache-Control"))
	require.Equal(t, "no", res.Header.Get("X-Accel-Buffering"))
	require.Empty(t, res.Header.Get("Content-Encoding"))
	in := bufio.NewReader(res.Body)
	lines := make([]string, 4)
	for i := range lines {
		lines[i], err = in.ReadString('\n')
		require.NoError(t, err)
	}
	require.Equal(t, "retry: 2000\n", lines[0])
	require.Regexp(t, `^id: [0-9a-zA-Z-]+-[0-9]+-[0-9]+\n$`, lines[1])
	require.Equal(t, []string{"event: ready\n", "data: {}\n"}, lines[2:])

	requireStatus(t, 200, s.request(t, "HEAD", "/api/catalogue/live?show="+show.ID, nil))
	for query, code := range map[string]string{"": "required", "?show=7": "uuid", "?show=" + strings.Repeat(show.ID+"&show=", 20) + show.ID: "max"} {
		p := requireProblem(t, 400, s.request(t, "GET", "/api/catalogue/live"+query, nil), code)
		require.Equal(t, "show", p.Errors[0].Field)
	}
	requireProblem(t, 405, s.request(t, "POST", "/api/catalogue/live", `{}`), "method_not_allowed")
}
