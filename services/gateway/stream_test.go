package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/rest"
)

// liveService is a service with a stream, which a test controls.
type liveService struct {
	url     string
	begun   chan *http.Request // a stream has begun
	send    chan string        // what the stream sends next
	ended   chan struct{}      // the gateway has closed the stream
	refuses atomic.Bool        // it has too many streams
}

func serveLive(t *testing.T) *liveService {
	l := &liveService{begun: make(chan *http.Request, 16), send: make(chan string), ended: make(chan struct{}, 16)}
	l.url = serve(t, l.serve)
	return l
}

func (l *liveService) serve(w http.ResponseWriter, r *http.Request) {
	if l.refuses.Load() {
		w.Header().Set("Content-Type", rest.MediaType)
		w.WriteHeader(503)
		fmt.Fprint(w, `{"errors":[{"message":"Too many.","code":"too_many_streams"}]}`)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	w.WriteHeader(200)
	w.(http.Flusher).Flush()
	l.begun <- r
	defer func() { l.ended <- struct{}{} }()
	for {
		select {
		case text, more := <-l.send:
			if !more {
				return
			}
			fmt.Fprint(w, text)
			w.(http.Flusher).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

const livePath = "/api/catalogue/live?show=1&show=%32"

// follow opens a stream.
func follow(t *testing.T, url string, headers ...string) (*http.Response, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, "GET", url+livePath, nil)
	require.NoError(t, err)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := (&http.Transport{DisableCompression: true, DisableKeepAlives: true}).RoundTrip(req)
	require.NoError(t, err)
	t.Cleanup(func() { _ = res.Body.Close() })
	return res, cancel
}

func receive[T any](t *testing.T, from <-chan T, what string) (got T) {
	t.Helper()
	select {
	case got = <-from:
	case <-time.After(5 * time.Second):
		t.Fatal("not in time: " + what)
	}
	return got
}

func requireText(t *testing.T, r io.Reader, text string) {
	t.Helper()
	got := make([]byte, len(text))
	_, err := io.ReadFull(r, got)
	require.NoError(t, err)
	require.Equal(t, text, string(got))
}

func TestStream_ForwardsEachPartAtOnce(t *testing.T) {
	service := serveLive(t)
	// Longer than UPSTREAM_TIMEOUT: it bounds the time until the stream begins.
	url := gateway(t, service.url, func(c *config) { c.UpstreamTimeout = 500 * time.Millisecond; c.RateLimit = 100 })
	res, _ := follow(t, url, "Last-Event-ID", "a-1-2", "X-Request-Id", "r1")
	got := receive(t, service.begun, "the request")
	require.Equal(t, livePath, got.RequestURI)
	require.Equal(t, "a-1-2", got.Header.Get("Last-Event-ID"))
	require.Equal(t, "127.0.0.1", got.Header.Get("X-Forwarded-For"))

	require.Equal(t, 200, res.StatusCode)
	require.Equal(t, "text/event-stream", res.Header.Get("Content-Type"))
	require.Equal(t, "no", res.Header.Get("X-Accel-Buffering"))
	require.Equal(t, "no-store", res.Header.Get("Cache-Control"))
	require.Equal(t, "nosniff", res.Header.Get("X-Content-Type-Options"))
	require.Equal(t, "r1", res.Header.Get("X-Request-Id"))
	require.Contains(t, res.Header.Get("RateLimit"), `"address"`)
	require.Empty(t, res.Header.Values("Content-Length"))
	for _, text := range []string{"id: 1\n\n", ":\n\n", strings.Repeat("x", 100_000)} {
		service.send <- text
		requireText(t, res.Body, text)
	}
	for begun := time.Now(); time.Since(begun) < time.Second; { // longer than UPSTREAM_TIMEOUT
		service.send <- "still"
		requireText(t, res.Body, "still")
	}
	close(service.send)
	rest, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Empty(t, rest)
}

func TestStream_EndsAtTheServiceWhenTheClientCloses(t *testing.T) {
	service := serveLive(t)
	url := gateway(t, service.url)
	_, cancel := follow(t, url)
	receive(t, service.begun, "the request")
	cancel()
	receive(t, service.ended, "the end of the stream")
}

func TestStream_EndsAtTheClientWhenTheServiceDies(t *testing.T) {
	l := listen(t)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = http.ReadRequest(bufio.NewReader(conn))
		fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: 1\n\n")
		_ = conn.(*net.TCPConn).SetLinger(0) // the close is a reset
		_ = conn.Close()
	}()
	url := gateway(t, "http://"+l.Addr().String())
	res, _ := follow(t, url)
	require.Equal(t, 200, res.StatusCode)
	_, _ = io.ReadAll(res.Body) // it ends
}

func TestStream_EndsWhenTheServiceIsSilent(t *testing.T) {
	service := serveLive(t)
	url := gateway(t, service.url, func(c *config) { c.streamSilence = 30 * time.Millisecond })
	res, _ := follow(t, url)
	receive(t, service.begun, "the request")
	_, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	receive(t, service.ended, "the end of the stream")
}

func TestStream_AClientThatDoesNotReadStopsOnlyItsOwn(t *testing.T) {
	// Each stream sends without end.
	slowEnded := make(chan struct{}, 1)
	url := gateway(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, strings.Repeat("x", 10_000)); err != nil {
				break
			}
		}
		if r.Header.Get("Slow") != "" {
			slowEnded <- struct{}{}
		}
	}), func(c *config) { c.streamWriteTimeout = 200 * time.Millisecond })
	_, _ = follow(t, url, "Slow", "yes")
	other, _ := follow(t, url)
	go func() { _, _ = io.Copy(io.Discard, other.Body) }()
	receive(t, slowEnded, "the end of the slow client's stream")
	third, _ := follow(t, url)
	requireText(t, third.Body, strings.Repeat("x", 1_000_000))
}

