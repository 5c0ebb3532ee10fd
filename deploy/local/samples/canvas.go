package samples

import (
	"image"
	"image/color"
	"image/draw"
	"math"

	"golang.org/x/image/vector"
)

// The size of a poster in pixels.
const (
	width  = 1200
	height = 800
)

type point struct{ x, y float64 }

// at is the point at a distance from a centre, in a direction in radians.
func at(centre point, distance, direction float64) point {
	return point{centre.x + distance*math.Cos(direction), centre.y + distance*math.Sin(direction)}
}

// canvas draws shapes with smooth edges.
type canvas struct {
	image *image.RGBA
	shape *vector.Rasterizer
	added [][]point // the outlines since the last fill
}

func newCanvas() *canvas {
	return &canvas{image: image.NewRGBA(image.Rect(0, 0, width, height)), shape: &vector.Rasterizer{}}
}

// rgb is an opaque colour, of a number as in CSS: 0xRRGGBB.
func rgb(number uint32) color.NRGBA {
	return color.NRGBA{R: uint8(number >> 16), G: uint8(number >> 8), B: uint8(number), A: 255}
}

// faint is a colour with an opacity from 0 to 1.
func faint(c color.NRGBA, opacity float64) color.NRGBA {
	c.A = uint8(255 * opacity)
	return c
}

// between is a mixture of two colours: a at 0, b at 1.
func between(a, b color.NRGBA, share float64) color.NRGBA {
	share = min(1, max(0, share))
	mix := func(a, b uint8) uint8 { return uint8(float64(a) + (float64(b)-float64(a))*share + 0.5) }
	return color.NRGBA{mix(a.R, b.R), mix(a.G, b.G), mix(a.B, b.B), mix(a.A, b.A)}
}

// background fills the canvas with a gradient from top to bottom.
func (c *canvas) background(top, bottom color.NRGBA) {
	for y := range height {
		line := image.Rect(0, y, width, y+1)
		draw.Draw(c.image, line, image.NewUniform(between(top, bottom, float64(y)/height)), image.Point{}, draw.Src)
	}
}

// add adds an outline to the shape that the next fill draws.
func (c *canvas) add(outline ...point) { c.added = append(c.added, outline) }

// fill draws the shape that was added since the last fill. It touches only the part of the image where the shape is.
func (c *canvas) fill(paint color.NRGBA) {
	low, high := point{math.Inf(1), math.Inf(1)}, point{math.Inf(-1), math.Inf(-1)}
	for _, outline := range c.added {
		for _, p := range outline {
			low, high = point{min(low.x, p.x), min(low.y, p.y)}, point{max(high.x, p.x), max(high.y, p.y)}
		}
	}
	part := image.Rect(int(math.Floor(low.x)), int(math.Floor(low.y)), int(math.Ceil(high.x)), int(math.Ceil(high.y))).Intersect(c.image.Bounds())
	if !part.Empty() {
		c.shape.Reset(part.Dx(), part.Dy())
		for _, outline := range c.added {
			for i, p := range outline {
				x, y := float32(p.x-float64(part.Min.X)), float32(p.y-float64(part.Min.Y))
				if i == 0 {
					c.shape.MoveTo(x, y)
				} else {
					c.shape.LineTo(x, y)
				}
			}
			c.shape.ClosePath()
		}
		c.shape.Draw(c.image, part, image.NewUniform(paint), image.Point{})
	}
	c.added = c.added[:0]
}

func (c *canvas) polygon(paint color.NRGBA, points ...point) {
	c.add(points...)
	c.fill(paint)
}

func (c *canvas) rectangle(x, y, w, h float64, paint color.NRGBA) {
	c.polygon(paint, point{x, y}, point{x + w, y}, point{x + w, y + h}, point{x, y + h})
}

// rounded is a rectangle with round corners.
func (c *canvas) rounded(x, y, w, h, radius float64, paint color.NRGBA) {
	radius = min(radius, w/2, h/2)
	var outline []point
	for i, corner := range []point{{x + w - radius, y + h - radius}, {x + radius, y + h - radius}, {x + radius, y + radius}, {x + w - radius, y + radius}} {
		outline = append(outline, arc(corner, radius, float64(i)*math.Pi/2, float64(i+1)*math.Pi/2)...)
	}
	c.polygon(paint, outline...)
}

// arc is the points of a part of a circle.
func arc(centre point, radius, from, to float64) []point {
	steps := max(8, int(math.Abs(to-from)*math.Sqrt(radius)*4))
	points := make([]point, steps+1)
	for i := range points {
		points[i] = at(centre, radius, from+(to-from)*float64(i)/float64(steps))
	}
	return points
}

func (c *canvas) circle(centre point, radius float64, paint color.NRGBA) {
	c.polygon(paint, arc(centre, radius, 0, 2*math.Pi)...)
}

// ellipse is not turned.
func (c *canvas) ellipse(centre point, horizontal, vertical float64, paint color.NRGBA) {
	outline := arc(point{}, 1000, 0, 2*math.Pi)
	for i, p := range outline {
		outline[i] = point{centre.x + p.x/1000*horizontal, centre.y + p.y/1000*vertical}
	}
	c.polygon(paint, outline...)
}

// band is a part of a ring between two radii.
func (c *canvas) band(centre point, inner, outer, from, to float64, paint color.NRGBA) {
	c.polygon(paint, append(arc(centre, outer, from, to), arc(centre, max(0, inner), to, from)...)...)
}

func (c *canvas) ring(centre point, inner, outer float64, paint color.NRGBA) {
	c.add(arc(centre, outer, 0, 2*math.Pi)...)
	c.add(arc(centre, inner, 2*math.Pi, 0)...)
	c.fill(paint)
}

// line draws a line of a width through points, with round ends and corners.
func (c *canvas) line(thickness float64, paint color.NRGBA, points ...point) {
	half := thickness / 2
	for i, p := range points {
		c.add(arc(p, half, 0, 2*math.Pi)...)
		if i == 0 {
			continue
		}
		before := points[i-1]
		direction := math.Atan2(p.y-before.y, p.x-before.x)
		// In the same sense of rotation as the circles: shapes of opposite senses would cut holes into each other.
		c.add(at(before, half, direction-math.Pi/2), at(p, half, direction-math.Pi/2), at(p, half, direction+math.Pi/2), at(before, half, direction+math.Pi/2))
	}
	c.fill(paint)
}

// below fills what is below a curve.
func (c *canvas) below(curve func(x float64) float64, paint color.NRGBA) {
	outline := []point{{width, height}, {0, height}}
	for x := 0.0; x <= width; x += 4 {
		outline = append(outline, point{x, curve(x)})
	}
	c.polygon(paint, outline...)
}

// glow is a light that gets weaker with the distance.
func (c *canvas) glow(centre point, radius float64, paint color.NRGBA, strength float64) {
	for y := max(0, int(centre.y-radius)); y < min(height, int(centre.y+radius)+1); y++ {
		for x := max(0, int(centre.x-radius)); x < min(width, int(centre.x+radius)+1); x++ {
			share := 1 - math.Hypot(float64(x)-centre.x, float64(y)-centre.y)/radius
			if share <= 0 {
				continue
			}
			was := c.image.RGBAAt(x, y)
			mixed := between(color.NRGBA(was), paint, strength*share*share)
			mixed.A = 255
			c.image.SetRGBA(x, y, color.RGBA(mixed))
		}
	}
}
