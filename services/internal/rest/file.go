package rest

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"sync"

	"github.com/gofiber/fiber/v2"
)

// File is a file that a process serves itself. It does not change while the process runs. It is compressed when a client first asks for
// that.
type File struct {
	contentType, caching, etag string
	content                    []byte // nil if there is only the compressed form
	zipped                     func() []byte
}

// NewFile returns a file with its media type and its Cache-Control.
func NewFile(contentType, caching string, content []byte) *File {
	return &File{contentType, caching, ETagOf(content), content, sync.OnceValue(func() []byte { return zip(content) })}
}

// NewZippedFile is NewFile for content that is compressed with gzip.
func NewZippedFile(contentType, caching string, zipped []byte) *File {
	return &File{contentType, caching, ETagOf(zipped), nil, func() []byte { return zipped }}
}

// Serve responds with the file, or with 304 if the client has it.
func (f *File) Serve(c *fiber.Ctx) error {
	c.Set(fiber.HeaderETag, "W/"+f.etag) // weak: both forms have it
	c.Set(fiber.HeaderCacheControl, f.caching)
	c.Vary(fiber.HeaderAcceptEncoding)
	if IsCurrent(c, f.etag) {
		return c.SendStatus(fiber.StatusNotModified)
	}
	c.Set(fiber.HeaderContentType, f.contentType)
	if AcceptsGzip(c) {
		c.Set(fiber.HeaderContentEncoding, "gzip")
		return c.Send(f.zipped())
	}
	if f.content != nil {
		return c.Send(f.content)
	}
	content, err := unzip(f.zipped())
	if err != nil {
		return err
	}
	return c.Send(content)
}

// ETagOf returns an ETag that changes with the content.
func ETagOf(content []byte) string {
	sum := sha256.Sum256(content)
	return `"` + hex.EncodeToString(sum[:8]) + `"`
}

func zip(content []byte) []byte {
	var zipped bytes.Buffer
	w, _ := gzip.NewWriterLevel(&zipped, gzip.BestCompression) // fails for an unknown level only
	_, _ = w.Write(content)                                    // a buffer takes everything
	_ = w.Close()
	return zipped.Bytes()
}

func unzip(zipped []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(zipped))
	if err != nil {
		return nil, fmt.Errorf("unzip a file: %w", err)
	}
	content, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("unzip a file: %w", err)
	}
	return content, nil
}
