package rest

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// Client is the address that the request comes from: that of the connection's other end or, if that is a trusted proxy, the
// one that the proxies name.
func Client(c *fiber.Ctx) netip.Addr {
	if o := observed(c); o != nil {
		return o.client
	}
	return netip.Addr{}
}

// Peer is the other end of the connection.
func Peer(c *fasthttp.RequestCtx) netip.Addr {
	peer, _ := netip.AddrFromSlice(c.RemoteIP())
	return peer.Unmap()
}

// IsTrusted is whether an address belongs to one of the trusted networks.
func IsTrusted(address netip.Addr, trusted []netip.Prefix) bool {
	return slices.ContainsFunc(trusted, func(network netip.Prefix) bool { return network.Contains(address) })
}

// clientOf finds the client of a request. Each proxy adds whom it got the request from at the right of X-Forwarded-For, so the
// rightmost address there that is not a trusted proxy's is the client's: what stands left of it is what the client says
// of itself. An entry that is no address ends the search at the proxy that added it.
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

// parseAddress reads an address as proxies write it, some with a port.
func parseAddress(text string) (netip.Addr, bool) {
	if address, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return address.Unmap().WithZone(""), true
	}
	if withPort, err := netip.ParseAddrPort(text); err == nil {
		return withPort.Addr().Unmap().WithZone(""), true
	}
	return netip.Addr{}, false
}

// NetworkOf is what limits count as one client: an IPv4 address, or a network of 64 bits of IPv6, which is what one household or
// one machine is given.
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
