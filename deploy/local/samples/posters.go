package samples

import (
	"bytes"
	"image/color"
	"image/jpeg"
	"math"
	"math/rand/v2"
)

// poster is how the picture of a show is drawn. The same poster is always the same picture.
type poster struct {
	motif   motif
	palette palette
}

// motif draws a picture. It takes all that is random from chance, whose seed is the same each time.
type motif func(c *canvas, p palette, chance *rand.Rand)

// palette has the two colours of the background and those of what is before it.
type palette struct {
	top, bottom  color.NRGBA
	a, b, d, ink color.NRGBA
}

func colours(top, bottom, a, b, d, ink uint32) palette {
	return palette{rgb(top), rgb(bottom), rgb(a), rgb(b), rgb(d), rgb(ink)}
}

var (
	night    = colours(0x141432, 0x3a2466, 0xff6b6b, 0xffd166, 0x8338ec, 0xf7f3ff)
	neon     = colours(0x0b1026, 0x1b1240, 0x22d3ee, 0xf472b6, 0xa78bfa, 0xfdf4ff)
	ember    = colours(0x2b0d16, 0x6d1a2a, 0xe63946, 0xffb703, 0xfb8500, 0xfff1e0)
	sea      = colours(0xbfe3ee, 0xe8f6f4, 0x1d6f8f, 0xf28f3b, 0x0b3c5d, 0xffffff)
	sand     = colours(0xf6e7cb, 0xf2cfa6, 0xc8553d, 0x588b8b, 0x28536b, 0xfffaf0)
	peach    = colours(0xffd9c0, 0xff9e80, 0x9b2226, 0xfff3e2, 0x5f0f40, 0x3c0a28)
	mint     = colours(0xd8f3dc, 0xa8e0c8, 0x1b4332, 0xff6f59, 0x40916c, 0xffffff)
	lilac    = colours(0xe9dcff, 0xc3b0f2, 0x3c1874, 0xff7b9c, 0x7047c9, 0xffffff)
	slate    = colours(0x20262e, 0x3b4754, 0xf2b84b, 0xe7ecef, 0x6d8299, 0xffffff)
	sky      = colours(0x7cc6f5, 0xf9e3c1, 0xef476f, 0xffd166, 0x118ab2, 0xffffff)
	parquet  = colours(0x0f2f2a, 0x1f5c4d, 0xf28f3b, 0xffd9a0, 0x2d8f6f, 0xf1faee)
	midnight = colours(0x050a30, 0x10306b, 0xf9c74f, 0x90e0ef, 0x2a4d9b, 0xffffff)
)

// draw returns the poster as a JPEG.
func (p poster) draw(seed uint64) ([]byte, error) {
	c := newCanvas()
	c.background(p.palette.top, p.palette.bottom)
	p.motif(c, p.palette, rand.New(rand.NewPCG(seed, 1)))
	var out bytes.Buffer
	err := jpeg.Encode(&out, c.image, &jpeg.Options{Quality: 88})
	return out.Bytes(), err
}

// spread is a random number in a range.
func spread(chance *rand.Rand, from, to float64) float64 { return from + chance.Float64()*(to-from) }

// Music.

func vinyl(c *canvas, p palette, _ *rand.Rand) {
	centre := point{width * 0.46, height * 0.54}
	c.glow(centre, 560, p.a, 0.5)
	c.circle(centre, 330, rgb(0x0c0b14))
	for i := range 26 {
		radius := 140 + float64(i)*7.2
		c.ring(centre, radius, radius+1.4, faint(p.ink, 0.06+0.05*float64(i%4)/3))
	}
	for _, direction := range []float64{-0.9, 2.24} {
		for i := range 10 { // light on the grooves
			c.band(centre, 132, 322, direction-0.16+float64(i)*0.012, direction+0.16-float64(i)*0.012, faint(p.ink, 0.016))
		}
	}
	c.circle(centre, 118, p.a)
	c.band(centre, 0, 118, math.Pi*0.25, math.Pi*1.25, p.b)
	c.ring(centre, 84, 88, faint(p.top, 0.5))
	c.circle(centre, 11, p.top)
	c.circle(point{940, 170}, 58, faint(p.ink, 0.95))
	c.circle(point{940, 170}, 26, p.d)
	c.line(16, p.ink, point{940, 170}, point{930, 420}, point{800, 560})
	c.line(34, p.b, point{812, 548}, point{778, 584})
}

