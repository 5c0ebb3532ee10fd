package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/client"
	"boxoffice/deploy/proof/event"
)

// hamlet is a show that starts in a month.
func hamlet() client.NewShow {
	return client.NewShow{
		Name: "Hamlet", Venue: "Schaubühne", City: "Berlin", Country: "DE", StartsAt: time.Now().AddDate(0, 1, 0).UTC().Truncate(time.Millisecond),
		TimeZone: "Europe/Berlin", Category: "theatre", Description: "In German.\n\nWith surtitles.", MaxMarkup: new(20),
	}
}

func (s *testStack) show(t testing.TB, id string) client.Show {
	t.Helper()
	r := s.call(t, client.ReadShow(id))
	requireStatus(t, 200, r)
	return decode[client.Show](t, r)
}

func TestShows_FromTheAnnouncementToTheCancellation(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	owner, key := s.signUp(t), uuid.NewString()

	announced := owner.call(t, client.CreateShow(hamlet()).WithKey(key))
	requireStatus(t, 201, announced)
	show := decode[client.Show](t, announced)
	want := hamlet()
	require.Equal(t, client.Show{
		ID: show.ID, Name: want.Name, Venue: want.Venue, City: want.City, Country: "DE", StartsAt: show.StartsAt, TimeZone: "Europe/Berlin", Category: "theatre",
		Description: want.Description, MaxMarkup: new(20), Status: "scheduled", UserID: owner.ID, Version: 1, CreatedAt: show.CreatedAt, UpdatedAt: show.CreatedAt,
	}, show)
	require.WithinDuration(t, want.StartsAt, show.StartsAt, time.Minute)
	require.WithinDuration(t, time.Now(), show.CreatedAt, time.Minute)
	require.Equal(t, "/api/shows/"+show.ID, announced.Header.Get("Location"))
	require.Equal(t, `"1"`, announced.Header.Get("ETag"))
	require.NotContains(t, string(announced.Body), `"schema"`)
	read := s.call(t, client.ReadShow(show.ID))
	require.Equal(t, announced.Body, read.Body)
	require.Equal(t, `"1"`, read.Header.Get("ETag"))

	other := hamlet()
	other.Name = "Lear"
	requireProblem(t, 409, owner.call(t, client.CreateShow(other).WithKey(key)), "idempotency_key_reused")

	other.Version = 1
	changed := owner.call(t, client.ChangeShow(show.ID, other))
	requireStatus(t, 200, changed)
	require.Equal(t, `"2"`, changed.Header.Get("ETag"))
	require.Equal(t, "Lear", s.show(t, show.ID).Name)
	requireProblem(t, 409, owner.call(t, client.ChangeShow(show.ID, other)), "stale_version")
	requireProblem(t, 409, owner.call(t, client.CancelShow(show.ID).With("If-Match", `"1"`)), "stale_version")
	requireProblem(t, 403, s.signUp(t).call(t, client.ChangeShow(show.ID, hamlet())), "not_owner")
	requireProblem(t, 403, s.signUp(t).call(t, client.CancelShow(show.ID)), "not_owner")
	requireProblem(t, 401, s.call(t, client.CancelShow(show.ID)))
	requireProblem(t, 404, owner.call(t, client.CancelShow(unknownID)), "not_found")
	for id := range strings.FieldsSeq(nonsenseIDs) {
		require.Equal(t, 404, s.call(t, client.ReadShow(id)).Status, id)
	}

	for range 2 {
		requireStatus(t, 204, owner.call(t, client.CancelShow(show.ID).With("If-Match", `"2"`)))
	}
	last := s.show(t, show.ID)
	require.Equal(t, "cancelled", last.Status)
	require.Equal(t, 3, last.Version)
	requireProblem(t, 409, owner.call(t, client.ChangeShow(show.ID, hamlet())), "show_cancelled")

	stream := s.stream(t)
	stream.waitFor(t, "show.created:"+show.ID+":1", "show.updated:"+show.ID+":2", "show.cancelled:"+show.ID+":3")
	for _, e := range stream.read() {
		if e.Subject == show.ID {
			require.Equal(t, "events.shows", e.message.Topic, e.ID)
		}
	}
	require.False(t, stream.has("show.cancelled:"+show.ID+":4"), "a repeated cancellation changes nothing")
}

