package rest

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
	"google.golang.org/grpc/metadata"
)

func outgoing(c *fiber.Ctx) map[string][]string {
	md, _ := metadata.FromOutgoingContext(Context(c))
	return md
}

// askFrom lets an app handle a request that comes from peer.
func askFrom(app *fiber.App, peer string, headers ...string) *fasthttp.RequestCtx {
	var ctx fasthttp.RequestCtx
	var req fasthttp.Request
	req.SetRequestURI("/")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	ctx.Init(&req, &net.TCPAddr{IP: net.ParseIP(peer), Port: 4711}, nil)
	app.Handler()(&ctx)
	return &ctx
}

func TestClient_IsTheRightmostThatIsNoTrustedProxy(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:1::/48")}
	for name, c := range map[string]struct {
		peer  string
		lines []string
		want  string
	}{
		"a stranger":                              {"203.0.113.9", nil, "203.0.113.9"},
		"a stranger who names another":            {"203.0.113.9", []string{"198.51.100.1"}, "203.0.113.9"},
		"a stranger who names a trusted one":      {"203.0.113.9", []string{"10.0.0.1"}, "203.0.113.9"},
		"one proxy":                               {"10.0.0.1", []string{"198.51.100.1"}, "198.51.100.1"},
		"one proxy, after what the client sent":   {"10.0.0.1", []string{"1.1.1.1, 2.2.2.2,198.51.100.1"}, "198.51.100.1"},
		"one proxy, on a line of its own":         {"10.0.0.1", []string{"1.1.1.1", "198.51.100.1"}, "198.51.100.1"},
		"two proxies":                             {"10.0.0.1", []string{"1.1.1.1, 198.51.100.1, 10.9.9.9"}, "198.51.100.1"},
		"two proxies, the client sent nonsense":   {"10.0.0.1", []string{"<script>, 198.51.100.1, 10.9.9.9"}, "198.51.100.1"},
		"nonsense from a proxy":                   {"10.0.0.1", []string{"198.51.100.1, unknown, 10.9.9.9"}, "10.9.9.9"},
		"an empty list":                           {"10.0.0.1", []string{""}, "10.0.0.1"},
		"an empty entry":                          {"10.0.0.1", []string{"198.51.100.1, "}, "10.0.0.1"},
		"only proxies":                            {"10.0.0.1", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		"with a port":                             {"10.0.0.1", []string{"198.51.100.1:4711"}, "198.51.100.1"},
		"IPv6":                                    {"2001:db8:1::1", []string{"2001:db8:2::7"}, "2001:db8:2::7"},
		"IPv6 with a port":                        {"2001:db8:1::1", []string{"[2001:db8:2::7]:4711"}, "2001:db8:2::7"},
		"IPv4 in IPv6":                            {"::ffff:10.0.0.1", []string{"::ffff:198.51.100.1"}, "198.51.100.1"},
		"a zone, which is part of nobody's place": {"10.0.0.1", []string{"fe80::1%eth0"}, "fe80::1"},
	} {
		t.Run(name, func(t *testing.T) {
			var lines bytes.Buffer
			app := New(Options{Name: "test", Log: slog.New(slog.NewJSONHandler(&lines, nil)), TrustedProxies: trusted})
			var got netip.Addr
			app.Get("/", func(c *fiber.Ctx) error { got = Client(c); return nil })
			var headers []string
			for _, line := range c.lines {
				headers = append(headers, "X-Forwarded-For", line)
			}
			askFrom(app, c.peer, headers...)
			require.Equal(t, c.want, got.String())
			entry := map[string]any{}
			require.NoError(t, json.Unmarshal(lines.Bytes(), &entry))
			require.Equal(t, c.want, entry["client"], "in the log")
		})
	}
}

func TestNetworkOf_CountsAHouseholdOnce(t *testing.T) {
	for address, network := range map[string]string{
		"203.0.113.9": "203.0.113.9", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::", "2001:db8:1:2::": "2001:db8:1:2::",
	} {
		require.Equal(t, network, NetworkOf(netip.MustParseAddr(address)).String())
	}
}

func TestEdge_DecidesWhichTracesAreRecorded(t *testing.T) {
	const id = "0af7651916cd43dd8448eb211c80319c"
	for name, c := range map[string]struct {
		edge  *Edge
		flags string
		want  string
	}{
		"behind the edge, marked":     {nil, "01", "01"},
		"behind the edge, not marked": {nil, "00", "00"},
		"none":                        {&Edge{}, "01", "00"},
		"all":                         {&Edge{TraceSampling: 1}, "00", "01"},
	} {
		t.Run(name, func(t *testing.T) {
			app := New(Options{Name: "test", Log: slog.New(slog.DiscardHandler), Edge: c.edge})
			var got map[string][]string
			app.Get("/", func(ctx *fiber.Ctx) error { got = outgoing(ctx); return nil })
			askFrom(app, "203.0.113.9", "traceparent", "00-"+id+"-b7ad6b7169203331-"+c.flags, "tracestate", "a="+strings.Repeat("x", 250), "baggage", "a=b")
			require.Equal(t, map[string][]string{"traceparent": {"00-" + id + "-b7ad6b7169203331-" + c.want}}, got)
		})
	}
}
