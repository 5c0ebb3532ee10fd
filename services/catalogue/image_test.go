package main

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// The corners of the test image are red, green, blue and white: top left, top right, bottom left, bottom right.
var (
	red   = color.RGBA{R: 255, A: 255}
	green = color.RGBA{G: 255, A: 255}
	blue  = color.RGBA{B: 255, A: 255}
	white = color.RGBA{R: 255, G: 255, B: 255, A: 255}
)

func corners(w, h int) *image.RGBA {
	pixels := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			pixels.SetRGBA(x, y, [2][2]color.RGBA{{red, green}, {blue, white}}[y*2/h][x*2/w])
		}
	}
	return pixels
}

// nameOf is the corner's colour that a pixel is nearest to.
func nameOf(c color.Color) string {
	r, g, b, _ := c.RGBA()
	bright := func(v uint32) bool { return v > 0x8000 }
	switch [3]bool{bright(r), bright(g), bright(b)} {
	case [3]bool{true, false, false}:
		return "red"
	case [3]bool{false, true, false}:
		return "green"
	case [3]bool{false, false, true}:
		return "blue"
	case [3]bool{true, true, true}:
		return "white"
	}
	return fmt.Sprint(c)
}

func jpegOf(t testing.TB, pixels image.Image) []byte {
	var out bytes.Buffer
	require.NoError(t, jpeg.Encode(&out, pixels, &jpeg.Options{Quality: 90}))
	return out.Bytes()
}

func pngOf(t testing.TB, pixels image.Image) []byte {
	var out bytes.Buffer
	require.NoError(t, png.Encode(&out, pixels))
	return out.Bytes()
}

// exifWith is Exif data with an orientation and a text that may not be kept.
func exifWith(order binary.AppendByteOrder, orientation int) []byte {
	header := []byte("II*\x00")
	if order == binary.BigEndian {
		header = []byte("MM\x00*")
	}
	exif := order.AppendUint32(header, 8)
	exif = order.AppendUint16(exif, 2)
	exif = order.AppendUint16(exif, 0x010f) // the maker, a text at the end
	exif = order.AppendUint16(exif, 2)
	exif = order.AppendUint32(exif, uint32(len(secret)))
	exif = order.AppendUint32(exif, 8+2+2*12+4)
	exif = order.AppendUint16(exif, 0x0112)
	exif = order.AppendUint16(exif, 3)
	exif = order.AppendUint32(exif, 1)
	exif = order.AppendUint16(exif, uint16(orientation))
	exif = order.AppendUint16(exif, 0)
	exif = order.AppendUint32(exif, 0)
	return append(exif, secret...)
}

const secret = "52.5030 N 13.3272 E"

// withExifInJPEG adds Exif data and a comment after the marker of the start.
func withExifInJPEG(file, exif []byte) []byte {
	segment := func(marker byte, content []byte) []byte {
		return append(binary.BigEndian.AppendUint16([]byte{0xff, marker}, uint16(2+len(content))), content...)
	}
	return slices.Concat(file[:2], segment(0xe1, append(slices.Clone(exifHeader), exif...)), segment(0xfe, []byte(secret)), file[2:])
}

// withExifInPNG adds Exif data and a text after the header.
func withExifInPNG(file, exif []byte) []byte {
	const header = 8 + 12 + 13
	return slices.Concat(file[:header], chunkOfPNG("eXIf", exif), chunkOfPNG("tEXt", []byte("Comment\x00"+secret)), file[header:])
}

// bits writes a lossless WebP, which begins with the least significant bit.
type bits struct {
	out  []byte
	used int
}

func (b *bits) write(value uint32, n int) {
	for i := range n {
		if b.used%8 == 0 {
			b.out = append(b.out, 0)
		}
		b.out[len(b.out)-1] |= byte(value>>i&1) << (b.used % 8)
		b.used++
	}
}