func TestStream_LimitsTheStreamsOfAnAddressAndOfAll(t *testing.T) {
	for bound, change := range map[string]func(*config){
		"address": func(c *config) { c.StreamsPerAddress = 2 },
		"total":   func(c *config) { c.MaxStreams = 2 },
	} {
		t.Run(bound, func(t *testing.T) {
			service := serveLive(t)
			url := gateway(t, service.url, change)
			_, cancel := follow(t, url)
			follow(t, url)
			refused := do(t, "GET", url+livePath, "")
			require.Equal(t, 503, refused.status)
			require.Equal(t, "too_many_streams", refused.code(t))
			require.Equal(t, "10", refused.header.Get("Retry-After"))
			require.Equal(t, 404, do(t, "GET", url+"/api/unknown", "").status, "other requests are answered")
			cancel()
			require.Eventually(t, func() bool {
				res, _ := follow(t, url)
				return res.StatusCode == 200
			}, 5*time.Second, 10*time.Millisecond)
		})
	}
}

func TestStream_AnswersThatAreNoStreamsAreForwarded(t *testing.T) {
	service := serveLive(t)
	service.refuses.Store(true)
	url := gateway(t, service.url, func(c *config) { c.StreamsPerAddress = 1 })
	for range 3 { // none is counted as a stream
		got := do(t, "GET", url+livePath, "")
		require.Equal(t, 503, got.status)
		require.Contains(t, got.body, "Too many.")
	}
	got := do(t, "GET", gateway(t, unreachable(t))+livePath, "")
	require.Equal(t, 503, got.status)
	require.Equal(t, "upstream_unavailable", got.code(t))
	slow := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	got = do(t, "GET", gateway(t, slow, func(c *config) { c.UpstreamTimeout = 50 * time.Millisecond })+livePath, "")
	require.Equal(t, "upstream_timeout", got.code(t))
}

