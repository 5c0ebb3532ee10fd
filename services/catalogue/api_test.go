package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"image/jpeg"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/id"
	"boxoffice/services/internal/idempotency"
	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/rest"
	"boxoffice/services/internal/signing"
	"boxoffice/services/internal/state"
	"boxoffice/services/internal/state/statetest"
)

// testAPI is the REST API of shows with a sidecar in memory, and a clock that the test sets. It starts at noon.
type testAPI struct {
	app     *fiber.App
	store   *store
	sidecar *statetest.Sidecar
	issuer  *identity.Issuer
	now     time.Time
}

func newTestAPI(t *testing.T) *testAPI {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	a := &testAPI{sidecar: statetest.New(), now: noon}
	documents, err := state.Open(t.Context(), a.sidecar, state.Options{Service: "catalogue", Instance: "test", Log: quiet})
	require.NoError(t, err)
	t.Cleanup(func() { _ = documents.Close(context.Background()) })
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	a.issuer = identity.NewIssuer(private, time.Hour)
	a.store = newStore(documents, func() time.Time { return a.now })
	a.app = rest.New(rest.Options{Name: "catalogue", Log: quiet, BodyLimit: 65536, BodyLimitOf: (&config{}).BodyLimitOf})
	keys := identity.NewVerifier(func(context.Context) (signing.KeySet, error) { return a.issuer.KeySet(), nil })
	(&api{a.store}).register(a.app, identity.RequireUser(keys))
	return a
}

type response struct {
	status int
	header http.Header
	body   []byte
}

func (r response) show(t *testing.T) showResponse {
	t.Helper()
	var show showResponse
	require.NoError(t, json.Unmarshal(r.body, &show), "%s", r.body)
	return show
}

func (r response) errors(t *testing.T) []problem.Detail {
	t.Helper()
	var p struct{ Errors []problem.Detail }
	require.NoError(t, json.Unmarshal(r.body, &p), "%s", r.body)
	return p.Errors
}