// losslessOf is a frame (VP8L) whose left half has the first colour and whose right half the second, with the simplest codes: one or two
// values for each of green, red, blue and alpha, and none for distances. Without pixels it is a header with codes of one colour: then no
// pixel takes a bit.
func losslessOf(w, h int, left, right color.RGBA, pixels bool) []byte {
	b := &bits{}
	b.write(0x2f, 8)
	b.write(uint32(w-1), 14)
	b.write(uint32(h-1), 14)
	b.write(0, 1+3) // no alpha, version 0
	b.write(0, 3)   // no transform, no cache of colours, one group of codes
	channels := [][2]byte{{left.G, right.G}, {left.R, right.R}, {left.B, right.B}, {255, 255}, {0, 0}}
	for _, values := range channels {
		b.write(1, 1) // a simple code
		one := values[0] == values[1] || !pixels
		if one {
			b.write(0, 1)
		} else {
			b.write(1, 1)
		}
		b.write(1, 1) // the first value has 8 bits
		b.write(uint32(min(values[0], values[1])), 8)
		if !one {
			b.write(uint32(max(values[0], values[1])), 8)
		}
	}
	for range h {
		for x := range w {
			for _, values := range channels[:4] {
				if !pixels || values[0] == values[1] {
					continue
				}
				// The smaller value has the code 0.
				second := x >= w/2
				b.write(map[bool]uint32{true: 1, false: 0}[second == (values[1] > values[0])], 1)
			}
		}
		if !pixels {
			break
		}
	}
	return b.out
}

type webPChunk struct {
	name    string
	content []byte
}

func webPOf(chunks ...webPChunk) []byte {
	body := []byte("WEBP")
	for _, c := range chunks {
		body = append(body, c.name...)
		body = binary.LittleEndian.AppendUint32(body, uint32(len(c.content)))
		body = append(body, c.content...)
		if len(c.content)%2 == 1 {
			body = append(body, 0)
		}
	}
	return append(binary.LittleEndian.AppendUint32([]byte("RIFF"), uint32(len(body))), body...)
}

// canvas is the chunk VP8X, with a size and the flag of Exif data.
func canvas(w, h int) webPChunk {
	content := []byte{1 << 3, 0, 0, 0}
	for _, side := range []int{w - 1, h - 1} {
		content = append(content, byte(side), byte(side>>8), byte(side>>16))
	}
	return webPChunk{"VP8X", content}
}

func decodeStored(t testing.TB, p picture) image.Image {
	decoded, err := jpeg.Decode(bytes.NewReader(p.jpeg))
	require.NoError(t, err)
	require.Equal(t, image.Rect(0, 0, p.width, p.height), decoded.Bounds())
	return decoded
}

func TestEncode_EachFormatBecomesAJPEGWithoutMetadata(t *testing.T) {
	exif := exifWith(binary.LittleEndian, 1)
	for mediaType, file := range map[string][]byte{
		"image/jpeg": withExifInJPEG(jpegOf(t, corners(64, 48)), exif),
		"image/png":  withExifInPNG(pngOf(t, corners(64, 48)), exif),
		"image/webp": webPOf(canvas(64, 48), webPChunk{"VP8L", losslessOf(64, 48, red, green, true)}, webPChunk{"EXIF", exif}, webPChunk{"XMP ", []byte(secret)}),
	} {
		require.Contains(t, string(file), secret)
		p, err := encode(Upload{mediaType, file})
		require.NoError(t, err, mediaType)
		decoded := decodeStored(t, p)
		require.Equal(t, image.Pt(64, 48), decoded.Bounds().Size(), "it is not enlarged")
		require.Equal(t, "red", nameOf(decoded.At(8, 8)), mediaType)
		require.Equal(t, "green", nameOf(decoded.At(56, 8)), mediaType)
		require.NotContains(t, string(p.jpeg), secret)
		for marker := range segments(p.jpeg) {
			require.NotContains(t, []byte{0xe1, 0xe2, 0xed, 0xfe}, marker, "Exif, profile, IPTC or comment")
		}
	}
}

