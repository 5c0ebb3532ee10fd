package live

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"boxoffice/services/catalogue/index"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/rest"
)

const epoch = "e1"

// show returns the id of a show.
func show(n int) id.Show { return id.Show(fmt.Sprintf("0197a0b2-5d07-7000-8000-%012d", n)) }

// sold returns an update of a show at a position.
func sold(of id.Show, batch uint64, number int) index.Update {
	return index.Update{
		Position: index.Position{Batch: batch, Number: number}, Kind: index.ListingSold, Show: of,
		Ticket: id.Ticket(fmt.Sprintf("0197a0b2-5d07-7000-9000-%012d", batch*1000+uint64(number))), Price: 1000, Currency: "usd",
	}
}

// end returns the id of the position after a batch.
func end(batch uint64) string { return after(batch).Format(epoch) }

// startHub starts a hub that has been loaded after batch 10.
func startHub(t *testing.T, change ...func(*Options)) *Hub {
	t.Helper()
	o := Options{Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()}
	for _, c := range change {
		c(&o)
	}
	h := New(o)
	h.Reset(epoch, 10)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = h.Run(ctx) }()
	t.Cleanup(func() { stop(); <-ended })
	return h
}

// event is a server-sent event.
type event struct{ id, name, data string }

// client reads a stream as a browser does.
type client struct {
	t           *testing.T
	conn        net.Conn
	in          *bufio.Reader
	lastEventID string
	retry       string
	ended       chan struct{} // the hub's side has returned
}

// connect opens a stream on a connection in memory, whose other end the hub writes.
func connect(t *testing.T, h *Hub, lastEventID string, shows ...id.Show) *client {
	t.Helper()
	var after []string
	if lastEventID != "" {
		after = []string{lastEventID}
	}
	s, err := h.open(shows, after)
	require.NoError(t, err)
	near, far := net.Pipe()
	c := &client{t: t, conn: near, in: bufio.NewReader(near), ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		s.serve(far)
		_ = far.Close()
	}()
	t.Cleanup(func() { _ = near.Close(); <-c.ended })
	return c
}

// next returns the next event. It follows the rules of the HTML standard: an id counts also without an event, a comment does not.
func (c *client) next() (event, error) {
	var e event
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			return event{}, err
		}
		line = strings.TrimSuffix(line, "\n")
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			c.lastEventID = e.id
			if e.data != "" {
				return e, nil
			}
			e = event{id: e.id}
		case name == "id":
			e.id = value
		case name == "event":
			e.name = value
		case name == "data":
			e.data += value
		case name == "retry":
			c.retry = value
		}
	}
}

func (c *client) require(name, position string) event {
	c.t.Helper()
	e, err := c.next()
	require.NoError(c.t, err)
	require.Equal(c.t, name, e.name, "%+v", e)
	require.Equal(c.t, position, e.id)
	return e
}

func (c *client) requireEnd() {
	c.t.Helper()
	_, err := c.next()
	require.ErrorIs(c.t, err, io.EOF)
}

func TestHub_AStreamGetsTheUpdatesOfItsShowsInOrder(t *testing.T) {
	h := startHub(t)
	h.Add(11, []index.Update{sold(show(1), 11, 0)})
	c := connect(t, h, "", show(1), show(3))
	c.require("ready", end(11))
	require.Equal(t, "2000", c.retry)

	h.Add(12, []index.Update{sold(show(3), 12, 0), sold(show(2), 12, 1), sold(show(1), 12, 2)})
	h.Add(13, nil)
	h.Add(14, []index.Update{{Position: index.Position{Batch: 14, Number: 7}, Kind: index.ShowCancelled, Show: show(1)}, sold(show(3), 14, 8)})
	c.require("listing", "e1-12-0")
	c.require("listing", "e1-12-2")
	e := c.require("show", "e1-14-7")
	require.JSONEq(t, `{"change":"cancelled","showId":"`+string(show(1))+`"}`, e.data)
	c.require("listing", "e1-14-8")
}