// send sends a request as a user, or as nobody if the user is "".
func (a *testAPI) send(t *testing.T, user id.User, method, path string, body []byte, header ...string) response {
	request := httptest.NewRequest(method, path, bytes.NewReader(body))
	request.Header.Set("Content-Type", "application/json")
	if user != "" {
		token, _, err := a.issuer.Issue(identity.Caller{ID: user, Email: "owner@example.com"}, time.Now())
		if !assert.NoError(t, err) {
			return response{}
		}
		request.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	res, err := a.app.Test(request, -1)
	if !assert.NoError(t, err) {
		return response{}
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	assert.NoError(t, err)
	return response{res.StatusCode, res.Header, text}
}

// bodyWith is the body of hamlet, with some members replaced; nil removes one.
func bodyWith(members map[string]any) []byte {
	body := map[string]any{
		"name": "Hamlet", "venue": "Schaubühne", "city": "Berlin", "country": "DE", "startsAt": "2026-12-27T13:00:00+01:00",
		"timeZone": "Europe/Berlin", "category": "theatre", "description": "In German.\r\n\r\nWith surtitles.", "maxMarkup": 20,
	}
	maps.Copy(body, members)
	maps.DeleteFunc(body, func(_ string, value any) bool { return value == nil })
	encoded, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	return encoded
}

func (a *testAPI) announce(t *testing.T) showResponse {
	t.Helper()
	r := a.send(t, "owner", "POST", "/api/shows", bodyWith(nil))
	require.Equal(t, 201, r.status, "%s", r.body)
	return r.show(t)
}

func (a *testAPI) refused(t *testing.T, r response, status int, code, field string) {
	t.Helper()
	require.Equal(t, status, r.status, "%s", r.body)
	require.Equal(t, code, r.errors(t)[0].Code)
	require.Equal(t, field, r.errors(t)[0].Field)
}

func TestAPI_AShowFromItsAnnouncementToItsCancellation(t *testing.T) {
	a := newTestAPI(t)
	r := a.send(t, "owner", "POST", "/api/shows", bodyWith(nil))
	require.Equal(t, 201, r.status, "%s", r.body)
	show := r.show(t)
	path := "/api/shows/" + string(show.ID)
	require.Equal(t, path, r.header.Get("Location"))
	require.Equal(t, `"1"`, r.header.Get("ETag"))
	require.JSONEq(t, `{"id":"`+string(show.ID)+`","name":"Hamlet","venue":"Schaubühne","city":"Berlin","country":"DE","startsAt":"2026-12-27T12:00:00.000Z",
		"timeZone":"Europe/Berlin","category":"theatre","description":"In German.\n\nWith surtitles.","maxMarkup":20,"status":"scheduled","userId":"owner","version":1,
		"createdAt":"2026-11-27T12:00:00.000Z","updatedAt":"2026-11-27T12:00:00.000Z"}`, string(r.body))
	read := a.send(t, "", "GET", path, nil)
	require.Equal(t, 200, read.status)
	require.Equal(t, r.body, read.body)
	require.Equal(t, `"1"`, read.header.Get("ETag"))

	a.now = noon.Add(time.Hour)
	changed := a.send(t, "owner", "PUT", path, bodyWith(map[string]any{"name": "Lear", "maxMarkup": nil, "description": nil, "version": 1}))
	require.Equal(t, 200, changed.status, "%s", changed.body)
	require.Equal(t, `"2"`, changed.header.Get("ETag"))
	require.Equal(t, "Lear", changed.show(t).Name)
	require.Nil(t, changed.show(t).MaxMarkup, "a PUT replaces all")
	require.Empty(t, changed.show(t).Description)

	for range 2 {
		require.Equal(t, 204, a.send(t, "owner", "DELETE", path, nil, "If-Match", `"2"`).status)
	}
	last := a.send(t, "", "GET", path, nil).show(t)
	require.EqualValues(t, "cancelled", last.Status)
	require.Equal(t, 3, last.Version)

	require.Eventually(t, func() bool { return len(a.sidecar.Published()) == 3 }, 10*time.Second, time.Millisecond)
	var published []string
	for _, event := range a.sidecar.Published() {
		published = append(published, event.ID)
	}
	of := string(show.ID)
	require.ElementsMatch(t, []string{"show.created:" + of + ":1", "show.updated:" + of + ":2", "show.cancelled:" + of + ":3"}, published)
}

func TestAPI_RefusalsOfAChange(t *testing.T) {
	a := newTestAPI(t)
	path := "/api/shows/" + string(a.announce(t).ID)
	image := pngOf(t, corners(4, 4))
	changes := map[string]func(user id.User, path string, header ...string) response{
		"PUT": func(user id.User, path string, header ...string) response {
			return a.send(t, user, "PUT", path, bodyWith(nil), header...)
		},
		"DELETE": func(user id.User, path string, header ...string) response {
			return a.send(t, user, "DELETE", path, nil, header...)
		},
		"PUT image": func(user id.User, path string, header ...string) response {
			return a.send(t, user, "PUT", path+"/image", image, append(header, "Content-Type", "image/png")...)
		},
		"DELETE image": func(user id.User, path string, header ...string) response {
			return a.send(t, user, "DELETE", path+"/image", nil, header...)
		},
	}
	for _, change := range changes {
		a.refused(t, change("", path), 401, "not_signed_in", "")
		a.refused(t, change("other", path), 403, "not_owner", "")
		a.refused(t, change("owner", path, "If-Match", `"2"`), 409, "stale_version", "version")
		a.refused(t, change("owner", path, "If-Match", "2"), 400, "invalid", "If-Match")
		a.refused(t, change("owner", path+"0"), 404, "not_found", "")
		a.refused(t, change("owner", "/api/shows/"+string(id.New[id.Show]())), 404, "not_found", "")
	}
	a.refused(t, a.send(t, "owner", "PUT", path, bodyWith(map[string]any{"version": 1}), "If-Match", `"2"`), 400, "invalid", "version")
	a.refused(t, a.send(t, "owner", "PUT", path, bodyWith(map[string]any{"version": -1})), 400, "min", "version")

	a.now = noon.AddDate(0, 1, 0)
	for name, change := range changes {
		r := change("owner", path)
		if name == "PUT" {
			r = a.send(t, "owner", "PUT", path, bodyWith(map[string]any{"startsAt": "2027-06-01T00:00:00Z"}))
		}
		a.refused(t, r, 409, "show_started", "")
	}
	a.now = noon
	require.Equal(t, 204, changes["DELETE"]("owner", path).status)
	for name, change := range changes {
		if name != "DELETE" {
			a.refused(t, change("owner", path), 409, "show_cancelled", "")
		}
	}
}

func TestAPI_NamesAllThatIsWrongWithAShow(t *testing.T) {
	a := newTestAPI(t)
	show := a.announce(t)
	for _, tt := range []struct {
		members map[string]any
		want    []string // code and field
	}{
		{map[string]any{"name": ""}, []string{"required name"}},
		{map[string]any{"name": "  "}, []string{"notblank name"}},
		{map[string]any{"venue": "a\nb"}, []string{"printable venue"}},
		{map[string]any{"city": strings.Repeat("ö", 101)}, []string{"max city"}},
		{map[string]any{"name": strings.Repeat("ö", 200), "venue": strings.Repeat("ö", 201)}, []string{"max venue"}},
		{map[string]any{"maxMarkup": -1}, []string{"min maxMarkup"}},
		{map[string]any{"maxMarkup": 1001}, []string{"max maxMarkup"}},
		{map[string]any{"maxMarkup": "20"}, []string{"wrong_type maxMarkup"}},
		{map[string]any{"country": "Germany"}, []string{"invalid country"}},
		{map[string]any{"category": "opera", "timeZone": "CEST"}, []string{"invalid timeZone", "invalid category"}},
		{map[string]any{"startsAt": "tomorrow"}, []string{"invalid startsAt"}},
		{map[string]any{"startsAt": "2026-12-27T12:00:00"}, []string{"invalid startsAt"}},
		{map[string]any{"startsAt": "2026-11-27T12:00:00Z"}, []string{"min startsAt"}},
		{map[string]any{"startsAt": "2030-01-01T12:00:00Z"}, []string{"max startsAt"}},
		{map[string]any{"name": nil, "country": nil, "startsAt": "x", "category": "x"}, []string{"required name", "required country", "invalid category", "invalid startsAt"}},
	} {
		for method, path := range map[string]string{"POST": "/api/shows", "PUT": "/api/shows/" + string(show.ID)} {
			r := a.send(t, "owner", method, path, bodyWith(tt.members))
			require.Equal(t, 400, r.status, "%v %s", tt.members, r.body)
			var got []string
			for _, detail := range r.errors(t) {
				got = append(got, detail.Code+" "+detail.Field)
			}
			require.Equal(t, tt.want, got, "%v %s", tt.members, r.body)
		}
	}
	for _, body := range []string{"", "[]", "{", `{"name":7}`} {
		require.Equal(t, 400, a.send(t, "owner", "POST", "/api/shows", []byte(body)).status)
	}
	require.Equal(t, 415, a.send(t, "owner", "POST", "/api/shows", bodyWith(nil), "Content-Type", "text/plain").status)
	for _, members := range []map[string]any{{"maxMarkup": 0}, {"maxMarkup": 1000}, {"description": ""}, {"startsAt": "2029-11-27T12:00:00Z"}, {"name": strings.Repeat("ö", 200)}} {
		require.Equal(t, 201, a.send(t, "owner", "POST", "/api/shows", bodyWith(members)).status, members)
	}
}

func TestAPI_ARequestWithAKeyAnnouncesOneShow(t *testing.T) {
	a := newTestAPI(t)
	responses := make([]response, 8)
	var all sync.WaitGroup
	for i := range responses {
		all.Go(func() {
			responses[i] = a.send(t, "owner", "POST", "/api/shows", bodyWith(nil), idempotency.Header, "key-1")
		})
	}
	all.Wait()
	for _, r := range responses {
		require.Equal(t, 201, r.status, "%s", r.body)
		require.Equal(t, responses[0].body, r.body)
	}
	a.now = noon.AddDate(1, 0, 0)
	late := a.send(t, "owner", "POST", "/api/shows", bodyWith(nil), idempotency.Header, "key-1")
	require.Equal(t, responses[0].body, late.body, "also when the show has started")
	a.refused(t, a.send(t, "owner", "POST", "/api/shows", bodyWith(map[string]any{"name": "Lear"}), idempotency.Header, "key-1"), 409, "idempotency_key_reused", "Idempotency-Key")
	shows, _, err := a.store.Shows(t.Context(), 100, "")
	require.NoError(t, err)
	require.Len(t, shows, 1)
}

func TestAPI_ListsAllShowsNewestFirst(t *testing.T) {
	a := newTestAPI(t)
	var announced []id.Show
	for range 5 {
		announced = append(announced, a.announce(t).ID)
	}
	require.Equal(t, 204, a.send(t, "owner", "DELETE", "/api/shows/"+string(announced[3]), nil).status)
	var listed []id.Show
	for next := "/api/shows?limit=2"; next != ""; {
		r := a.send(t, "", "GET", next, nil)
		require.Equal(t, 200, r.status, "%s", r.body)
		var page []showResponse
		require.NoError(t, json.Unmarshal(r.body, &page))
		require.LessOrEqual(t, len(page), 2)
		for _, show := range page {
			require.Equal(t, show.ID == announced[3], show.Status == "cancelled")
			listed = append(listed, show.ID)
		}
		link, _, _ := strings.Cut(strings.TrimPrefix(r.header.Get("Link"), "<"), ">")
		next = link
	}
	slices.Reverse(listed)
	require.Equal(t, announced, listed)
	a.refused(t, a.send(t, "", "GET", "/api/shows?cursor=x", nil), 400, "invalid", "cursor")

	var each []id.Show
	require.NoError(t, a.store.EachShow(t.Context(), func(shows []Show) error {
		for _, show := range shows {
			each = append(each, show.ID)
		}
		return nil
	}))
	require.ElementsMatch(t, announced, each)
}

// imagesStored are the keys of the documents of images.
func (a *testAPI) imagesStored() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(a.sidecar.Documents())), func(key string) bool { return !strings.HasPrefix(key, "image/") })
}