func TestEncode_TurnsAPhotographUpright(t *testing.T) {
	// The line of the image that is stored first is at this side, and so is its first column (Exif 2.32, 4.6.4).
	sides := [9][2]string{
		1: {"top", "left"}, 2: {"top", "right"}, 3: {"bottom", "right"}, 4: {"bottom", "left"},
		5: {"left", "top"}, 6: {"right", "top"}, 7: {"right", "bottom"}, 8: {"left", "bottom"},
	}
	opposite := map[string]string{"top": "bottom", "bottom": "top", "left": "right", "right": "left"}
	at := func(decoded image.Image, a, b string) string {
		size, p := decoded.Bounds().Size(), image.Point{}
		for _, side := range []string{a, b} {
			switch side {
			case "top":
				p.Y = size.Y / 4
			case "bottom":
				p.Y = size.Y * 3 / 4
			case "left":
				p.X = size.X / 4
			case "right":
				p.X = size.X * 3 / 4
			}
		}
		return nameOf(decoded.At(p.X, p.Y))
	}
	for orientation := 1; orientation <= 8; orientation++ {
		for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
			exif := exifWith(order, orientation)
			for mediaType, file := range map[string][]byte{
				"image/jpeg": withExifInJPEG(jpegOf(t, corners(64, 32)), exif),
				"image/png":  withExifInPNG(pngOf(t, corners(64, 32)), exif),
			} {
				p, err := encode(Upload{mediaType, file})
				require.NoError(t, err)
				decoded := decodeStored(t, p)
				line, column := sides[orientation][0], sides[orientation][1]
				require.Equal(t, "red", at(decoded, line, column), "%s %d", mediaType, orientation)
				require.Equal(t, "green", at(decoded, line, opposite[column]), "%s %d", mediaType, orientation)
				require.Equal(t, "blue", at(decoded, opposite[line], column), "%s %d", mediaType, orientation)
				require.Equal(t, "white", at(decoded, opposite[line], opposite[column]), "%s %d", mediaType, orientation)
				require.Equal(t, orientation >= 5, p.height == 64, "lines become columns")
			}
		}
		file := webPOf(canvas(64, 32), webPChunk{"VP8L", losslessOf(64, 32, red, green, true)}, webPChunk{"EXIF", append(slices.Clone(exifHeader), exifWith(binary.BigEndian, orientation)...)})
		p, err := encode(Upload{"image/webp", file})
		require.NoError(t, err)
		decoded := decodeStored(t, p)
		line, column := sides[orientation][0], sides[orientation][1]
		require.Equal(t, "red", at(decoded, line, column), orientation)
		require.Equal(t, "green", at(decoded, line, opposite[column]), orientation)
	}
}

func TestOrientation_OfWhatCannotBeReadIsUpright(t *testing.T) {
	whole := exifWith(binary.BigEndian, 6)
	require.Equal(t, 6, orientation(whole))
	for length := range 8 + 2 + 2*12 {
		require.Equal(t, 1, orientation(whole[:length]), length)
	}
	for _, value := range []int{0, 9, 1 << 15} {
		require.Equal(t, 1, orientation(exifWith(binary.LittleEndian, value)))
	}
	far := slices.Clone(whole)
	binary.BigEndian.PutUint32(far[4:], 0xffffffff)
	require.Equal(t, 1, orientation(far))
	require.Equal(t, 1, orientation([]byte("no Exif data at all")))
}

func TestEncode_ScalesDownToTheLongerSide(t *testing.T) {
	for _, tt := range []struct{ w, h, wantW, wantH int }{
		{1600, 1600, 1600, 1600},
		{1601, 800, 1600, 800},
		{3200, 1000, 1600, 500},
		{4032, 3024, 1600, 1200},
		{800, 3000, 427, 1600},
		{9000, 1, 1600, 1},
		{1, 1, 1, 1},
	} {
		gray := image.NewGray(image.Rect(0, 0, tt.w, tt.h))
		for i := range gray.Pix {
			gray.Pix[i] = 128
		}
		p, err := encode(Upload{"image/png", pngOf(t, gray)})
		require.NoError(t, err)
		require.Equal(t, []int{tt.wantW, tt.wantH}, []int{p.width, p.height})
		r, _, _, _ := decodeStored(t, p).At(0, 0).RGBA()
		require.InDelta(t, 128, r>>8, 2)
	}
	p, err := encode(Upload{"image/jpeg", jpegOf(t, corners(4000, 3000))})
	require.NoError(t, err)
	decoded := decodeStored(t, p)
	for corner, want := range map[image.Point]string{{X: 700, Y: 500}: "red", {X: 900, Y: 500}: "green", {X: 700, Y: 700}: "blue", {X: 900, Y: 700}: "white"} {
		require.Equal(t, want, nameOf(decoded.At(corner.X, corner.Y)))
	}
}

func TestEncode_PutsWhatIsTransparentOnWhite(t *testing.T) {
	for _, side := range []int{10, 2000, 4000} {
		p, err := encode(Upload{"image/png", pngOf(t, image.NewNRGBA(image.Rect(0, 0, side, side)))})
		require.NoError(t, err)
		require.Equal(t, "white", nameOf(decodeStored(t, p).At(p.width/2, p.height/2)))
	}
}