func TestAppendUpdate(t *testing.T) {
	update := sold(show(1), 3, 4)
	update.Left, update.PriceFrom = 2, 900
	update.Place = &index.Place{Section: "A", Number: "line\nbreak"}
	sent := string(appendUpdate(nil, "p", &update))
	require.True(t, strings.HasPrefix(sent, "id: p\nevent: listing\ndata: {"), sent)
	require.True(t, strings.HasSuffix(sent, "}\n\n"))
	require.Equal(t, 4, strings.Count(sent, "\n"), "a line break in a text would end the data")
	var data map[string]any
	require.NoError(t, json.Unmarshal([]byte(sent[strings.Index(sent, "{"):]), &data))
	require.Equal(t, map[string]any{
		"change": "sold", "showId": string(show(1)), "ticketId": string(update.Ticket), "price": 1000.0, "currency": "usd",
		"seat": map[string]any{"section": "A", "number": "line\nbreak"}, "left": 2.0, "priceFrom": 900.0,
	}, data)
	update.Left = 0
	require.NotContains(t, string(appendUpdate(nil, "p", &update)), "priceFrom", "there is none when nothing is left")
}

func TestHub_AStreamContinuesAfterItsLastEvent(t *testing.T) {
	h := startHub(t)
	for batch := range uint64(5) {
		h.Add(11+batch, []index.Update{sold(show(1), 11+batch, 0), sold(show(2), 11+batch, 1), sold(show(1), 11+batch, 2)})
	}
	for lastEventID, following := range map[string][]string{
		end(10):   {"e1-11-0", "e1-11-2", "e1-12-0"},
		"e1-11-0": {"e1-11-2", "e1-12-0"},
		"e1-11-1": {"e1-11-2", "e1-12-0"}, // an update of another show
		"e1-11-2": {"e1-12-0"},
		"e1-11-9": {"e1-12-0"}, // a heartbeat's position may lie between updates
		end(12):   {"e1-13-0"},
		"e1-15-0": {"e1-15-2"},
	} {
		c := connect(t, h, lastEventID, show(1))
		c.require("ready", lastEventID)
		for _, position := range following {
			c.require("listing", position)
		}
	}
}

// A replica that begins after a batch does not know which of its updates a client has got.
func TestHub_AStreamFromWithinTheBatchBeforeTheFirstIsReset(t *testing.T) {
	h := startHub(t)
	c := connect(t, h, "e1-10-3", show(1))
	c.require("ready", end(10))
	c.require("reset", end(10))
}

func TestHub_AStreamIsResetIfItsUpdatesAreNotKnownAnyMore(t *testing.T) {
	h := startHub(t, func(o *Options) { o.History = 4 })
	for batch := range uint64(6) {
		h.Add(11+batch, []index.Update{sold(show(1), 11+batch, 0)})
	}
	for _, lastEventID := range []string{"e1-11-0", end(10), "e0-16-0", "nonsense", "e1-16", "e1-99999-0"} {
		c := connect(t, h, lastEventID, show(1))
		c.require("ready", end(16))
		c.require("reset", end(16))
	}
	c := connect(t, h, "e1-12-0", show(1))
	c.require("ready", "e1-12-0")
	c.require("listing", "e1-13-0")
}

// Another replica may be ahead, for as long as this one has not read the feed's last batches.
func TestHub_AClientOfAReplicaThatIsAheadGetsNothingTwice(t *testing.T) {
	h := startHub(t)
	c := connect(t, h, "e1-12-1", show(1))
	c.require("ready", "e1-12-1")
	h.Add(11, []index.Update{sold(show(1), 11, 0)})
	h.Add(12, []index.Update{sold(show(1), 12, 0), sold(show(1), 12, 1), sold(show(1), 12, 2)})
	c.require("listing", "e1-12-2")
}

