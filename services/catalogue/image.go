package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	stddraw "image/draw"
	"image/jpeg"
	"image/png"
	"io"
	"slices"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/image/draw"
	"golang.org/x/image/riff"
	"golang.org/x/image/vp8l"
	"golang.org/x/image/webp"

	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/state"
)

// This file makes the image of a show of what its owner uploads, and reads it again.
//
// An upload is from somebody who may want to do harm: a few bytes can demand gigabytes of pixels. So its size is read from its header, and
// what decoding would take is bounded, before a pixel is decoded. A process decodes one upload at a time, and few more wait.
//
// What is stored is a JPEG of the pixels alone: no place where a photograph was taken, no thumbnail, no profile. A photograph's
// orientation is metadata too, so it is applied to the pixels first.

// ImageID is the id of an image. Another image of the same show has another id, so what a URL names never changes.
type ImageID string

// Image is a show's image, as the show's document has it.
type Image struct {
	ID     ImageID `json:"id"`
	Width  int     `json:"width"`
	Height int     `json:"height"`
	// Digest identifies the content: the same upload again changes nothing.
	Digest string `json:"digest"`
}

// imageSchema is the format of the documents of images that this release writes.
const imageSchema = 1

// storedImage is the document of an image.
type storedImage struct {
	Schema int     `json:"schema"`
	ID     ImageID `json:"id"`
	ShowID id.Show `json:"showId"`
	JPEG   []byte  `json:"jpeg"`
}

// Upload is what an owner sends: the bytes of a file, of a media type that it is declared as.
type Upload struct {
	MediaType string
	Bytes     []byte
}

var (
	errNoImage      = problem.New(problem.NotFound, "not_found", "There is no such image.")
	errImageInvalid = problem.New(problem.Invalid, "image_invalid", "The body is not an image of the type that Content-Type names.")
	errImageLarge   = problem.New(problem.Invalid, "image_invalid", "The image has too many pixels. %d megapixels are always accepted, and %d in most files.", alwaysAccepted/1_000_000, acceptedPixels/1_000_000)
	errImagesBusy   = problem.New(problem.Unavailable, "unavailable", "The service is at work on other images. Nothing was changed: send the same request again.").WithRetryAfter(2 * time.Second)
)

const (
	// maxUpload bounds an upload, in bytes.
	maxUpload = 2_000_000
	// maxSide bounds the longer side of a stored image, in pixels.
	maxSide = 1600
	// maxStored bounds a stored image, in bytes. In a document a byte takes 4/3, and Dapr takes 4 MB for a transaction.
	maxStored = 700_000
	// maxMemory bounds the memory that an upload takes when it is decoded and scaled, in bytes.
	maxMemory = 125_000_000
	// acceptedPixels are accepted in each format: 8 bytes each, or less, and one for the first step of scaling. The exceptions are a
	// progressive JPEG whose colours have the resolution of its brightness, or nearly (15 bytes; 20 with four colours), and an interlaced PNG
	// with 16 bits per sample (16 bytes). Of those, alwaysAccepted are.
	acceptedPixels = 12_000_000
	alwaysAccepted = 5_000_000
	// maxScans bounds the passes over all pixels that a progressive JPEG can demand. Programs make about ten.
	maxScans = 40
	// maxUploads bounds the uploads that wait until they are decoded, or are decoded.
	maxUploads = 8
)

// qualities of the stored JPEG: the first with which it is short enough.
var qualities = []int{85, 75, 60, 40, 20}

// encoder decodes uploads, one at a time. Make one with newEncoder.
type encoder struct {
	uploads  chan struct{} // an element for each upload
	decoding chan struct{} // an element while one is decoded
}

func newEncoder() *encoder {
	return &encoder{uploads: make(chan struct{}, maxUploads), decoding: make(chan struct{}, 1)}
}

// Encode makes a picture of an upload. The error is errImageInvalid or errImageLarge, or errImagesBusy if too many others wait.
func (e *encoder) Encode(ctx context.Context, upload Upload) (picture, error) {
	select {
	case e.uploads <- struct{}{}:
		defer func() { <-e.uploads }()
	default:
		return picture{}, errImagesBusy
	}
	select {
	case e.decoding <- struct{}{}:
		defer func() { <-e.decoding }()
	case <-ctx.Done():
		return picture{}, errImagesBusy.Because(ctx.Err())
	}
	return encode(upload)
}

// picture is an image as it is stored: a JPEG without metadata.
type picture struct {
	jpeg          []byte
	width, height int
}

func (p picture) image(image ImageID) Image {
	sum := sha256.Sum256(p.jpeg)
	return Image{ID: image, Width: p.width, Height: p.height, Digest: base64.RawURLEncoding.EncodeToString(sum[:])}
}