func TestShows_RefusesWhatNoShowHas(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	owner := s.signUp(t)
	show := owner.announce(t, hamlet())
	for code, change := range map[string]func(*client.NewShow){
		"required name":         func(n *client.NewShow) { n.Name = "" },
		"notblank venue":        func(n *client.NewShow) { n.Venue = " " },
		"printable city":        func(n *client.NewShow) { n.City = "a\tb" },
		"max name":              func(n *client.NewShow) { n.Name = strings.Repeat("x", 201) },
		"min maxMarkup":         func(n *client.NewShow) { n.MaxMarkup = new(-1) },
		"invalid country":       func(n *client.NewShow) { n.Country = "XX" },
		"invalid timeZone":      func(n *client.NewShow) { n.TimeZone = "Europe/Atlantis" },
		"invalid category":      func(n *client.NewShow) { n.Category = "opera" },
		"min startsAt":          func(n *client.NewShow) { n.StartsAt = time.Now().Add(-time.Hour) },
		"max startsAt":          func(n *client.NewShow) { n.StartsAt = time.Now().AddDate(3, 0, 1) },
		"max description":       func(n *client.NewShow) { n.Description = strings.Repeat("x", 2001) },
		"printable description": func(n *client.NewShow) { n.Description = "\u202e" },
	} {
		wrong := hamlet()
		change(&wrong)
		for _, r := range []client.Request{client.CreateShow(wrong), client.ChangeShow(show.ID, wrong)} {
			problem := requireProblem(t, 400, owner.call(t, r))
			require.Equal(t, code, problem.Errors[0].Code+" "+problem.Errors[0].Field)
		}
	}
	require.Equal(t, show, s.show(t, show.ID))
}

func TestShows_ListsAllNewestFirst(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	owner := s.signUp(t)
	var announced []string
	for range 5 {
		announced = append(announced, owner.announce(t, hamlet()).ID)
	}
	requireStatus(t, 204, owner.call(t, client.CancelShow(announced[2])))
	slices.Reverse(announced)
	var listed []string
	for r, err := range s.api.Pages(t.Context(), client.ReadShows().WithQuery("limit", 2)) {
		require.NoError(t, err)
		for _, show := range decode[[]client.Show](t, r) {
			if show.UserID == owner.ID {
				listed = append(listed, show.ID)
			}
		}
	}
	require.Equal(t, announced, listed)
	requireProblem(t, 400, s.call(t, client.ReadShows().WithQuery("limit", 201)), "max")
	requireProblem(t, 400, s.call(t, client.ReadShows().WithQuery("cursor", "x")), "invalid")
}

func TestShows_CannotBeChangedOnceTheyHaveStarted(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	owner := s.signUp(t)
	show := owner.announce(t, hamlet())
	waitTime(owner.startSoon(t, show.ID, hamlet()))
	requireProblem(t, 409, owner.call(t, client.ChangeShow(show.ID, hamlet())), "show_started")
	requireProblem(t, 409, owner.call(t, client.CancelShow(show.ID)), "show_started")
	requireProblem(t, 409, owner.call(t, client.PutImage(show.ID, "image/png", pngImage(t, 8, 8))), "show_started")
	requireProblem(t, 409, owner.call(t, client.DeleteImage(show.ID)), "show_started")
	require.Equal(t, "scheduled", s.show(t, show.ID).Status)
}

// halves is an image whose left half is red and whose right half is green.
func halves(w, h int) *image.RGBA {
	pixels := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			pixels.SetRGBA(x, y, map[bool]color.RGBA{true: {R: 255, A: 255}, false: {G: 255, A: 255}}[x < w/2])
		}
	}
	return pixels
}

func pngImage(t testing.TB, w, h int) []byte {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, png.Encode(&out, halves(w, h)))
	return out.Bytes()
}

const place = "52.5030 N 13.3272 E"

// exif is the orientation of a phone that was turned to the left: what was stored as the left is above. A place follows.
var exif = slices.Concat([]byte("MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"), []byte(place))

// withExif adds it to a JPEG or a PNG.
func withExif(file []byte) []byte {
	if bytes.HasPrefix(file, []byte("\xff\xd8")) {
		segment := append(binary.BigEndian.AppendUint16([]byte{0xff, 0xe1}, uint16(2+6+len(exif))), "Exif\x00\x00"...)
		return slices.Concat(file[:2], segment, exif, file[2:])
	}
	const header = 8 + 12 + 13
	chunk := append([]byte("eXIf"), exif...)
	return slices.Concat(file[:header], binary.BigEndian.AppendUint32(nil, uint32(len(exif))), chunk,
		binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(chunk)), file[header:])
}