func TestHub_ResetReachesOpenStreams(t *testing.T) {
	h := startHub(t)
	c, quiet := connect(t, h, "", show(1)), connect(t, h, "", show(2))
	c.require("ready", end(10))
	quiet.require("ready", end(10))
	h.Add(11, []index.Update{sold(show(1), 11, 0)})
	c.require("listing", "e1-11-0")
	h.Reset("e2", 3)
	c.require("reset", after(3).Format("e2"))
	quiet.require("reset", after(3).Format("e2"))
	h.Add(4, []index.Update{sold(show(1), 4, 0)})
	c.require("listing", "e2-4-0")
}

// A batch of many updates for a stream that reads none meanwhile: its memory is the ring's.
func TestHub_AStreamThatFallsBehindIsClosed(t *testing.T) {
	h := startHub(t, func(o *Options) { o.History = 8 })
	c, other := connect(t, h, "", show(1)), connect(t, h, "", show(2))
	c.require("ready", end(10))
	other.require("ready", end(10))
	h.Add(11, []index.Update{sold(show(1), 11, 0)})
	for batch := range uint64(10) {
		h.Add(12+batch, []index.Update{sold(show(1), 12+batch, 0)})
	}
	for { // what was written before it fell behind
		if _, err := c.next(); err != nil {
			require.ErrorIs(t, err, io.EOF)
			break
		}
	}
	<-c.ended
	require.EqualValues(t, 1, testutil.ToFloat64(h.metrics.ended.WithLabelValues("behind")))
	h.Add(30, []index.Update{sold(show(2), 30, 0)})
	other.require("listing", "e1-30-0")
}

// The only update of a show is overwritten before the stream has read it, and a later one follows.
func TestHub_AGapIsSeenAlsoAfterTheShowHadNoUpdateInTheRing(t *testing.T) {
	h := startHub(t, func(o *Options) { o.History = 2 })
	s, err := h.open([]id.Show{show(1)}, nil)
	require.NoError(t, err)
	h.Add(11, []index.Update{sold(show(1), 11, 0)})
	h.Add(12, []index.Update{sold(show(2), 12, 0), sold(show(2), 12, 1)})
	h.Add(13, []index.Update{sold(show(1), 13, 0)})
	_, err = s.next()
	require.ErrorIs(t, err, errBehind)
	s.close(err)
}

func TestHub_AClientThatDoesNotReadIsClosedAndOthersAreNotDelayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHub(t)
		slow, other := connect(t, h, "", show(1)), connect(t, h, "", show(1))
		other.require("ready", end(10))
		begun := time.Now()
		h.Add(11, []index.Update{sold(show(1), 11, 0)})
		other.require("listing", "e1-11-0")
		require.LessOrEqual(t, time.Since(begun), shortestPause)
		<-slow.ended
		require.Equal(t, writeTimeout, time.Since(begun), "it has not even read the first event")
		require.EqualValues(t, 1, testutil.ToFloat64(h.metrics.ended.WithLabelValues("slow")))
		h.Add(12, []index.Update{sold(show(1), 12, 0)})
		other.require("listing", "e1-12-0")
	})
}

func TestHub_AHeartbeatMovesTheLastEventID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHub(t, func(o *Options) { o.History = 2 })
		c := connect(t, h, "", show(1))
		c.require("ready", end(10))
		for batch := range uint64(8) {
			h.Add(11+batch, []index.Update{sold(show(2), 11+batch, 0)})
		}
		begun := time.Now()
		line, err := c.in.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, ": heartbeat\n", line)
		require.Equal(t, heartbeatPeriod, time.Since(begun))
		line, err = c.in.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "id: "+end(18)+"\n", line)
		h.Add(19, []index.Update{sold(show(1), 19, 0)})
		again := connect(t, h, end(18), show(1))
		again.require("ready", end(18))
		again.require("listing", "e1-19-0")
	})
}

func TestHub_ManyUpdatesAreWrittenTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHub(t)
		c := connect(t, h, "", show(1))
		c.require("ready", end(10))
		writes := make(chan int, 1)
		go func() { // counts the writes: a pipe in memory has one read for each
			n, part := 0, make([]byte, writeBytes)
			for {
				if _, err := c.conn.Read(part); err != nil {
					writes <- n
					return
				}
				n++
			}
		}()
		for batch := range uint64(100) { // in 100 ms
			h.Add(11+batch, []index.Update{sold(show(1), 11+batch, 0)})
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		_ = c.conn.Close()
		n := <-writes
		require.GreaterOrEqual(t, n, 10)
		require.LessOrEqual(t, n, 12)
	})
}

func TestHub_LimitsItsStreams(t *testing.T) {
	h := startHub(t, func(o *Options) { o.MaxStreams = 1 })
	c := connect(t, h, "", show(1))
	_, err := h.open([]id.Show{show(1)}, nil)
	require.ErrorContains(t, err, "too many live streams")
	_ = c.conn.Close()
	<-c.ended
	connect(t, h, "", show(1)).require("ready", end(10))
	require.EqualValues(t, 1, testutil.ToFloat64(h.metrics.refused))
}

func TestHub_KeepsNothingOfShowsWithoutStreamsAndUpdates(t *testing.T) {
	h := startHub(t, func(o *Options) { o.History = 2 })
	c := connect(t, h, "", show(1), show(2))
	_ = c.conn.Close()
	<-c.ended
	require.Empty(t, h.timelines)
	for n := range 10 {
		h.Add(uint64(11+n), []index.Update{sold(show(n), uint64(11+n), 0)})
	}
	require.Len(t, h.timelines, 2)
}

func TestHub_EndsAllStreamsWhenItStops(t *testing.T) {
	h := New(Options{})
	_, err := h.open([]id.Show{show(1)}, nil)
	require.ErrorContains(t, err, "no live updates at the moment", "nothing is loaded yet")
	h.Reset(epoch, 0)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	c := connect(t, h, "", show(1))
	c.require("ready", end(0))
	stop()
	c.requireEnd()
	require.NoError(t, <-ended)
	_, err = h.open([]id.Show{show(1)}, nil)
	require.Error(t, err)
}

// Many streams come and go while updates are published. Each gets the updates of its show, in order, without a gap. With -race.
func TestHub_ManyStreamsAtOnce(t *testing.T) {
	const shows, streams, batches = 5, 60, 200
	h := startHub(t)
	var clients sync.WaitGroup
	for n := range streams {
		mine := show(n % shows)
		c := connect(t, h, "", mine)
		c.require("ready", end(10))
		clients.Go(func() {
			for batch := 11; batch < 11+batches; batch++ {
				if n%shows != batch%shows {
					continue
				}
				e, err := c.next()
				if err != nil || e.id != fmt.Sprintf("e1-%d-0", batch) {
					t.Errorf("stream %d: %+v %v at batch %d", n, e, err, batch)
					return
				}
				if batch%7 == 0 { // it connects again
					_ = c.conn.Close()
					<-c.ended
					c = connect(t, h, e.id, mine)
					if e, err = c.next(); err != nil || e.name != "ready" {
						t.Errorf("stream %d: %+v %v", n, e, err)
						return
					}
				}
			}
		})
	}
	for batch := 11; batch < 11+batches; batch++ {
		h.Add(uint64(batch), []index.Update{sold(show(batch%shows), uint64(batch), 0)})
	}
	clients.Wait()
}

func serveHub(t *testing.T, h *Hub) string {
	t.Helper()
	app := rest.New(rest.Options{Log: slog.New(slog.DiscardHandler)})
	h.Register(app)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = app.Listener(l) }()
	t.Cleanup(func() { _ = app.Shutdown() })
	return "http://" + l.Addr().String() + "/api/catalogue/live"
}