func TestEncode_NoiseIsShortEnoughToBeStored(t *testing.T) {
	noise := image.NewRGBA(image.Rect(0, 0, maxSide, maxSide))
	random := rand.NewChaCha8([32]byte{1})
	for i := range noise.Pix {
		noise.Pix[i] = byte(random.Uint64())
	}
	p, err := encode(Upload{"image/jpeg", jpegOf(t, noise)})
	require.NoError(t, err)
	require.LessOrEqual(t, len(p.jpeg), maxStored)
}

// header is a JPEG up to the beginning of its first scan, with three components, the first of which is sampled twice as often in both directions.
func header(frame byte, w, h int) []byte {
	file := []byte{0xff, 0xd8, 0xff, frame, 0, 17, 8}
	file = binary.BigEndian.AppendUint16(file, uint16(h))
	file = binary.BigEndian.AppendUint16(file, uint16(w))
	file = append(file, 3, 1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1)
	return append(file, 0xff, 0xda, 0, 12)
}

// headerOfPNG is the beginning of a PNG, with samples of so many bits. kind is the colour type, and interlace the method.
func headerOfPNG(w, h uint32, bits, kind, interlace byte) []byte {
	content := binary.BigEndian.AppendUint32(nil, w)
	content = append(binary.BigEndian.AppendUint32(content, h), bits, kind, 0, 0, interlace)
	return append([]byte("\x89PNG\r\n\x1a\n"), chunkOfPNG("IHDR", content)...)
}

func chunkOfPNG(kind string, content []byte) []byte {
	named := append([]byte(kind), content...)
	return binary.BigEndian.AppendUint32(append(binary.BigEndian.AppendUint32(nil, uint32(len(content))), named...), crc32.ChecksumIEEE(named))
}

// interlaced is a transparent PNG with 16 bits per sample and four samples per pixel, in the passes of Adam7.
func interlaced(t *testing.T, w, h int) []byte {
	passes := []struct{ x, y, stepX, stepY int }{{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4}, {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}}
	var compressed bytes.Buffer
	out := zlib.NewWriter(&compressed)
	for _, p := range passes {
		row := make([]byte, 1+8*((w-p.x+p.stepX-1)/p.stepX))
		for y := p.y; y < h; y += p.stepY {
			_, err := out.Write(row)
			require.NoError(t, err)
		}
	}
	require.NoError(t, out.Close())
	return slices.Concat(headerOfPNG(uint32(w), uint32(h), 16, 6, 1), chunkOfPNG("IDAT", compressed.Bytes()), chunkOfPNG("IEND", nil))
}

// allocated returns how many bytes a call allocates. What it frees meanwhile counts too: nothing makes the collector run in time.
func allocated(call func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	call()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestEncode_AnInterlacedImageTakesNoMoreMemoryThanOthers(t *testing.T) {
	const w, h = 3200, 2200
	file := interlaced(t, w, h)
	var p picture
	var err error
	// The last step of scaling and the JPEG are not counted: they take the same for all images.
	const lastStep = 2 * 4 * maxSide * maxSide
	require.LessOrEqual(t, allocated(func() { p, err = encode(Upload{"image/png", file}) }), uint64(maxMemory+lastStep))
	require.NoError(t, err)
	require.Equal(t, []int{1600, 1100}, []int{p.width, p.height})
	require.Equal(t, "white", nameOf(decodeStored(t, p).At(800, 550)))
}

func TestSize_OfAcceptedPixelsIsNotTooMuch(t *testing.T) {
	jpegWith := func(frame byte, w, h int, sampling ...byte) []byte {
		file := []byte{0xff, 0xd8, 0xff, frame, 0, byte(8 + 3*len(sampling)), 8}
		file = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(file, uint16(h)), uint16(w))
		file = append(file, byte(len(sampling)))
		for i, s := range sampling {
			file = append(file, byte(i+1), s, 0)
		}
		return append(file, 0xff, 0xda, 0, 12)
	}
	for name, tt := range map[string]struct {
		mediaType string
		pixels    int
		file      func(w, h int) []byte
	}{
		"PNG, 16 bits":             {"image/png", acceptedPixels, func(w, h int) []byte { return headerOfPNG(uint32(w), uint32(h), 16, 6, 0) }},
		"interlaced PNG":           {"image/png", acceptedPixels, func(w, h int) []byte { return headerOfPNG(uint32(w), uint32(h), 8, 6, 1) }},
		"interlaced PNG, 16 bits":  {"image/png", alwaysAccepted, func(w, h int) []byte { return headerOfPNG(uint32(w), uint32(h), 16, 6, 1) }},
		"WebP":                     {"image/webp", acceptedPixels, func(w, h int) []byte { return webPOf(webPChunk{"VP8L", losslessOf(w, h, red, red, false)}) }},
		"JPEG, all colours":        {"image/jpeg", acceptedPixels, func(w, h int) []byte { return jpegWith(0xc0, w, h, 0x11, 0x11, 0x11, 0x11) }},
		"progressive JPEG":         {"image/jpeg", acceptedPixels, func(w, h int) []byte { return jpegWith(0xc2, w, h, 0x22, 0x11, 0x11) }},
		"progressive, all colours": {"image/jpeg", alwaysAccepted, func(w, h int) []byte { return jpegWith(0xc2, w, h, 0x11, 0x11, 0x11) }},
		"progressive, four":        {"image/jpeg", alwaysAccepted, func(w, h int) []byte { return jpegWith(0xc2, w, h, 0x11, 0x11, 0x11, 0x11) }},
	} {
		_, err := encode(Upload{tt.mediaType, tt.file(4000, tt.pixels/4000)})
		require.NotErrorIs(t, err, errImageLarge, name)
	}
}