// encode decodes an upload, scales it to maxSide, turns it upright, puts what is transparent on white, and makes a JPEG of it.
func encode(upload Upload) (picture, error) {
	of, known := formats[upload.MediaType]
	if !known {
		return picture{}, fmt.Errorf("no decoder of %q", upload.MediaType)
	}
	size, err := of.size(upload.Bytes)
	switch {
	case err != nil:
		return picture{}, errImageInvalid.Because(err)
	case size.width <= 0 || size.height <= 0:
		return picture{}, errImageInvalid
	case size.bytes+size.width*size.height > maxMemory:
		return picture{}, errImageLarge
	}
	decoded, err := of.decode(bytes.NewReader(upload.Bytes))
	if err != nil {
		return picture{}, errImageInvalid.Because(err)
	}
	upright := turn(shrink(decoded, maxSide), orientation(of.exif(upload.Bytes)))
	for _, quality := range qualities {
		var out bytes.Buffer
		if err := jpeg.Encode(&out, upright, &jpeg.Options{Quality: quality}); err != nil {
			return picture{}, fmt.Errorf("encode an image: %w", err)
		}
		if out.Len() <= maxStored {
			return picture{out.Bytes(), upright.Rect.Dx(), upright.Rect.Dy()}, nil
		}
	}
	return picture{}, errImageLarge // even noise is shorter with the last quality
}

// size is the size of an image in pixels, and about the memory in bytes that decoding takes.
type size struct{ width, height, bytes int }

func sizeOf(config image.Config, bytesPerPixel int) size {
	return size{config.Width, config.Height, config.Width * config.Height * bytesPerPixel}
}

// format is how to read files of a media type.
type format struct {
	// size reads the header of a file.
	size   func(file []byte) (size, error)
	decode func(io.Reader) (image.Image, error)
	// exif returns the Exif data (a TIFF structure), nil if there is none.
	exif func(file []byte) []byte
}

var formats = map[string]format{
	"image/jpeg": {sizeOfJPEG, jpeg.Decode, exifOfJPEG},
	"image/png":  {sizeOfPNG, png.Decode, exifOfPNG},
	"image/webp": {sizeOfWebP, webp.Decode, exifOfWebP},
}

// mediaTypes are those of formats, in an order for messages.
var mediaTypes = []string{"image/jpeg", "image/png", "image/webp"}

// sizeOfJPEG counts the samples of the components, and for a progressive file their coefficients: 4 bytes each. (Package image/jpeg
// refuses a file with two frame headers, so the first one counts.) A file whose frame header segments does not reach is refused:
// image/jpeg skips bytes between segments, and would decode it.
func sizeOfJPEG(file []byte) (size, error) {
	config, err := jpeg.DecodeConfig(bytes.NewReader(file))
	if err != nil {
		return size{}, err
	}
	if bytes.Count(file, []byte{0xff, 0xda}) > maxScans {
		return size{}, errors.New("it has too many scans")
	}
	s := size{width: config.Width, height: config.Height}
	for marker, segment := range segments(file) {
		if marker < 0xc0 || marker > 0xc2 || len(segment) < 6 { // SOF0 to SOF2
			continue
		}
		components := segment[6:]
		widest, highest := 1, 1
		for c := range slices.Chunk(components, 3) {
			if len(c) == 3 {
				widest, highest = max(widest, int(c[1]>>4)), max(highest, int(c[1]&15))
			}
		}
		perSample := 1
		if marker == 0xc2 {
			perSample = 5
		}
		for c := range slices.Chunk(components, 3) {
			if len(c) == 3 {
				s.bytes += s.width * s.height * int(c[1]>>4) * int(c[1]&15) * perSample / (widest * highest)
			}
		}
		return s, nil
	}
	return size{}, errors.New("its frame header cannot be found")
}

// sizeOfPNG counts a pixel of shades of grey like one of colours: a shade that stands for transparent pixels comes after the header, and makes
// package image/png decode to colours. An interlaced file counts twice: package image/png makes an image of each of the seven passes, which
// together have as many pixels as the whole, and copies it.
func sizeOfPNG(file []byte) (size, error) {
	config, err := png.DecodeConfig(bytes.NewReader(file))
	if err != nil {
		return size{}, err
	}
	perPixel := 4
	switch config.ColorModel {
	case color.NRGBA64Model, color.RGBA64Model, color.Gray16Model:
		perPixel = 8
	}
	if file[interlaceMethod] != 0 {
		perPixel *= 2
	}
	return sizeOf(config, perPixel), nil
}

// interlaceMethod is the offset of a byte of the header that is always the first chunk (PNG specification, 11.2.1): 8 bytes of the signature, 8 of the chunk's
// length and type, then the last of 13.
const interlaceMethod = 8 + 8 + 12

