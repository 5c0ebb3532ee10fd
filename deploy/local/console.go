package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
)

// console writes the lines of many processes, each with its process's name before it. On a terminal the names have colours; NO_COLOR
// (https://no-color.org) turns them off.
type console struct {
	out     io.Writer
	colours bool

	mu       sync.Mutex
	width    int
	colourOf map[string]int // by process
}

func newConsole(out *os.File) *console {
	info, err := out.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	return &console{
		out: out, colours: terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb",
		width: len("expiration-dapr"), colourOf: map[string]int{},
	}
}

// palette has the colours that are readable on a dark and on a light background.
var palette = [...]int{36, 32, 33, 35, 34, 96, 92, 93, 95, 94}

func (c *console) line(process, line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	prefix := fmt.Sprintf("%-*s |", c.width, process)
	if c.colours {
		// An app and its sidecar have one colour.
		owner := strings.TrimSuffix(process, "-dapr")
		colour, known := c.colourOf[owner]
		if !known {
			colour = palette[len(c.colourOf)%len(palette)]
			c.colourOf[owner] = colour
		}
		prefix = fmt.Sprintf("\x1b[%dm%s\x1b[0m", colour, prefix)
	}
	fmt.Fprintf(c.out, "%s %s\n", prefix, line)
}

// print writes a message of the launcher, with an empty line before and after it.
func (c *console) print(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintf(c.out, "\n%s\n\n", text)
}