func soundWaves(c *canvas, p palette, chance *rand.Rand) {
	c.glow(point{width / 2, 420}, 620, p.d, 0.55)
	for row := range 19 {
		base := 215 + float64(row)*29
		shift, height1, height2 := spread(chance, -80, 80), spread(chance, 40, 135), spread(chance, 10, 40)
		curve := func(x float64) float64 {
			middle := math.Exp(-math.Pow((x-width/2-shift)/190, 2))
			side := math.Exp(-math.Pow((x-width/2+shift*2)/260, 2))
			return base - middle*height1 - side*height2*(1+math.Sin(x/19+shift)) - 3*math.Sin(x/37+float64(row))
		}
		c.below(curve, between(p.top, p.bottom, float64(row)/19))
		var line []point
		for x := 90.0; x <= width-90; x += 4 {
			line = append(line, point{x, curve(x)})
		}
		c.line(3.4, between(p.a, p.b, float64(row)/18), line...)
	}
}

func equaliser(c *canvas, p palette, chance *rand.Rand) {
	c.glow(point{width / 2, height / 2}, 700, p.d, 0.35)
	const bars = 27
	for i := range bars {
		x := 66 + float64(i)*40
		size := 60 + 480*math.Exp(-math.Pow((float64(i)-13)/8.5, 2))*spread(chance, 0.35, 1)
		c.rounded(x, height/2-size/2, 24, size, 12, between(p.a, p.b, float64(i)/bars))
		c.rounded(x, height/2-size/2+size*0.36, 24, size*0.28, 12, faint(p.ink, 0.5))
	}
}

func brass(c *canvas, p palette, _ *rand.Rand) {
	centre := point{width * 0.5, height * 1.02}
	shades := []color.NRGBA{p.a, p.b, p.d, p.ink}
	for i := 9; i >= 0; i-- {
		c.band(centre, 0, 120+float64(i)*72, math.Pi, 2*math.Pi, shades[i%4])
		c.band(centre, 0, 104+float64(i)*72, math.Pi, 2*math.Pi, between(p.top, p.bottom, 0.5))
	}
	c.circle(centre, 104, p.b)
	for i := range 7 {
		direction := math.Pi + (float64(i)+0.5)*math.Pi/7
		c.circle(at(centre, 690, direction), 24, shades[(i+1)%4])
	}
}

func pianoKeys(c *canvas, p palette, _ *rand.Rand) {
	c.glow(point{300, 200}, 640, p.b, 0.55)
	c.circle(point{300, 230}, 120, p.b)
	// The keys run over a curve that falls to the right.
	edge := func(x float64) float64 { return 470 - 130*math.Sin(x/width*math.Pi*1.15) }
	const key = 75.0
	for i := range 16 {
		x := float64(i) * key
		c.polygon(p.ink, point{x + 2, edge(x)}, point{x + key - 2, edge(x + key)}, point{x + key - 2, height}, point{x + 2, height})
	}
	for i := range 16 {
		if i%7 == 2 || i%7 == 6 {
			continue
		}
		x := float64(i)*key + key*0.66
		c.polygon(p.top, point{x, edge(x)}, point{x + key*0.64, edge(x + key*0.64)}, point{x + key*0.64, edge(x) + 190}, point{x, edge(x) + 190})
	}
	var lid []point
	for x := 0.0; x <= width; x += 8 {
		lid = append(lid, point{x, edge(x)})
	}
	c.line(12, p.a, lid...)
}

// Theatre.