func TestAPI_AnImageIsStoredOnceAndReplacedWhole(t *testing.T) {
	a := newTestAPI(t)
	show := a.announce(t)
	path := "/api/shows/" + string(show.ID)
	first := a.send(t, "owner", "PUT", path+"/image", withExifInJPEG(jpegOf(t, corners(64, 32)), exifWith(binary.BigEndian, 6)), "Content-Type", "image/jpeg", "If-Match", `"1"`)
	require.Equal(t, 200, first.status, "%s", first.body)
	require.Equal(t, `"2"`, first.header.Get("ETag"))
	image := first.show(t).Image
	require.NotNil(t, image)
	require.Equal(t, []int{32, 64}, []int{image.Width, image.Height}, "upright")
	require.Len(t, a.imagesStored(), 1)

	for range 2 { // from the store, then from memory
		r := a.send(t, "", "GET", image.URL, nil)
		require.Equal(t, 200, r.status, "%s", r.body)
		require.Equal(t, "image/jpeg", r.header.Get("Content-Type"))
		require.Equal(t, "public, max-age=31536000, immutable", r.header.Get("Cache-Control"))
		require.Equal(t, "nosniff", r.header.Get("X-Content-Type-Options"))
		require.NotContains(t, string(r.body), secret)
		_, err := jpeg.Decode(bytes.NewReader(r.body))
		require.NoError(t, err)
		for _, etag := range []string{r.header.Get("ETag"), "W/" + r.header.Get("ETag"), `"x", ` + r.header.Get("ETag"), "*"} {
			again := a.send(t, "", "GET", image.URL, nil, "If-None-Match", etag)
			require.Equal(t, 304, again.status)
			require.Empty(t, again.body)
			require.Equal(t, r.header.Get("ETag"), again.header.Get("ETag"))
			require.Equal(t, r.header.Get("Cache-Control"), again.header.Get("Cache-Control"))
		}
		require.Equal(t, 200, a.send(t, "", "GET", image.URL, nil, "If-None-Match", `"x"`).status)
	}

	again := a.send(t, "owner", "PUT", path+"/image", withExifInJPEG(jpegOf(t, corners(64, 32)), exifWith(binary.BigEndian, 6)), "Content-Type", "image/jpeg")
	require.Equal(t, 200, again.status)
	require.Equal(t, first.body, again.body, "the same image changes nothing")

	other := a.send(t, "owner", "PUT", path+"/image", pngOf(t, corners(8, 8)), "Content-Type", "image/png")
	require.Equal(t, 200, other.status, "%s", other.body)
	require.NotEqual(t, image.URL, other.show(t).Image.URL)
	require.Equal(t, 3, other.show(t).Version)
	require.Len(t, a.imagesStored(), 1, "the old one is deleted")
	a.refused(t, a.send(t, "", "GET", image.URL, nil), 404, "not_found", "")
	a.refused(t, a.send(t, "", "GET", image.URL, nil, "If-None-Match", "*"), 404, "not_found", "")
	require.Equal(t, 200, a.send(t, "", "GET", other.show(t).Image.URL, nil).status)
	elsewhere := a.announce(t)
	a.refused(t, a.send(t, "", "GET", strings.Replace(other.show(t).Image.URL, string(show.ID), string(elsewhere.ID), 1), nil), 404, "not_found", "")
	a.refused(t, a.send(t, "", "GET", path+"/images/x", nil), 404, "not_found", "")

	updated := a.send(t, "owner", "PUT", path, bodyWith(map[string]any{"name": "Lear"}))
	require.Equal(t, other.show(t).Image, updated.show(t).Image)

	for range 2 {
		require.Equal(t, 204, a.send(t, "owner", "DELETE", path+"/image", nil).status)
	}
	require.Empty(t, a.imagesStored())
	require.Equal(t, 5, a.send(t, "", "GET", path, nil).show(t).Version, "one change, not two")
}