// A few bytes can demand gigabytes of pixels. They are refused before a pixel is decoded.
func TestEncode_RefusesWhatWouldTakeTooMuchMemory(t *testing.T) {
	for name, tt := range map[string]struct {
		upload Upload
		want   error
	}{
		"a PNG of 40 megapixels in shades of grey":      {Upload{"image/png", headerOfPNG(8000, 5000, 8, 0, 0)}, errImageLarge},
		"a PNG of 20 megapixels in 65,536 shades":       {Upload{"image/png", headerOfPNG(5000, 4000, 16, 0, 0)}, errImageLarge},
		"an interlaced PNG of 14 megapixels":            {Upload{"image/png", headerOfPNG(4300, 3200, 16, 6, 1)}, errImageLarge},
		"an interlaced PNG of 20 megapixels":            {Upload{"image/png", headerOfPNG(5000, 4000, 8, 6, 1)}, errImageLarge},
		"a PNG of 100,000 × 100,000":                    {Upload{"image/png", headerOfPNG(100_000, 100_000, 8, 6, 0)}, errImageLarge},
		"a PNG with the largest sides":                  {Upload{"image/png", headerOfPNG(1<<31-1, 1<<31-1, 8, 6, 0)}, errImageInvalid},
		"a JPEG of 65,535 × 65,535":                     {Upload{"image/jpeg", header(0xc0, 65535, 65535)}, errImageLarge},
		"a progressive JPEG of 20 megapixels":           {Upload{"image/jpeg", header(0xc2, 5000, 4000)}, errImageLarge},
		"a JPEG with a hundred scans":                   {Upload{"image/jpeg", append(jpegOf(t, corners(8, 8)), bytes.Repeat([]byte{0xff, 0xda}, 100)...)}, errImageInvalid},
		"a lossless WebP of 16,384 × 16,384":            {Upload{"image/webp", webPOf(webPChunk{"VP8L", losslessOf(16384, 16384, red, red, false)})}, errImageLarge},
		"the same in a canvas of one pixel":             {Upload{"image/webp", webPOf(canvas(1, 1), webPChunk{"VP8L", losslessOf(16384, 16384, red, red, false)})}, errImageInvalid},
		"a WebP with a canvas of 16,777,216 × 16":       {Upload{"image/webp", webPOf(canvas(1<<24, 16), webPChunk{"VP8L", losslessOf(16, 16, red, red, false)})}, errImageInvalid},
		"a WebP with a canvas of 16,777,216 × 16777216": {Upload{"image/webp", webPOf(canvas(1<<24, 1<<24), webPChunk{"VP8L", losslessOf(16, 16, red, red, false)})}, errImageInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			require.Less(t, len(tt.upload.Bytes), 4096)
			var err error
			require.Less(t, allocated(func() { _, err = encode(tt.upload) }), uint64(1<<20), "allocated bytes")
			require.ErrorIs(t, err, tt.want)
		})
	}
}