func curtain(c *canvas, p palette, _ *rand.Rand) {
	stage := point{width / 2, 690}
	c.polygon(faint(p.b, 0.34), point{width/2 - 40, 0}, point{width/2 + 40, 0}, point{width/2 + 330, 690}, point{width/2 - 330, 690})
	c.ellipse(stage, 330, 62, faint(p.b, 0.85))
	c.ellipse(point{width / 2, 676}, 60, 12, faint(p.top, 0.5))
	c.line(10, p.top, point{width / 2, 676}, point{width / 2, 470})
	c.circle(point{width / 2, 440}, 42, p.top) // a mask on a stand
	c.band(point{width / 2, 440}, 17, 24, 0.35, math.Pi-0.35, p.b)
	c.circle(point{width/2 - 16, 430}, 6, p.b)
	c.circle(point{width/2 + 16, 430}, 6, p.b)
	for side := range 2 {
		for fold := range 9 {
			outer := float64(fold) * 46
			shade := between(p.a, p.top, 0.12+0.5*float64(fold%2)+0.03*float64(fold))
			var outline []point
			for y := 0.0; y <= height; y += 10 {
				share := math.Pow(y/height, 1.6)
				outline = append(outline, point{430 - outer - share*(250-outer*0.42), y})
			}
			outline = append(outline, point{-10, height}, point{-10, 0})
			if side == 1 {
				for i := range outline {
					outline[i].x = width - outline[i].x
				}
			}
			c.polygon(shade, outline...)
		}
	}
	for i := range 9 { // the valance
		x := float64(i)*150 - 75
		c.ellipse(point{x + 75, 0}, 82, 118, between(p.a, p.top, 0.3))
		c.ellipse(point{x + 75, 0}, 82, 100, p.a)
		c.circle(point{x + 75, 112}, 8, p.b)
	}
}

func moonlight(c *canvas, p palette, chance *rand.Rand) {
	for range 90 {
		c.circle(point{spread(chance, 0, width), spread(chance, 0, 480)}, spread(chance, 0.8, 2.6), faint(p.ink, spread(chance, 0.3, 0.9)))
	}
	moon := point{800, 250}
	c.glow(moon, 420, p.b, 0.5)
	c.circle(moon, 128, p.b)
	c.circle(point{762, 222}, 22, faint(p.top, 0.08))
	c.circle(point{838, 290}, 32, faint(p.top, 0.07))
	for i := range 5 {
		share := float64(i) / 4
		base, phase := 470+float64(i)*72, spread(chance, 0, 6)
		c.below(func(x float64) float64 {
			return base + 46*math.Sin(x/(260-share*60)+phase) + 16*math.Sin(x/83+phase*2)
		}, between(p.d, p.top, 0.15+0.8*share))
	}
	for range 26 { // firs on the last hills
		x, size := spread(chance, 0, width), spread(chance, 46, 110)
		y := 800 - spread(chance, 0, 40)
		for part := range 3 {
			low := y - float64(part)*size*0.3
			c.polygon(between(p.d, p.top, 0.97), point{x, low - size*0.6}, point{x + size*0.26, low}, point{x - size*0.26, low})
		}
	}
}

func windows(c *canvas, p palette, chance *rand.Rand) {
	c.glow(point{960, 140}, 520, p.a, 0.35)
	c.circle(point{960, 150}, 70, p.ink)
	for building := range 7 {
		x, w := float64(building)*178-20, spread(chance, 150, 196)
		top := spread(chance, 190, 430)
		c.rectangle(x, top, w, height-top, between(p.top, p.d, 0.15+0.45*float64(building%3)/2))
		columns := int(w / 44)
		for row := 0; top+34+float64(row)*58 < height-40; row++ {
			for column := range columns {
				lit := chance.IntN(10)
				shade := faint(p.ink, 0.08)
				switch {
				case lit < 3:
					shade = p.a
				case lit < 4:
					shade = p.b
				}
				c.rounded(x+20+float64(column)*(w-40)/float64(columns)+4, top+34+float64(row)*58, 26, 36, 3, shade)
			}
		}
	}
}

// Comedy.

