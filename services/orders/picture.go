package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strings"

	"rsc.io/qr"
)

// pictureType is the media type of a pass as a picture.
const pictureType = "image/svg+xml"

// quietZone is the empty margin that a QR code needs, in modules: its smallest squares.
const quietZone = 4

// passPicture is the code of a pass as a QR code, an SVG picture in black on white, which scales to any size. Its error correction (level
// M) repairs 15 percent of the code.
func passPicture(code string, ticket TicketSnapshot) ([]byte, error) {
	modules, err := qr.Encode(code, qr.M)
	if err != nil {
		return nil, fmt.Errorf("draw the pass of ticket %s: %w", ticket.ID, err)
	}
	size := modules.Size + 2*quietZone
	var svg bytes.Buffer
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" shape-rendering="crispEdges"><title>`, size, size)
	if err := xml.EscapeText(&svg, []byte(passTitle(ticket))); err != nil {
		return nil, err
	}
	fmt.Fprintf(&svg, `</title><path fill="#fff" d="M0 0h%dv%dH0z"/><path d="`, size, size)
	for y := range modules.Size {
		for x := 0; x < modules.Size; x++ {
			width := 0
			for modules.Black(x+width, y) {
				width++
			}
			if width > 0 {
				fmt.Fprintf(&svg, "M%d %dh%dv1h-%dz", x+quietZone, y+quietZone, width, width)
				x += width
			}
		}
	}
	svg.WriteString(`"/></svg>`)
	return svg.Bytes(), nil
}

// passTitle names the pass for people who do not see the picture.
func passTitle(ticket TicketSnapshot) string {
	parts := []string{ticket.Title}
	if p := ticket.Place; p != nil {
		for _, part := range []string{p.Section, p.Row, p.Number} {
			if part != "" {
				parts = append(parts, part)
			}
		}
	}
	return strings.Join(parts, ", ")
}