func TestAPI_RefusesUploads(t *testing.T) {
	a := newTestAPI(t)
	path := "/api/shows/" + string(a.announce(t).ID) + "/image"
	image := pngOf(t, corners(8, 8))
	for _, tt := range []struct {
		body        []byte
		header      []string
		status      int
		code, field string
	}{
		{image, []string{"Content-Type", "image/gif"}, 415, "unsupported_media_type", "Content-Type"},
		{image, []string{"Content-Type", "application/json"}, 415, "unsupported_media_type", "Content-Type"},
		{image, []string{"Content-Type", ""}, 415, "unsupported_media_type", "Content-Type"},
		{image, []string{"Content-Type", "image/png", "Content-Encoding", "gzip"}, 415, "unsupported_encoding", "Content-Encoding"},
		{image, []string{"Content-Type", "image/jpeg"}, 400, "image_invalid", ""},
		{nil, []string{"Content-Type", "image/png"}, 400, "image_invalid", ""},
		{make([]byte, maxUpload), []string{"Content-Type", "image/png"}, 400, "image_invalid", ""},
	} {
		r := a.send(t, "owner", "PUT", path, tt.body, tt.header...)
		a.refused(t, r, tt.status, tt.code, tt.field)
	}
	require.Empty(t, a.imagesStored())

	a.store.encoder.decoding <- struct{}{} // none is decoded
	require.Equal(t, 403, a.send(t, "other", "PUT", path, image, "Content-Type", "image/png").status, "refused before it is decoded")
	require.Equal(t, 409, a.send(t, "owner", "PUT", path, image, "Content-Type", "image/png", "If-Match", `"2"`).status)
	<-a.store.encoder.decoding
}