func microphone(c *canvas, p palette, _ *rand.Rand) {
	bubbles := []struct {
		x, y, w, h float64
		shade      color.NRGBA
		tail       float64
	}{{110, 110, 350, 190, p.b, 90}, {760, 90, 320, 170, p.d, -90}, {820, 390, 270, 150, p.b, -80}, {90, 430, 260, 150, p.d, 80}}
	for _, one := range bubbles {
		middle := one.x + one.w/2
		c.polygon(one.shade, point{middle - 26 + one.tail, one.y + one.h - 4}, point{middle + 26 + one.tail, one.y + one.h - 4}, point{middle + one.tail*1.75, one.y + one.h + 54})
		c.rounded(one.x, one.y, one.w, one.h, 60, one.shade)
		for i := range 3 {
			c.circle(point{middle - 58 + float64(i)*58, one.y + one.h/2}, 17, p.ink)
		}
	}
	c.rounded(width/2-14, 430, 28, 420, 10, p.a)
	c.rounded(width/2-88, 180, 176, 280, 88, p.a)
	for i := range 6 {
		c.rounded(width/2-66, 218+float64(i)*26, 132, 9, 5, faint(p.ink, 0.85))
	}
	c.rounded(width/2-96, 392, 192, 26, 13, p.ink)
}

func smiles(c *canvas, p palette, chance *rand.Rand) {
	shades := []color.NRGBA{p.a, p.b, p.d, p.ink}
	for row := range 4 {
		for column := range 6 {
			centre := point{100 + float64(column)*200, 100 + float64(row)*200}
			n := (row*3 + column*2 + chance.IntN(2)) % 4
			face, line := shades[n], shades[(n+2)%4]
			c.rectangle(centre.x-100, centre.y-100, 200, 200, between(p.top, shades[(n+1)%4], 0.22))
			c.circle(centre, 78, face)
			turn := spread(chance, -0.35, 0.35)
			c.band(centre, 34, 48, 0.2+turn, math.Pi-0.2+turn, line)
			for _, eye := range []float64{-2.2, -0.94} {
				c.circle(at(centre, 30, eye+turn), 8, line)
			}
		}
	}
}

// Dance.

func ribbons(c *canvas, p palette, chance *rand.Rand) {
	c.glow(point{width * 0.5, height * 0.5}, 640, p.ink, 0.4)
	shades := []color.NRGBA{p.a, p.b, p.d, p.ink}
	for i := range 15 {
		phase, lift := float64(i)*0.24, spread(chance, 0.92, 1.08)
		curve := func(x, shift float64) point {
			share := x / width
			y := height*0.5 + math.Sin(share*math.Pi*2.1+phase+shift)*(120+float64(i)*15)*lift*math.Sin(share*math.Pi*0.9+0.22) + (float64(i)-7)*17
			return point{x, y}
		}
		var upper, lower []point
		for x := -20.0; x <= width+20; x += 6 {
			upper = append(upper, curve(x, 0))
			lower = append([]point{curve(x, 0.16+0.05*math.Sin(x/90))}, lower...)
		}
		c.polygon(faint(shades[i%3], 0.62), append(upper, lower...)...)
	}
}

func steps(c *canvas, p palette, _ *rand.Rand) {
	c.glow(point{width * 0.5, height * 0.45}, 600, p.b, 0.35)
	for i := range 64 {
		share := float64(i) / 63
		direction := share * math.Pi * 4.2
		radius := 350 * (1 - share*0.82)
		for partner := range 2 {
			turn := float64(partner) * math.Pi
			centre := at(point{width / 2, height / 2}, radius, direction+turn)
			centre.x = width/2 + (centre.x-width/2)*1.45
			shade := between(p.a, p.b, share)
			if partner == 1 {
				shade = between(p.d, p.ink, share)
			}
			c.circle(centre, 54*(1-share)+8, faint(shade, 0.75))
		}
	}
}

// Sport.