func TestLive_IsAnEventStream(t *testing.T) {
	h := startHub(t)
	url := serveHub(t, h)
	res, err := http.Get(url + "?show=" + strings.ToUpper(string(show(1))) + "&show=" + string(show(1)))
	require.NoError(t, err)
	c := &client{t: t, in: bufio.NewReader(res.Body)}
	require.Equal(t, 200, res.StatusCode)
	require.Equal(t, "text/event-stream", res.Header.Get("Content-Type"))
	require.Equal(t, "no-store", res.Header.Get("Cache-Control"))
	require.Equal(t, "no", res.Header.Get("X-Accel-Buffering"))
	require.NotEmpty(t, res.Header.Get("X-Request-Id"))
	c.require("ready", end(10))
	h.Add(11, []index.Update{sold(show(1), 11, 0), sold(show(1), 11, 1)})
	c.require("listing", "e1-11-0")
	c.require("listing", "e1-11-1")
	require.EqualValues(t, 1, testutil.ToFloat64(h.metrics.open))
	require.NoError(t, res.Body.Close())
	require.Eventually(t, func() bool {
		return testutil.ToFloat64(h.metrics.open) == 0 && testutil.ToFloat64(h.metrics.ended.WithLabelValues("client")) == 1
	}, 10*time.Second, time.Millisecond, "the client has closed it")

	req, err := http.NewRequest("GET", url+"?show="+string(show(1)), nil)
	require.NoError(t, err)
	req.Header.Set("Last-Event-ID", "e1-11-0")
	res, err = http.DefaultClient.Do(req)
	require.NoError(t, err)
	c = &client{t: t, in: bufio.NewReader(res.Body)}
	c.require("ready", "e1-11-0")
	c.require("listing", "e1-11-1")
	require.NoError(t, res.Body.Close())
}

// A client that has read pages at two replicas names both positions.
func TestLive_ContinuesAfterTheOldestPage(t *testing.T) {
	h := startHub(t)
	url := serveHub(t, h) + "?show=" + string(show(1)) + "&after=" + end(11) + "&after=" + end(10)
	h.Add(11, []index.Update{sold(show(1), 11, 0)})
	require.Equal(t, end(11), h.Position())
	h.Add(12, []index.Update{sold(show(1), 12, 0)})
	for _, c := range []struct{ lastEventID, ready, next string }{{"", end(10), "e1-11-0"}, {"e1-11-0", "e1-11-0", "e1-12-0"}} {
		req, err := http.NewRequest("GET", url, nil)
		require.NoError(t, err)
		req.Header.Set("Last-Event-ID", c.lastEventID)
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		stream := &client{t: t, in: bufio.NewReader(res.Body)}
		stream.require("ready", c.ready)
		stream.require("listing", c.next)
		require.NoError(t, res.Body.Close())
	}
	res, err := http.Get(url + "&after=other-1-0")
	require.NoError(t, err)
	c := &client{t: t, in: bufio.NewReader(res.Body)}
	_, err = c.next()
	require.NoError(t, err)
	e, err := c.next()
	require.NoError(t, err)
	require.Equal(t, "reset", e.name, "a position of another epoch")
	require.NoError(t, res.Body.Close())
}

func TestLive_RefusesWrongRequests(t *testing.T) {
	h := startHub(t)
	app := rest.New(rest.Options{Log: slog.New(slog.DiscardHandler)})
	h.Register(app)
	many := "?show=" + string(show(1)) + strings.Repeat("&show="+string(show(2)), maxShows)
	for query, code := range map[string]string{"": "required", "?show=": "uuid", "?show=7": "uuid", many: "max"} {
		req, err := http.NewRequest("GET", "/api/catalogue/live"+query, nil)
		require.NoError(t, err)
		res, err := app.Test(req)
		require.NoError(t, err)
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, 400, res.StatusCode, query)
		require.Contains(t, string(body), `"code":"`+code+`"`)
		require.Contains(t, string(body), `"field":"show"`)
	}
	req, err := http.NewRequest(fiber.MethodHead, "/api/catalogue/live?show="+string(show(1)), nil)
	require.NoError(t, err)
	res, err := app.Test(req)
	require.NoError(t, err)
	require.Equal(t, 200, res.StatusCode)
	require.EqualValues(t, 0, testutil.ToFloat64(h.metrics.open))
}
