package rest

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// Client returns the address of the request's client: the other end of the connection or, if that is a trusted proxy, the address
// that the proxies name.
func Client(c *fiber.Ctx) netip.Addr {
	if o := observed(c); o != nil {
		return o.client
	}
	return netip.Addr{}
}

// Peer returns the address of the connection's other end.
func Peer(c *fasthttp.RequestCtx) netip.Addr {
	peer, _ := netip.AddrFromSlice(c.RemoteIP())
	return peer.Unmap()
}

// IsTrusted reports whether an address belongs to one of the trusted networks.
func IsTrusted(address netip.Addr, trusted []netip.Prefix) bool {
	return slices.ContainsFunc(trusted, func(network netip.Prefix) bool { return network.Contains(address) })
}

// clientOf returns the address of a request's client. Each proxy appends the address of its peer to X-Forwarded-For, so the client
// is the last address there that is not a trusted proxy's. The client itself may have sent the entries before it. An entry that
// is not an address ends the search: then the client is the proxy that added it.
func clientOf(c *fasthttp.RequestCtx, trusted []netip.Prefix) netip.Addr {
	client := Peer(c)
	if len(trusted) == 0 || !IsTrusted(client, trusted) {
		return client
	}
	lines := c.Request.Header.PeekAll(fiber.HeaderXForwardedFor)
	for _, line := range slices.Backward(lines) {
		for rest, more := string(line), true; more; {
			entry := rest
			if at := strings.LastIndexByte(rest, ','); at >= 0 {
				rest, entry = rest[:at], rest[at+1:]
			} else {
				more = false
			}
			before, ok := parseAddress(strings.TrimSpace(entry))
			if !ok {
				return client
			}
			if client = before; !IsTrusted(client, trusted) {
				return client
			}
		}
	}
	return client
}

// parseAddress parses an address, with or without a port.
func parseAddress(text string) (netip.Addr, bool) {
	if address, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return address.Unmap().WithZone(""), true
	}
	if withPort, err := netip.ParseAddrPort(text); err == nil {
		return withPort.Addr().Unmap().WithZone(""), true
	}
	return netip.Addr{}, false
}

// NetworkOf returns what counts as one client for limits: an IPv4 address, or an IPv6 network of 64 bits, which is what one
// household or one machine gets.
func NetworkOf(client netip.Addr) netip.Addr {
	if !client.Is6() {
		return client
	}
	network, err := client.Prefix(64)
	if err != nil {
		return client
	}
	return network.Addr()
}