// webPWithExif is the same image of 16 × 8 pixels, lossless.
const webPWithExif = "UklGRpAAAABXRUJQVlA4WAoAAAAIAAAADwAABwAAVlA4TC8AAAAvD8ABADjA/wH+C9D/AqiqVlWpqlZVqapWVamqVlWpqlZVqapWVamqVlWpqlZVAQBFWElGOQAAAE1NACoAAAAI" +
	"AAIBDwACAAAAEwAAACYBEgADAAAAAQAGAAAAAAAANTIuNTAzMCBOIDEzLjMyNzIgRQA="

func TestShows_ImagesAreStoredUprightAndWithoutMetadata(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	owner := s.signUp(t)
	show := owner.announce(t, hamlet())
	var asJPEG bytes.Buffer
	require.NoError(t, jpeg.Encode(&asJPEG, halves(16, 8), nil))
	asWebP, err := base64.StdEncoding.DecodeString(webPWithExif)
	require.NoError(t, err)

	var urls []string
	for i, upload := range []struct {
		mediaType string
		file      []byte
	}{
		{"image/jpeg", withExif(asJPEG.Bytes())},
		{"image/png", withExif(pngImage(t, 3200, 1600))},
		{"image/webp", asWebP},
	} {
		require.Contains(t, string(upload.file), place)
		put := owner.call(t, client.PutImage(show.ID, upload.mediaType, upload.file).With("If-Match", fmt.Sprintf(`"%d"`, i+1)))
		requireStatus(t, 200, put)
		now := decode[client.Show](t, put)
		require.Equal(t, i+2, now.Version)
		require.Equal(t, now, s.show(t, show.ID))
		require.NotNil(t, now.Image)

		r := s.request(t, "GET", now.Image.URL, nil)
		requireStatus(t, 200, r)
		require.Equal(t, "image/jpeg", r.Header.Get("Content-Type"))
		require.Equal(t, "public, max-age=31536000, immutable", r.Header.Get("Cache-Control"))
		require.NotContains(t, string(r.Body), place)
		require.NotContains(t, string(r.Body), "Exif")
		stored, err := jpeg.Decode(bytes.NewReader(r.Body))
		require.NoError(t, err)
		size := stored.Bounds().Size()
		require.Equal(t, image.Pt(now.Image.Width, now.Image.Height), size)
		require.Equal(t, size.Y, 2*size.X, "%s: upright", upload.mediaType)
		require.LessOrEqual(t, size.Y, 1600)
		red, green, _, _ := stored.At(size.X/2, size.Y/4).RGBA()
		require.Greater(t, red, green, "%s: the left is above", upload.mediaType)
		red, green, _, _ = stored.At(size.X/2, size.Y*3/4).RGBA()
		require.Greater(t, green, red, "%s: the right is below", upload.mediaType)

		notModified := s.request(t, "GET", now.Image.URL, nil, "If-None-Match", r.Header.Get("ETag"))
		requireStatus(t, 304, notModified)
		require.Empty(t, notModified.Body)
		require.Equal(t, r.Header.Get("ETag"), notModified.Header.Get("ETag"))
		for _, old := range urls {
			requireProblem(t, 404, s.request(t, "GET", old, nil), "not_found")
		}
		urls = append(urls, now.Image.URL)
	}

	for range 2 {
		requireStatus(t, 204, owner.call(t, client.DeleteImage(show.ID)))
	}
	last := s.show(t, show.ID)
	require.Nil(t, last.Image)
	require.Equal(t, 5, last.Version)
	requireProblem(t, 404, s.request(t, "GET", urls[2], nil), "not_found")
}

