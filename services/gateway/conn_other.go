//go:build !unix

package main

import "net"

// alive cannot look into a connection on this system.
func alive(net.Conn) bool { return true }