// Uploads at the same time: the last one wins, and no other is kept.
func TestAPI_UploadsAtTheSameTimeKeepOneImage(t *testing.T) {
	a := newTestAPI(t)
	show := a.announce(t)
	path := "/api/shows/" + string(show.ID)
	var all sync.WaitGroup
	for i := range 6 {
		image := pngOf(t, corners(8+8*i, 8))
		all.Go(func() {
			r := a.send(t, "owner", "PUT", path+"/image", image, "Content-Type", "image/png")
			assert.Equal(t, 200, r.status, "%s", r.body)
		})
	}
	all.Wait()
	last := a.send(t, "", "GET", path, nil).show(t)
	require.Equal(t, 7, last.Version)
	require.Len(t, a.imagesStored(), 1)
	require.Equal(t, 200, a.send(t, "", "GET", last.Image.URL, nil).status)
}

func TestIsUpload_IsThatRouteAlone(t *testing.T) {
	require.True(t, isUpload("PUT", "/api/shows/0197a0b2-5d07-7000-8000-00000000000a/image"))
	require.True(t, isUpload("PUT", "/api/shows/1/image/"), "it is the same route")
	for _, request := range []string{
		"POST /api/shows/1/image", "PUT /api/shows/1", "PUT /api/shows/1/images/2", "PUT /api/tickets/1/image", "PUT /x/api/shows/1/image", "PUT *", "PUT ",
	} {
		method, path, _ := strings.Cut(request, " ")
		require.False(t, isUpload(method, path), request)
	}
}

