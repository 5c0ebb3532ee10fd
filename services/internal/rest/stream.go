package rest

import (
	"crypto/tls"
	"net"
	"time"

	"github.com/gofiber/fiber/v2"
)

// streamBuffer bounds what the system keeps of a stream that its client has not read yet. Without a bound it grows to some megabytes.
const streamBuffer = 64 << 10

// Stream answers a GET request with a body that has no fixed end. The handler sets status and headers, calls Stream and returns nil. When
// the headers are written, run gets the connection, in a goroutine of its own; the connection is closed when run returns. run is called
// also if the headers could not be written. It must return soon after the connection is closed, and when the service stops.
//
// The body ends with the connection, without chunks, because a stream has no end of its own. A response of
// fasthttp would need a pipe, two buffers and a context for as long as the stream is open.
func Stream(c *fiber.Ctx, run func(conn net.Conn)) {
	ctx := c.Context()
	if limited := connectionOf(ctx); limited != nil {
		limited.streams = true
	}
	ctx.HijackSetNoResponse(true)
	ctx.Hijack(func(hijacked net.Conn) {
		conn := hijacked.(interface{ UnsafeConn() net.Conn }).UnsafeConn()
		// Here the handlers before this one have added their headers. fasthttp uses its memory again after the return.
		ctx.Response.Header.SetConnectionClose()
		head := append([]byte(nil), ctx.Response.Header.Header()...)
		go func() {
			defer func() { _ = conn.Close() }()
			BoundStream(conn)
			_ = conn.SetWriteDeadline(time.Now().Add(writeTime)) // if it fails, so does writing
			if _, err := conn.Write(head); err != nil {
				_ = conn.Close() // so run fails
			}
			_ = conn.SetWriteDeadline(time.Time{})
			run(conn)
		}()
	})
}

// BoundStream bounds the memory that the system uses for a connection with a stream.
func BoundStream(conn net.Conn) {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	if limited, ok := conn.(*connection); ok {
		conn = limited.Conn
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(streamBuffer) // without it the stream works as well
		_ = tcp.SetReadBuffer(streamBuffer)
	}
}