func track(c *canvas, p palette, _ *rand.Rand) {
	centre := point{width * 0.12, height * 1.12}
	for i := 8; i >= 0; i-- {
		shade := p.a
		if i%2 == 1 {
			shade = between(p.a, p.top, 0.12)
		}
		c.circle(centre, 300+float64(i)*98, shade)
		c.ring(centre, 300+float64(i)*98-5, 300+float64(i)*98, p.ink)
	}
	c.circle(centre, 298, p.d)
	for i := range 8 {
		lane := 349 + float64(i)*98
		runner := at(centre, lane, -1.16+0.16*math.Sin(float64(i)*2.4)+float64(i)*0.015)
		c.glow(runner, 60, p.b, 0.5)
		for trail := range 9 {
			behind := at(centre, lane, -1.16+0.16*math.Sin(float64(i)*2.4)+float64(i)*0.015-float64(trail)*14/lane)
			c.circle(behind, 22-float64(trail)*2, faint(p.b, 0.9-float64(trail)*0.09))
		}
	}
}

func court(c *canvas, p palette, _ *rand.Rand) {
	c.ring(point{width / 2, height / 2}, 196, 204, faint(p.ink, 0.5))
	c.rectangle(width/2-4, 0, 8, height, faint(p.ink, 0.5))
	c.ring(point{-40, height / 2}, 376, 384, faint(p.ink, 0.5))
	c.ring(point{width + 40, height / 2}, 376, 384, faint(p.ink, 0.5))
	c.rectangle(0, 280, 190, 240, faint(p.d, 0.6))
	c.rectangle(width-190, 280, 190, 240, faint(p.d, 0.6))
	ball := point{width * 0.56, height * 0.46}
	for i := range 12 { // where it came from
		share := float64(i) / 12
		c.circle(point{ball.x - 420*(1-share), ball.y + 300*math.Pow(1-share, 2)}, 60+100*share, faint(p.a, 0.06+0.05*share))
	}
	c.circle(ball, 178, p.a)
	c.glow(point{ball.x - 60, ball.y - 70}, 150, p.b, 0.5)
	seam := p.top
	c.line(7, seam, point{ball.x - 178, ball.y}, point{ball.x + 178, ball.y})
	c.line(7, seam, point{ball.x, ball.y - 178}, point{ball.x, ball.y + 178})
	left, right := arc(point{ball.x - 226, ball.y}, 178, -0.885, 0.885), arc(point{ball.x + 226, ball.y}, 178, math.Pi-0.885, math.Pi+0.885)
	c.line(7, seam, left...)
	c.line(7, seam, right...)
}

// Family.

func balloons(c *canvas, p palette, chance *rand.Rand) {
	cloud := func(x, y, size float64, shade color.NRGBA) {
		for i, part := range []float64{0.6, 1, 0.75, 0.5} {
			c.circle(point{x + float64(i)*size*0.62, y - part*size*0.16}, size*part*0.6, shade)
		}
		c.rounded(x-size*0.36, y-size*0.02, size*2.5, size*0.42, size*0.2, shade)
	}
	cloud(120, 190, 80, faint(p.ink, 0.9))
	cloud(820, 320, 96, faint(p.ink, 0.9))
	balloon := func(x, y, size float64, first, second color.NRGBA) {
		c.line(3, p.d, point{x - size*0.3, y + size*0.9}, point{x - size*0.13, y + size*1.5})
		c.line(3, p.d, point{x + size*0.3, y + size*0.9}, point{x + size*0.13, y + size*1.5})
		c.polygon(first, append(arc(point{x, y}, size, math.Pi*0.85, math.Pi*2.15), point{x + size*0.2, y + size*1.12}, point{x - size*0.2, y + size*1.12})...)
		for i, share := range []float64{0.62, 0.22} {
			shade := second
			if i == 1 {
				shade = first
			}
			outline := append(arc(point{}, 1, math.Pi*0.85, math.Pi*2.15), point{0.2, 1.12}, point{-0.2, 1.12})
			for n, corner := range outline {
				outline[n] = point{x + corner.x*size*share, y + corner.y*size}
			}
			c.polygon(shade, outline...)
		}
		c.rounded(x-size*0.18, y+size*1.46, size*0.36, size*0.3, 6, p.d)
	}
	balloon(390, 290, 170, p.a, p.b)
	balloon(830, 190, 104, p.b, p.d)
	balloon(1050, 420, 74, p.d, p.a)
	for i := range 3 {
		base, phase := 640+float64(i)*52, spread(chance, 0, 6)
		c.below(func(x float64) float64 { return base + 34*math.Sin(x/210+phase) }, between(rgb(0x7fb685), rgb(0x2f6f4f), float64(i)/2))
	}
}

