package storefront

import (
	"io"
	"log/slog"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/rest"
)

// testSite is a storefront on a catalogue that a test makes up.
type testSite struct {
	catalogue  map[string]string // bodies by path without query; a path that is missing is 404
	asked      []string          // the paths with queries
	link       string
	signedIn   bool
	err        error
	status     int // of all responses; 0: 200, or 404
	storefront *Storefront
	app        *fiber.App
}

const (
	showID   = "01a21acd-7d21-7c08-9a55-2f0d54b1c3a7"
	oneShow  = `{"id":"` + showID + `","name":"Hamlet","venue":"Schaubühne","city":"Berlin","country":"DE","startsAt":"2026-12-24T18:30:00.000Z","timeZone":"Europe/Berlin","category":"theatre","description":"First.\n\nSecond.","status":"scheduled","userId":"u","left":2,"priceFrom":4500,"currency":"usd","sections":[{"section":"Stalls","left":1,"priceFrom":4500},{"section":"Balcony","left":1,"priceFrom":4500}],"image":{"url":"/api/shows/1/images/2","width":800,"height":450}}`
	onePage  = `{"shows":[` + oneShow + `],"total":1,"facets":{"cities":[{"value":"Berlin","count":1}],"categories":[{"value":"theatre","count":1}],"countries":[{"value":"DE","count":1}]}}`
	nothing  = `{"shows":[],"total":0,"facets":{"cities":[],"categories":[],"countries":[]}}`
	tickets  = `[{"id":"t1","title":"Hamlet","price":4500,"faceValue":4000,"currency":"usd","seat":{"section":"Stalls","row":"C","number":"12"}},{"id":"t2","title":"Hamlet","price":4500,"currency":"usd"}]`
	showPath = "/api/catalogue/shows/" + showID
)

func newSite(t *testing.T, change ...func(*Options)) *testSite {
	t.Helper()
	site := &testSite{catalogue: map[string]string{"/api/catalogue/shows": onePage, showPath: oneShow, showPath + "/tickets": tickets}}
	options := Options{
		Read: func(_ *fiber.Ctx, path string) (Response, error) {
			site.asked = append(site.asked, path)
			if site.err != nil {
				return Response{}, site.err
			}
			if site.status != 0 {
				return Response{Status: site.status}, nil
			}
			body, ok := site.catalogue[withoutQuery(path)]
			if !ok {
				return Response{Status: 404}, nil
			}
			return Response{Status: 200, Body: []byte(body), Link: site.link}, nil
		},
		SignedIn:  func(*fiber.Ctx) bool { return site.signedIn },
		PublicURL: "https://tickets.example.com",
	}
	for _, c := range change {
		c(&options)
	}
	s, err := New(options)
	require.NoError(t, err)
	site.storefront = s
	s.now = func() time.Time { return time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC) } // a Wednesday
	site.app = rest.New(rest.Options{Name: "test", Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	s.Register(site.app)
	return site
}

func withoutQuery(path string) string {
	for i := range path {
		if path[i] == '?' {
			return path[:i]
		}
	}
	return path
}

// get opens a page as a browser does.
func (s *testSite) get(t *testing.T, path string, headers ...string) (status int, header map[string][]string, body string) {
	t.Helper()
	req := httptest.NewRequest("GET", path, nil)
	req.Header.Set("Accept", "text/html,*/*;q=0.8")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := s.app.Test(req, -1)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	read, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, res.Header, string(read)
}