func TestAPI_AnOwnerListsTheOwnShows(t *testing.T) {
	a := newTestAPI(t)
	var own []id.Show
	for _, owner := range []id.User{"owner", "other", "owner", "owner"} {
		r := a.send(t, owner, "POST", "/api/shows", bodyWith(nil))
		require.Equal(t, 201, r.status, "%s", r.body)
		if owner == "owner" {
			own = slices.Insert(own, 0, r.show(t).ID)
		}
	}
	require.Equal(t, 204, a.send(t, "owner", "DELETE", "/api/shows/"+string(own[1]), nil).status)
	var listed []id.Show
	pages := 0
	for path := "/api/shows?owner=me&limit=2"; path != ""; pages++ {
		r := a.send(t, "owner", "GET", path, nil)
		require.Equal(t, 200, r.status, "%s", r.body)
		var shows []showResponse
		require.NoError(t, json.Unmarshal(r.body, &shows))
		for _, show := range shows {
			listed = append(listed, show.ID)
		}
		path, _, _ = strings.Cut(strings.TrimPrefix(r.header.Get("Link"), "<"), ">")
	}
	require.Equal(t, own, listed, "newest first, also a cancelled one")
	require.GreaterOrEqual(t, pages, 2)

	require.JSONEq(t, `[]`, string(a.send(t, "nobody", "GET", "/api/shows?owner=me", nil).body))
	a.refused(t, a.send(t, "", "GET", "/api/shows?owner=me", nil), 401, "not_signed_in", "")
	a.refused(t, a.send(t, "owner", "GET", "/api/shows?owner=other", nil), 400, "invalid", "owner")
	a.refused(t, a.send(t, "owner", "GET", "/api/shows?owner=", nil), 400, "invalid", "owner")
	require.Equal(t, 200, a.send(t, "", "GET", "/api/shows", nil).status)
}