func boats(c *canvas, p palette, chance *rand.Rand) {
	c.circle(point{930, 190}, 92, p.b)
	c.glow(point{930, 190}, 300, p.b, 0.35)
	boat := func(x, y, size float64, shade color.NRGBA) {
		c.polygon(p.ink, point{x, y - size}, point{x + size*0.52, y}, point{x - size*0.52, y})
		c.polygon(faint(p.d, 0.16), point{x, y - size}, point{x + size*0.52, y}, point{x, y})
		c.polygon(shade, point{x - size, y - size*0.16}, point{x, y + size*0.04}, point{x + size, y - size*0.16}, point{x + size*0.62, y + size*0.44}, point{x - size*0.62, y + size*0.44})
		c.polygon(faint(p.d, 0.22), point{x, y + size*0.04}, point{x + size, y - size*0.16}, point{x + size*0.62, y + size*0.44}, point{x, y + size*0.44})
	}
	for i := range 6 {
		share := float64(i) / 5
		base, phase := 400+float64(i)*74, spread(chance, 0, 6)
		curve := func(x float64) float64 { return base + (14+share*12)*math.Sin(x/(80+share*60)+phase) }
		switch i {
		case 1:
			boat(820, curve(820)-22, 70, p.b)
		case 2:
			boat(330, curve(330)-36, 128, p.a)
		case 4:
			boat(890, curve(890)-24, 92, p.a)
		}
		c.below(curve, between(between(p.a, p.top, 0.55), p.d, share))
	}
}

// Festivals.

func sunburst(c *canvas, p palette, _ *rand.Rand) {
	centre := point{width / 2, 560}
	for i := range 24 {
		if i%2 == 0 {
			from := float64(i) * math.Pi / 12
			c.polygon(faint(p.b, 0.5), centre, at(centre, 1100, from), at(centre, 1100, from+math.Pi/12))
		}
	}
	c.circle(centre, 236, p.a)
	c.circle(centre, 190, between(p.a, p.b, 0.55))
	c.circle(centre, 140, p.b)
	c.below(func(x float64) float64 { return 600 + 40*math.Sin(x/240+0.6) }, p.d)
	c.below(func(x float64) float64 { return 690 + 30*math.Sin(x/180+2.4) }, between(p.d, p.top, -0.2))
	for i, tent := range []point{{250, 640}, {520, 676}, {930, 650}} {
		size := []float64{130, 88, 150}[i]
		c.polygon(p.ink, point{tent.x, tent.y - size}, point{tent.x + size*0.9, tent.y + 20}, point{tent.x - size*0.9, tent.y + 20})
		c.polygon(p.a, point{tent.x, tent.y - size}, point{tent.x + size*0.28, tent.y + 20}, point{tent.x - size*0.28, tent.y + 20})
		c.line(4, p.ink, point{tent.x, tent.y - size}, point{tent.x, tent.y - size - 34})
		c.polygon(p.b, point{tent.x, tent.y - size - 36}, point{tent.x + 34, tent.y - size - 24}, point{tent.x, tent.y - size - 12})
	}
	shades := []color.NRGBA{p.a, p.ink, p.d}
	for line := range 2 { // bunting
		y := func(x float64) float64 { return 60 + float64(line)*70 + 90*math.Sin(x/width*math.Pi) }
		var rope []point
		for x := 0.0; x <= width; x += 12 {
			rope = append(rope, point{x, y(x)})
		}
		c.line(3, p.d, rope...)
		for i := range 20 {
			x := 30 + float64(i)*60
			c.polygon(shades[(i+line)%3], point{x - 20, y(x - 20)}, point{x + 20, y(x + 20)}, point{x, y(x) + 46})
		}
	}
}