// sizeOfWebP compares the size of the canvas with that of the frame: webp.Decode allocates the pixels of a lossless frame whatever the
// canvas is.
func sizeOfWebP(file []byte) (size, error) {
	config, err := webp.DecodeConfig(bytes.NewReader(file))
	if err != nil {
		return size{}, err
	}
	_, chunks, err := riff.NewReader(bytes.NewReader(file))
	if err != nil {
		return size{}, err
	}
	for {
		chunk, _, content, err := chunks.Next()
		if errors.Is(err, io.EOF) {
			return sizeOf(config, 8), nil
		}
		if err != nil {
			return size{}, err
		}
		if chunk != (riff.FourCC{'V', 'P', '8', 'L'}) {
			continue
		}
		frame, err := vp8l.DecodeConfig(content)
		if err != nil {
			return size{}, err
		}
		if frame.Width != config.Width || frame.Height != config.Height {
			return size{}, errors.New("its frame and its canvas have different sizes")
		}
	}
}

// shrink scales an image so that its longer side has at most side pixels, on white. It never enlarges. Halves are means of four pixels,
// so that nothing is left out; the last step is smaller than a half.
func shrink(from image.Image, side int) *image.RGBA {
	source := from
	for {
		bounds := source.Bounds()
		w, h := bounds.Dx(), bounds.Dy()
		longer := max(w, h)
		switch {
		case longer >= 2*side:
			w, h = max(1, w/2), max(1, h/2)
		case longer > side:
			w, h = max(1, (w*side+longer/2)/longer), max(1, (h*side+longer/2)/longer)
		default:
			if done, ok := source.(*image.RGBA); ok && source != from {
				return done
			}
		}
		scaled := image.NewRGBA(image.Rect(0, 0, w, h))
		stddraw.Draw(scaled, scaled.Rect, image.White, image.Point{}, stddraw.Src)
		draw.ApproxBiLinear.Scale(scaled, scaled.Rect, source, bounds, draw.Over, nil)
		source = scaled
	}
}

// turn applies an orientation of Exif, 1 to 8: 2 is mirrored, 3 upside down, 4 both, 5 to 8 have lines for columns.
func turn(from *image.RGBA, orientation int) *image.RGBA {
	w, h := from.Rect.Dx(), from.Rect.Dy()
	// at returns which pixel of from is at x, y.
	var at func(x, y int) (int, int)
	switch orientation {
	case 2:
		at = func(x, y int) (int, int) { return w - 1 - x, y }
	case 3:
		at = func(x, y int) (int, int) { return w - 1 - x, h - 1 - y }
	case 4:
		at = func(x, y int) (int, int) { return x, h - 1 - y }
	case 5:
		at = func(x, y int) (int, int) { return y, x }
	case 6:
		at = func(x, y int) (int, int) { return y, h - 1 - x }
	case 7:
		at = func(x, y int) (int, int) { return w - 1 - y, h - 1 - x }
	case 8:
		at = func(x, y int) (int, int) { return w - 1 - y, x }
	default:
		return from
	}
	rect := image.Rect(0, 0, w, h)
	if orientation >= 5 {
		rect = image.Rect(0, 0, h, w)
	}
	turned := image.NewRGBA(rect)
	for y := range rect.Dy() {
		for x := range rect.Dx() {
			fromX, fromY := at(x, y)
			turned.SetRGBA(x, y, from.RGBAAt(fromX, fromY))
		}
	}
	return turned
}

// segments yields the segments of a JPEG before its first scan: the marker and the content. It ends where another byte than a marker is
// between two segments, or a marker that has no length: what it yields are segments for package image/jpeg too.
func segments(file []byte) func(yield func(marker byte, content []byte) bool) {
	const startOfScan = 0xda
	return func(yield func(byte, []byte) bool) {
		rest := file[min(2, len(file)):] // after the marker of the start
		for len(rest) >= 4 && rest[0] == 0xff {
			marker, length := rest[1], int(binary.BigEndian.Uint16(rest[2:]))
			switch {
			case marker == 0xff: // fill
				rest = rest[1:]
				continue
			case marker == startOfScan, marker < 0xc0, marker >= 0xd0 && marker <= 0xd9, length < 2, 2+length > len(rest):
				return
			}
			if !yield(marker, rest[4:2+length]) {
				return
			}
			rest = rest[2+length:]
		}
	}
}

// exifHeader precedes the Exif data in a JPEG, and sometimes in a WebP.
var exifHeader = []byte("Exif\x00\x00")

func exifOfJPEG(file []byte) []byte {
	const app1 = 0xe1
	for marker, content := range segments(file) {
		if exif, found := bytes.CutPrefix(content, exifHeader); found && marker == app1 {
			return exif
		}
	}
	return nil
}