func TestShows_UploadsHaveLimits(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	owner := s.signUp(t)
	show := owner.announce(t, hamlet())

	// A photograph of the greatest length is accepted, and what is stored passes the sidecar, whatever is on it.
	noise := image.NewRGBA(image.Rect(0, 0, 2000, 1000))
	random := rand.NewChaCha8([32]byte{1})
	_, err := random.Read(noise.Pix)
	require.NoError(t, err)
	var photograph bytes.Buffer
	require.NoError(t, jpeg.Encode(&photograph, noise, &jpeg.Options{Quality: 85}))
	const longest = 2_000_000
	require.Less(t, photograph.Len(), longest)
	file := append(photograph.Bytes(), make([]byte, longest-photograph.Len())...)
	put := owner.call(t, client.PutImage(show.ID, "image/jpeg", file))
	requireStatus(t, 200, put)
	stored := decode[client.Show](t, put)
	require.Equal(t, []int{1600, 800}, []int{stored.Image.Width, stored.Image.Height})
	requireStatus(t, 200, s.request(t, "GET", stored.Image.URL, nil))

	image := pngImage(t, 8, 8)
	requireProblem(t, 413, owner.call(t, client.PutImage(show.ID, "image/jpeg", append(file, 0))), "too_large")
	requireProblem(t, 413, owner.request(t, "PUT", "/api/shows/"+show.ID, strings.Repeat(" ", 70_000), "Content-Type", "application/json"), "too_large")
	requireProblem(t, 415, owner.call(t, client.PutImage(show.ID, "image/gif", image)), "unsupported_media_type")
	requireProblem(t, 415, owner.call(t, client.PutImage(show.ID, "image/png", image).With("Content-Encoding", "gzip")), "unsupported_encoding")
	requireProblem(t, 400, owner.call(t, client.PutImage(show.ID, "image/jpeg", image)), "image_invalid")
	requireProblem(t, 400, owner.call(t, client.PutImage(show.ID, "image/png", image[:len(image)/2])), "image_invalid")
	requireProblem(t, 400, owner.call(t, client.PutImage(show.ID, "image/png", bomb())), "image_invalid")
	requireProblem(t, 400, owner.call(t, client.PutImage(show.ID, "image/png", image).With("If-Match", "2")), "invalid")
	requireProblem(t, 409, owner.call(t, client.PutImage(show.ID, "image/png", image).With("If-Match", `"1"`)), "stale_version")
	requireProblem(t, 409, owner.call(t, client.DeleteImage(show.ID).With("If-Match", `"1"`)), "stale_version")
	requireProblem(t, 400, owner.call(t, client.DeleteImage(show.ID).With("If-Match", "1")), "invalid")
	stranger := s.signUp(t)
	requireProblem(t, 403, stranger.call(t, client.PutImage(show.ID, "image/png", image)), "not_owner")
	requireProblem(t, 403, stranger.call(t, client.DeleteImage(show.ID)), "not_owner")
	requireProblem(t, 401, s.call(t, client.PutImage(show.ID, "image/png", image)))
	requireProblem(t, 404, owner.call(t, client.PutImage(unknownID, "image/png", image)), "not_found")
	requireProblem(t, 404, owner.call(t, client.DeleteImage(unknownID)), "not_found")
	require.Equal(t, stored, s.show(t, show.ID))

	requireStatus(t, 204, owner.call(t, client.CancelShow(show.ID)))
	requireProblem(t, 409, owner.call(t, client.PutImage(show.ID, "image/png", image)), "show_cancelled")
	requireProblem(t, 409, owner.call(t, client.DeleteImage(show.ID)), "show_cancelled")
	requireStatus(t, 200, s.request(t, "GET", stored.Image.URL, nil))
}

// bomb is the beginning of a PNG of 60,000 × 60,000 pixels.
func bomb() []byte {
	header := append([]byte("IHDR"), 0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60, 8, 6, 0, 0, 0)
	file := append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0d"), header...)
	return binary.BigEndian.AppendUint32(file, crc32.ChecksumIEEE(header))
}

// Only catalogue publishes what happens to shows. What another service publishes about a show on its own topic is a dead letter.
func TestShows_AnotherServiceCannotCancelOne(t *testing.T) {
	t.Parallel()
	s := newStack(t, stack.Options{})
	owner := s.signUp(t)
	show := owner.announce(t, hamlet())
	cancelled := event.Show{
		ID: show.ID, Name: show.Name, Venue: show.Venue, City: show.City, Country: show.Country, StartsAt: show.StartsAt, TimeZone: show.TimeZone,
		Category: show.Category, Status: "cancelled", UserID: owner.ID, Version: 1000, CreatedAt: show.CreatedAt, UpdatedAt: show.UpdatedAt,
	}.Event("show.cancelled")
	for _, service := range []string{"auth", "tickets", "orders", "payments", "expiration", "dead-letters"} {
		require.Equal(t, 403, s.publishBySidecar(t, service, "events.shows", forged(cancelled)), service)
	}
	require.Equal(t, 204, s.publishBySidecar(t, "tickets", "events.tickets", forged(cancelled)))
	require.Equal(t, "foreign", s.waitDeadLetter(t, "catalogue", cancelled.ID).Code)
	require.Equal(t, show, s.show(t, show.ID))
}