func fireworks(c *canvas, p palette, chance *rand.Rand) {
	for _, one := range []struct {
		x, y, size float64
		shade      color.NRGBA
	}{{330, 270, 230, p.a}, {800, 210, 270, p.b}, {1030, 470, 150, p.ink}, {560, 470, 150, p.d}, {110, 520, 110, p.b}} {
		centre := point{one.x, one.y}
		c.glow(centre, one.size*1.25, one.shade, 0.4)
		for i := range 34 {
			direction := float64(i)*2*math.Pi/34 + spread(chance, -0.04, 0.04)
			far := one.size * spread(chance, 0.72, 1)
			c.line(3, faint(one.shade, 0.75), at(centre, far*0.26, direction), at(centre, far*0.9, direction))
			c.circle(at(centre, far, direction), spread(chance, 3, 7), one.shade)
		}
		c.circle(centre, 9, p.ink)
	}
	for i := range 44 { // people before it
		x := float64(i) * 28
		y := 730 + spread(chance, -22, 26)
		c.circle(point{x, y}, 19, rgb(0x07060f))
		c.rounded(x-26, y+14, 52, 100, 24, rgb(0x07060f))
		if chance.IntN(4) == 0 {
			c.line(11, rgb(0x07060f), point{x + 16, y + 26}, point{x + 26, y - 52})
		}
	}
}

// Others.

func tiles(c *canvas, p palette, chance *rand.Rand) {
	shades := []color.NRGBA{p.a, p.b, p.d, p.ink}
	const size = 200.0
	for row := range 4 {
		for column := range 6 {
			x, y := float64(column)*size, float64(row)*size
			ground := chance.IntN(4)
			front := (ground + 1 + chance.IntN(3)) % 4
			c.rectangle(x, y, size, size, shades[ground])
			corners := []point{{x, y}, {x + size, y}, {x + size, y + size}, {x, y + size}}
			n := chance.IntN(4)
			quarter := float64(n) * math.Pi / 2
			switch chance.IntN(5) {
			case 0:
				c.band(corners[n], 0, size, quarter, quarter+math.Pi/2, shades[front])
			case 1:
				c.polygon(shades[front], corners[n], corners[(n+1)%4], corners[(n+2)%4])
			case 2:
				c.circle(point{x + size/2, y + size/2}, size*0.36, shades[front])
				c.circle(point{x + size/2, y + size/2}, size*0.16, shades[ground])
			case 3:
				for i := range 4 {
					c.band(corners[n], size-float64(i)*50-25, size-float64(i)*50, quarter, quarter+math.Pi/2, shades[front])
				}
			case 4:
				c.band(corners[n], 0, size/2, quarter, quarter+math.Pi/2, shades[front])
				c.band(corners[(n+2)%4], 0, size/2, quarter+math.Pi, quarter+math.Pi*1.5, shades[front])
			}
		}
	}
}

func orbits(c *canvas, p palette, chance *rand.Rand) {
	for range 170 {
		c.circle(point{spread(chance, 0, width), spread(chance, 0, height)}, spread(chance, 0.7, 2.4), faint(p.ink, spread(chance, 0.25, 0.9)))
	}
	sun := point{width * 0.36, height * 0.52}
	c.glow(sun, 460, p.a, 0.55)
	c.circle(sun, 92, p.a)
	shades := []color.NRGBA{p.b, p.ink, p.d, p.a, p.b}
	for i := range 5 {
		radius := 165 + float64(i)*112
		c.ring(sun, radius-1.2, radius+1.2, faint(p.ink, 0.35))
		planet := at(sun, radius, -0.9+float64(i)*0.93+spread(chance, -0.3, 0.3))
		size := []float64{16, 24, 40, 30, 22}[i]
		c.circle(planet, size, shades[i])
		c.circle(point{planet.x + size*0.22, planet.y + size*0.22}, size*0.78, faint(p.top, 0.25))
		if i == 2 {
			c.line(5, faint(p.ink, 0.85), point{planet.x - size*1.7, planet.y + size*0.5}, point{planet.x + size*1.7, planet.y - size*0.5})
		}
	}
}