func TestStream_UsesAReplicaThatIsNotFull(t *testing.T) {
	full, other := serveLive(t), serveLive(t)
	full.refuses.Store(true)
	url := gateway(t, full.url+","+unreachable(t)+","+other.url)
	for range 3 {
		res, _ := follow(t, url)
		require.Equal(t, 200, res.StatusCode)
		receive(t, other.begun, "the request")
	}
}

func TestStream_SpreadsOverReplicas(t *testing.T) {
	one, two := serveLive(t), serveLive(t)
	url := gateway(t, one.url+","+two.url)
	for range 8 {
		follow(t, url)
	}
	for range 4 {
		receive(t, one.begun, "a stream at the first")
		receive(t, two.begun, "a stream at the second")
	}
}

func TestStream_HeadIsNotAStream(t *testing.T) {
	methods := make(chan string, 1)
	url := gateway(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		methods <- r.Method
		w.Header().Set("Content-Type", "text/event-stream")
	}))
	require.Equal(t, 200, do(t, "HEAD", url+livePath, "").status)
	require.Equal(t, "HEAD", <-methods)
}

func TestStream_HTTP10ClientsGetItToo(t *testing.T) {
	service := serveLive(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(gateway(t, service.url), "http://"))
	require.NoError(t, err)
	defer conn.Close()
	fmt.Fprint(conn, "GET /api/catalogue/live HTTP/1.0\r\n\r\n")
	require.Equal(t, "HTTP/1.1", receive(t, service.begun, "the request").Proto)
	service.send <- "data: 1\n\n"
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	requireText(t, res.Body, "data: 1\n\n")
}

func TestStream_ServicesMaySpeakTLS(t *testing.T) {
	service := &liveService{begun: make(chan *http.Request, 1), send: make(chan string), ended: make(chan struct{}, 1)}
	server := httptest.NewUnstartedServer(http.HandlerFunc(service.serve))
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.CloseClientConnections)
	roots := server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	res, cancel := follow(t, gatewayTo(t, server.URL, roots, config{UpstreamTimeout: time.Second}))
	service.send <- "data: 1\n\n"
	requireText(t, res.Body, "data: 1\n\n")
	cancel()
	receive(t, service.ended, "the end of the stream")
}

func TestStreams_EndWhenTheGatewayStops(t *testing.T) {
	s := newStreams(config{}, prometheus.NewRegistry())
	near, far := net.Pipe()
	require.True(t, s.add(near))
	ctx, stop := context.WithCancel(t.Context())
	stop()
	require.NoError(t, s.run(ctx))
	_, err := far.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	require.False(t, s.add(near), "no new one begins")
}

func TestBodyLimitOf_IsLongerForImagesAlone(t *testing.T) {
	var cfg config
	for request, limit := range map[string]int{
		"PUT /api/shows/7/image":        imageBytes,
		"PUT /api/shows/7/image/":       imageBytes,
		"POST /api/shows/7/image":       0,
		"PUT /api/shows/7":              0,
		"PUT /api/shows/7/other/image":  0,
		"PUT /api/tickets/7/image":      0,
		"PUT /api/shows/7/image/8":      0,
		"PUT //api/shows/7/image":       0,
		"DELETE /api/shows/7/image?x=y": 0,
	} {
		method, path, _ := strings.Cut(request, " ")
		require.Equal(t, limit, cfg.BodyLimitOf(method, path), request)
	}
}

func TestGateway_ForwardsImages(t *testing.T) {
	url := gateway(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	}))
	require.Equal(t, "2000000", do(t, "PUT", url+"/api/shows/7/image", strings.Repeat("x", imageBytes)).body)
	got := do(t, "PUT", url+"/api/shows/7/image", strings.Repeat("x", imageBytes+1))
	require.Equal(t, 413, got.status)
	require.Equal(t, "too_large", got.code(t))
	require.Equal(t, 413, do(t, "PUT", url+"/api/shows/7", strings.Repeat("x", 64<<10+1)).status)
}