func exifOfPNG(file []byte) []byte {
	const signature, around = 8, 12 // a chunk's length, type and checksum
	for rest := file[min(signature, len(file)):]; len(rest) >= around; {
		length := binary.BigEndian.Uint32(rest)
		if int64(length) > int64(len(rest)-around) {
			return nil
		}
		if string(rest[4:8]) == "eXIf" {
			return rest[8 : 8+length]
		}
		rest = rest[around+length:]
	}
	return nil
}

func exifOfWebP(file []byte) []byte {
	_, chunks, err := riff.NewReader(bytes.NewReader(file))
	if err != nil {
		return nil
	}
	for {
		chunk, _, content, err := chunks.Next()
		if err != nil {
			return nil
		}
		if chunk == (riff.FourCC{'E', 'X', 'I', 'F'}) {
			exif, err := io.ReadAll(content)
			if err != nil {
				return nil
			}
			return bytes.TrimPrefix(exif, exifHeader)
		}
	}
}

// orientation reads the orientation from Exif data. It is 1, upright, if there is none that can be read. (Exif 2.32, 4.6.4; TIFF 6.0,
// section 2: a header, then a directory of entries of 12 bytes.)
func orientation(exif []byte) int {
	const upright, tag, short = 1, 0x0112, 3
	if len(exif) < 8 {
		return upright
	}
	var order binary.ByteOrder
	switch string(exif[:4]) {
	case "II*\x00":
		order = binary.LittleEndian
	case "MM\x00*":
		order = binary.BigEndian
	default:
		return upright
	}
	at := int64(order.Uint32(exif[4:]))
	if at+2 > int64(len(exif)) {
		return upright
	}
	entries := exif[at+2:]
	for range order.Uint16(exif[at:]) {
		if len(entries) < 12 {
			return upright
		}
		if order.Uint16(entries) == tag && order.Uint16(entries[2:]) == short {
			if value := int(order.Uint16(entries[8:])); 1 <= value && value <= 8 {
				return value
			}
			return upright
		}
		entries = entries[12:]
	}
	return upright
}

// images reads the documents of images. It keeps those that were read last in memory: images never change. Make one with newImages.
type images struct {
	documents *state.Store
	// reading bounds the documents that are read at a time, because other reads share calls of the sidecar with them.
	reading chan struct{}

	mu    sync.Mutex
	known *lru.Cache[ImageID, []byte]
	bytes int // of known
}

const (
	// imagesReadAtOnce bounds the images that are read at a time.
	imagesReadAtOnce = 2
	// imagesKnown and bytesKnown bound the images in memory.
	imagesKnown = 1024
	bytesKnown  = 32 << 20
)

func newImages(documents *state.Store) *images {
	i := &images{documents: documents, reading: make(chan struct{}, imagesReadAtOnce)}
	known, err := lru.NewWithEvict(imagesKnown, func(_ ImageID, jpeg []byte) { i.bytes -= len(jpeg) })
	if err != nil {
		panic(err) // the size is a constant
	}
	i.known = known
	return i
}

// Get returns an image. The error is errNoImage if there is none.
func (i *images) Get(ctx context.Context, image ImageID) ([]byte, error) {
	if jpeg, found := i.find(image); found {
		return jpeg, nil
	}
	if err := i.begin(ctx); err != nil {
		return nil, err
	}
	defer i.end()
	if jpeg, found := i.find(image); found { // another request has read it
		return jpeg, nil
	}
	doc, err := state.Get[storedImage](ctx, i.documents, imageKey(image))
	if errors.Is(err, state.ErrNotFound) {
		return nil, errNoImage
	}
	if err != nil {
		return nil, err
	}
	i.keep(image, doc.Value.JPEG)
	return doc.Value.JPEG, nil
}

// delete adds the deletion of an image to a change.
func (i *images) delete(ctx context.Context, image ImageID, change *state.Change) error {
	if err := i.begin(ctx); err != nil {
		return err
	}
	defer i.end()
	doc, err := state.Get[storedImage](ctx, i.documents, imageKey(image))
	if errors.Is(err, state.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	change.Delete(doc.Key, doc.ETag)
	return nil
}

func (i *images) begin(ctx context.Context) error {
	select {
	case i.reading <- struct{}{}:
		return nil
	case <-ctx.Done():
		return errImagesBusy.Because(ctx.Err())
	}
}

func (i *images) end() { <-i.reading }

func (i *images) find(image ImageID) ([]byte, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.known.Get(image)
}

func (i *images) keep(image ImageID, jpeg []byte) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.known.Contains(image) {
		return
	}
	i.known.Add(image, jpeg)
	i.bytes += len(jpeg)
	for i.bytes > bytesKnown {
		i.known.RemoveOldest()
	}
}