// Package image/jpeg skips what is between the segments of these files, and decodes the large progressive frame that comes after it.
func TestSize_RefusesAFrameThatIsHidden(t *testing.T) {
	large := header(0xc2, 5000, 4000)
	comment := append([]byte{0xff, 0xfe, 0, 21}, header(0xc0, 8, 8)[2:21]...)
	for name, hidden := range map[string][]byte{
		"after another byte":            {0},
		"after a restart":               {0xff, 0xd0},
		"in what seems to be a segment": {0xff, 0, 0, 25},
	} {
		file := slices.Concat(large[:2], hidden, large[2:21], comment, large[21:])
		config, err := jpeg.DecodeConfig(bytes.NewReader(file))
		require.NoError(t, err, name)
		require.Equal(t, 5000, config.Width, name)
		_, err = sizeOfJPEG(file)
		require.Error(t, err, name)
	}
}

func TestSize_AcceptsThePhotographsOfPhones(t *testing.T) {
	for name, file := range map[string][]byte{
		"12 megapixels":              header(0xc0, 4032, 3024),
		"12 megapixels, progressive": header(0xc2, 4032, 3024),
		"24 megapixels":              header(0xc0, 5712, 4284),
		"48 megapixels":              header(0xc0, 8064, 6048),
	} {
		size, err := sizeOfJPEG(file)
		require.NoError(t, err, name)
		require.LessOrEqual(t, size.bytes+size.width*size.height, maxMemory, name)
	}
	size, err := sizeOfJPEG(header(0xc0, 4000, 3000))
	require.NoError(t, err)
	require.Equal(t, 18_000_000, size.bytes, "half of the colours' samples are stored")
}

func TestEncode_RefusesWhatIsNoImageOfItsType(t *testing.T) {
	asJPEG, asPNG := jpegOf(t, corners(64, 48)), pngOf(t, corners(64, 48))
	asWebP := webPOf(webPChunk{"VP8L", losslessOf(64, 48, red, green, true)})
	for name, upload := range map[string]Upload{
		"nothing":             {"image/jpeg", nil},
		"a text":              {"image/png", []byte("an image, or not")},
		"a page":              {"image/webp", []byte("<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")},
		"a PNG as a JPEG":     {"image/jpeg", asPNG},
		"a JPEG as a PNG":     {"image/png", asJPEG},
		"a WebP as a JPEG":    {"image/jpeg", asWebP},
		"half a JPEG":         {"image/jpeg", asJPEG[:len(asJPEG)/2]},
		"half a PNG":          {"image/png", asPNG[:len(asPNG)/2]},
		"half a WebP":         {"image/webp", asWebP[:len(asWebP)/2]},
		"a PNG with an error": {"image/png", bytes.Replace(asPNG, []byte("IDAT"), []byte("IDAX"), 1)},
	} {
		_, err := encode(upload)
		require.ErrorIs(t, err, errImageInvalid, name)
	}
}

// Uploads wait while another one is decoded. Beyond a few, they are refused at once.
func TestEncoder_DecodesOneUploadAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEncoder()
		upload := Upload{"image/png", pngOf(t, corners(8, 8))}
		e.decoding <- struct{}{} // as if one were decoded
		patient, giveUp := context.WithTimeout(t.Context(), time.Minute)
		defer giveUp()
		errs := make(chan error, maxUploads)
		for i := range maxUploads {
			ctx := patient
			if i == 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(t.Context(), time.Second)
				defer cancel()
			}
			go func() {
				_, err := e.Encode(ctx, upload)
				errs <- err
			}()
		}
		synctest.Wait()
		_, err := e.Encode(t.Context(), upload)
		require.ErrorIs(t, err, errImagesBusy, "too many wait")
		require.ErrorIs(t, <-errs, errImagesBusy, "it does not wait any longer")
		<-e.decoding
		for range maxUploads - 1 {
			require.NoError(t, <-errs)
		}
		_, err = e.Encode(t.Context(), upload)
		require.NoError(t, err)
	})
}

func TestImages_TheBytesInMemoryAreBounded(t *testing.T) {
	i := newImages(nil)
	const length = bytesKnown / 4
	for n := range 6 {
		i.keep(ImageID(fmt.Sprint(n)), make([]byte, length))
		i.keep(ImageID(fmt.Sprint(n)), make([]byte, length)) // of another request
		require.LessOrEqual(t, i.bytes, bytesKnown)
	}
	require.Equal(t, bytesKnown, i.bytes)
	for n := range 6 {
		_, found := i.find(ImageID(fmt.Sprint(n)))
		require.Equal(t, n >= 2, found, "the last four")
	}
	for n := range imagesKnown + 1 {
		i.keep(ImageID(fmt.Sprint("short ", n)), []byte{0})
	}
	require.LessOrEqual(t, i.bytes, bytesKnown)
	require.Equal(t, imagesKnown, i.known.Len())
}
