package main

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"boxoffice/services/catalogue/index"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/rest"
)

// testPages is the REST API of an index that a test fills, at noon.
type testPages struct {
	app   *fiber.App
	index *index.Index
}

func newTestPages(t testing.TB) *testPages {
	t.Helper()
	of, err := index.New(func() time.Time { return noon })
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, of.Close()) })
	p := &testPages{rest.New(rest.Options{Name: "catalogue", Log: slog.New(slog.DiscardHandler)}), of}
	newPages(of, func() string { return "e1-7-2147483647" }).register(p.app)
	return p
}

func (p *testPages) apply(t testing.TB, changes ...index.Change) {
	t.Helper()
	p.index.Apply(1, changes)
	require.NoError(t, p.index.Flush(context.Background()))
}

// get requests a path with headers in pairs.
func (p *testPages) get(t testing.TB, path string, headers ...string) (*http.Response, string) {
	t.Helper()
	request := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := p.app.Test(request, -1)
	require.NoError(t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response, string(body)
}

func inCatalogue(n int, name, city string) index.Change {
	return index.Change{Show: &index.Show{
		ID: id.Show(fmt.Sprintf("01990c3f-6a00-7abc-8def-%012d", n)), Name: name, Venue: "Hallenstadion", City: city, Country: "CH",
		StartsAt: noon.Add(time.Duration(n+1) * 24 * time.Hour), TimeZone: "Europe/Zurich", Category: "music", UserID: "owner", Version: 1,
		CreatedAt: noon, UpdatedAt: noon,
	}}
}

func offered(n int, of index.Change, price int64, section string) index.Change {
	return index.Change{Listing: &index.Listing{
		ID: id.Ticket(fmt.Sprintf("01990c3f-6a00-7abc-8eee-%012d", n)), ShowID: of.Show.ID, Title: of.Show.Name, Price: price, Currency: "usd",
		UserID: "owner", Place: &index.Place{Section: section, Number: fmt.Sprint(n)}, FaceValue: price, SalesEndAt: of.Show.StartsAt, Status: index.Available,
		Version: 1, CreatedAt: noon.Add(time.Duration(n) * time.Second), UpdatedAt: noon,
	}}
}

func TestPages_AResaleNamesItsTicket(t *testing.T) {
	p := newTestPages(t)
	rock := inCatalogue(0, "Rock im Park", "Zürich")
	first, resale := offered(1, rock, 4500, "A"), offered(2, rock, 4000, "A")
	resale.Listing.ResaleOf = "01990c3f-6a00-7abc-8eee-000000000009"
	p.apply(t, rock, first, resale)
	for _, path := range []string{"/api/catalogue/shows/" + string(rock.Show.ID) + "/tickets", "/api/tickets?status=available"} {
		_, body := p.get(t, path)
		var listed []listingResponse
		require.NoError(t, json.Unmarshal([]byte(body), &listed), body)
		require.Equal(t, resale.Listing.ID, listed[0].ID, "the cheapest, and the newest")
		require.Equal(t, resale.Listing.ResaleOf, listed[0].ResaleOf)
		require.Empty(t, listed[1].ResaleOf)
	}
	for _, other := range []string{"seller=me", "showId=" + string(rock.Show.ID), "showId=x"} {
		response, _ := p.get(t, "/api/tickets?status=available&"+other)
		require.Equal(t, 400, response.StatusCode, other)
	}
}

func TestPages_ASearchHasShowsWithWhatIsLeftAndFacets(t *testing.T) {
	p := newTestPages(t)
	rock, jazz := inCatalogue(0, "Rock im Park", "Zürich"), inCatalogue(1, "Jazz", "Bern")
	p.apply(t, rock, jazz, offered(1, rock, 4500, "A"), offered(2, rock, 4000, "B"))
	response, body := p.get(t, "/api/catalogue/shows")
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Equal(t, "application/json", response.Header.Get("Content-Type"))
	require.Equal(t, "public, no-cache", response.Header.Get("Cache-Control"))
	require.JSONEq(t, `{"shows":[
		{"id":"01990c3f-6a00-7abc-8def-000000000000","name":"Rock im Park","venue":"Hallenstadion","city":"Zürich","country":"CH",
		 "startsAt":"`+noon.AddDate(0, 0, 1).Format("2006-01-02T15:04:05.000Z")+`","timeZone":"Europe/Zurich","category":"music","status":"scheduled","userId":"owner","version":1,
		 "createdAt":"`+noon.Format("2006-01-02T15:04:05.000Z")+`","updatedAt":"`+noon.Format("2006-01-02T15:04:05.000Z")+`","left":2,"priceFrom":4000,"currency":"usd"},
		{"id":"01990c3f-6a00-7abc-8def-000000000001","name":"Jazz","venue":"Hallenstadion","city":"Bern","country":"CH",
		 "startsAt":"`+noon.AddDate(0, 0, 2).Format("2006-01-02T15:04:05.000Z")+`","timeZone":"Europe/Zurich","category":"music","status":"scheduled","userId":"owner","version":1,
		 "createdAt":"`+noon.Format("2006-01-02T15:04:05.000Z")+`","updatedAt":"`+noon.Format("2006-01-02T15:04:05.000Z")+`","left":0}],
		"total":2,"facets":{"cities":[{"value":"Bern","count":1},{"value":"Zürich","count":1}],"categories":[{"value":"music","count":2}],"countries":[{"value":"CH","count":2}]}}`, body)

	_, body = p.get(t, "/api/catalogue/shows?q=zurich+roc&available=true&country=CH&category=music&sort=price&from="+noon.Format(time.DateOnly)+"&to="+url.QueryEscape(noon.AddDate(1, 0, 0).Format(time.RFC3339)))
	require.Contains(t, body, `"total":1`)
	_, body = p.get(t, "/api/catalogue/shows?q=!!!")
	require.JSONEq(t, `{"shows":[],"total":0,"facets":{"cities":[],"categories":[],"countries":[]}}`, body)
}

func TestPages_TheLinksHaveEachShowOnce(t *testing.T) {
	p := newTestPages(t)
	for n := range 45 {
		show := inCatalogue(n, "Show", "Bern")
		p.apply(t, show, offered(n, show, int64(10-n%10), "A"))
	}
	for _, sort := range []string{"date", "price", "relevance"} {
		seen := map[id.Show]bool{}
		for next := "/api/catalogue/shows?q=show&sort=" + sort; next != ""; {
			response, body := p.get(t, next)
			var page searchResponse
			require.NoError(t, json.Unmarshal([]byte(body), &page))
			require.Equal(t, 45, page.Total)
			for _, s := range page.Shows {
				require.False(t, seen[s.ID], "a show is on two pages")
				seen[s.ID] = true
			}
			next, _, _ = strings.Cut(strings.TrimPrefix(response.Header.Get("Link"), "<"), ">")
		}
		require.Len(t, seen, 45)
	}
}

func TestPages_AShowHasSections(t *testing.T) {
	p := newTestPages(t)
	rock := inCatalogue(0, "Rock", "Bern")
	p.apply(t, rock, offered(1, rock, 4500, "A"), offered(2, rock, 4000, "B"), offered(3, rock, 4100, "B"))
	path := "/api/catalogue/shows/" + string(rock.Show.ID)
	_, body := p.get(t, path)
	require.Contains(t, body, `"left":3,"priceFrom":4000,"currency":"usd","sections":[{"section":"A","left":1,"priceFrom":4500},{"section":"B","left":2,"priceFrom":4000}]}`)

	response, body := p.get(t, path+"/tickets?limit=2")
	require.Equal(t, "<"+path+"/tickets?cursor=t.4100.01990c3f-6a00-7abc-8eee-000000000003&limit=2>; rel=\"next\"", response.Header.Get("Link"))
	var tickets []map[string]any
	require.NoError(t, json.Unmarshal([]byte(body), &tickets))
	require.Len(t, tickets, 2)
	require.Equal(t, map[string]any{
		"id": "01990c3f-6a00-7abc-8eee-000000000002", "title": "Rock", "price": 4000.0, "currency": "usd", "userId": "owner", "status": "available",
		"showId": string(rock.Show.ID), "seat": map[string]any{"section": "B", "number": "2"}, "faceValue": 4000.0,
		"salesEndAt": noon.AddDate(0, 0, 1).Format("2006-01-02T15:04:05.000Z"), "version": 1.0,
		"createdAt": noon.Add(2 * time.Second).Format("2006-01-02T15:04:05.000Z"), "updatedAt": noon.Format("2006-01-02T15:04:05.000Z"),
	}, tickets[0])
	_, body = p.get(t, path+"/tickets?section=A")
	require.Contains(t, body, `"section":"A"`)
	require.NotContains(t, body, `"section":"B"`)
	_, body = p.get(t, path+"/tickets?section=C")
	require.Equal(t, "[]", body)

	for _, unknown := range []string{"/api/catalogue/shows/17", "/api/catalogue/shows/01990c3f-6a00-7abc-8def-000000000017", "/api/catalogue/shows/01990c3f-6a00-7abc-8def-000000000017/tickets"} {
		response, _ = p.get(t, unknown)
		require.Equal(t, http.StatusNotFound, response.StatusCode, unknown)
	}
}

func TestPages_AvailableTicketsAreNewestFirst(t *testing.T) {
	p := newTestPages(t)
	rock := inCatalogue(0, "Rock", "Bern")
	without := offered(3, rock, 10, "")
	without.Listing.ShowID, without.Listing.Place, without.Listing.SalesEndAt, without.Listing.FaceValue = "", nil, time.Time{}, 0
	p.apply(t, rock, offered(1, rock, 4500, "A"), offered(2, rock, 4000, "B"), without,
		index.Change{Reservation: &index.Reservation{TicketID: offered(2, rock, 0, "").Listing.ID, Sequence: 1, Status: index.Reserved}})
	response, body := p.get(t, "/api/tickets?status=available&limit=1")
	require.Contains(t, response.Header.Get("Link"), "cursor=n.")
	require.JSONEq(t, `[{"id":"01990c3f-6a00-7abc-8eee-000000000003","title":"Rock","price":10,"currency":"usd","userId":"owner","status":"available","version":1,
		"createdAt":"`+noon.Add(3*time.Second).Format("2006-01-02T15:04:05.000Z")+`","updatedAt":"`+noon.Format("2006-01-02T15:04:05.000Z")+`"}]`, body)
	next, _, _ := strings.Cut(strings.TrimPrefix(response.Header.Get("Link"), "<"), ">")
	response, body = p.get(t, next)
	require.Empty(t, response.Header.Get("Link"))
	require.Contains(t, body, "000000000001")
	response, _ = p.get(t, "/api/tickets")
	require.Equal(t, http.StatusBadRequest, response.StatusCode)
}

func TestPages_WhatTheClientHasIsNotSentAgain(t *testing.T) {
	p := newTestPages(t)
	rock := inCatalogue(0, "Rock", "Bern")
	p.apply(t, rock, offered(1, rock, 4500, "A"))
	for _, path := range []string{"/api/catalogue/shows", "/api/catalogue/shows/" + string(rock.Show.ID), "/api/catalogue/shows/" + string(rock.Show.ID) + "/tickets", "/api/tickets?status=available"} {
		response, _ := p.get(t, path)
		etag := response.Header.Get("ETag")
		require.NotEmpty(t, etag)
		response, body := p.get(t, path, "If-None-Match", etag)
		require.Equal(t, http.StatusNotModified, response.StatusCode)
		require.Equal(t, etag, response.Header.Get("ETag"))
		require.Empty(t, body)
		response, _ = p.get(t, path, "If-None-Match", `"other"`)
		require.Equal(t, http.StatusOK, response.StatusCode)
	}
	_, before := p.get(t, "/api/catalogue/shows")
	response, _ := p.get(t, "/api/catalogue/shows")
	p.apply(t, index.Change{Reservation: &index.Reservation{TicketID: offered(1, rock, 0, "").Listing.ID, Sequence: 1, Status: index.Reserved}})
	response, after := p.get(t, "/api/catalogue/shows", "If-None-Match", response.Header.Get("ETag"))
	require.Equal(t, http.StatusOK, response.StatusCode, "a reservation changes the page")
	require.NotEqual(t, before, after)
}

func TestPages_AreCompressedIfTheClientAcceptsIt(t *testing.T) {
	p := newTestPages(t)
	for n := range 20 {
		p.apply(t, inCatalogue(n, "Rock", "Bern"))
	}
	plain, want := p.get(t, "/api/catalogue/shows")
	require.Empty(t, plain.Header.Get("Content-Encoding"))
	require.Equal(t, "Accept-Encoding", plain.Header.Get("Vary"))
	for range 2 { // the second is kept
		response, body := p.get(t, "/api/catalogue/shows", "Accept-Encoding", "br, gzip;q=0.5")
		require.Equal(t, "gzip", response.Header.Get("Content-Encoding"))
		require.Equal(t, plain.Header.Get("ETag"), response.Header.Get("ETag"))
		reader, err := gzip.NewReader(strings.NewReader(body))
		require.NoError(t, err)
		got, err := io.ReadAll(reader)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
		require.Less(t, len(body), len(want)/3)
	}
	for _, refuses := range []string{"", "br", "gzip;q=0", "gzip; q=0.0", "gzip;q=x", "gzipped"} {
		response, _ := p.get(t, "/api/catalogue/shows", "Accept-Encoding", refuses)
		require.Empty(t, response.Header.Get("Content-Encoding"), refuses)
	}
}

func TestPages_RefuseWhatBreaksTheRules(t *testing.T) {
	p := newTestPages(t)
	rock := inCatalogue(0, "Rock", "Bern")
	p.apply(t, rock)
	shows, tickets := "/api/catalogue/shows", "/api/catalogue/shows/"+string(rock.Show.ID)+"/tickets"
	for path, field := range map[string]string{
		shows + "?limit=0":   "limit",
		shows + "?limit=101": "limit",
		shows + "?limit=x":   "limit",
		shows + "?cursor=x":  "cursor",
		shows + "?cursor=p.1.1.01990c3f-6a00-7abc-8def-000000000000": "cursor",
		shows + "?q=" + strings.Repeat("x", 201):                     "q",
		shows + "?city=" + strings.Repeat("x", 101):                  "city",
		shows + "?country=Schweiz":                                   "country",
		shows + "?category=opera":                                    "category",
		shows + "?from=tomorrow":                                     "from",
		shows + "?to=2030-02-30":                                     "to",
		shows + "?available=yes":                                     "available",
		shows + "?sort=name":                                         "sort",
		tickets + "?limit=101":                                       "limit",
		tickets + "?cursor=n.1.x":                                    "cursor",
		tickets + "?section=" + strings.Repeat("x", 51):              "section",
		"/api/tickets?status=sold":                                   "status",
		"/api/tickets?status=available&limit=201":                    "limit",
		"/api/tickets?status=available&cursor=x":                     "cursor",
	} {
		response, body := p.get(t, path)
		require.Equal(t, http.StatusBadRequest, response.StatusCode, path)
		var refused struct{ Errors []problem.Detail }
		require.NoError(t, json.Unmarshal([]byte(body), &refused))
		require.Len(t, refused.Errors, 1, path)
		require.Equal(t, field, refused.Errors[0].Field, path)
		require.Contains(t, []string{"invalid", "wrong_type", "min", "max"}, refused.Errors[0].Code, path)
	}
}

// FuzzPages: any query gets a page or a problem.
func FuzzPages(f *testing.F) {
	for _, query := range []string{"q=rock", "q=zür&city=Zürich&from=2030-01-01&sort=price", "cursor=d.0.1.01990c3f-6a00-7abc-8def-000000000000", "q=%00%ff&limit=100", "status=available&section=A"} {
		f.Add(query)
	}
	p := newTestPages(f)
	rock := inCatalogue(0, "Rock", "Zürich")
	p.apply(f, rock, offered(1, rock, 4500, "A"))
	f.Fuzz(func(t *testing.T, query string) {
		parsed, err := url.ParseQuery(query)
		if err != nil {
			t.Skip()
		}
		for _, path := range []string{"/api/catalogue/shows", "/api/catalogue/shows/" + string(rock.Show.ID), "/api/catalogue/shows/" + string(rock.Show.ID) + "/tickets", "/api/tickets"} {
			response, _ := p.get(t, path+"?"+parsed.Encode())
			require.Contains(t, []int{200, 400, 431}, response.StatusCode, query)
		}
	})
}

// BenchmarkPages measures a page of 20 shows without the network.
func BenchmarkPages(b *testing.B) {
	p := newTestPages(b)
	for n := range 100 {
		show := inCatalogue(n, "Rock im Park", "Bern")
		show.Show.Description = strings.Repeat("Words that describe the show. ", 15)
		p.apply(b, show, offered(n, show, 4500, "A"))
	}
	handler := p.app.Handler()
	for name, encoding := range map[string]string{"Plain": "", "Gzip": "gzip"} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				var ctx fasthttp.RequestCtx
				ctx.Request.SetRequestURI("/api/catalogue/shows")
				ctx.Request.Header.Set("Accept-Encoding", encoding)
				handler(&ctx)
				if ctx.Response.StatusCode() != http.StatusOK {
					b.Fatal(ctx.Response.String())
				}
			}
		})
	}
}

// A live stream that continues after the position of a page has every change that the page does not have.
func TestPages_HaveTheirPosition(t *testing.T) {
	p := newTestPages(t)
	p.apply(t)
	for _, path := range []string{"/api/catalogue/shows", "/api/tickets?status=available"} {
		response, _ := p.get(t, path)
		require.Equal(t, "e1-7-2147483647", response.Header.Get("Catalogue-Position"), path)
		unchanged, _ := p.get(t, path, "If-None-Match", response.Header.Get("ETag"))
		require.Equal(t, 304, unchanged.StatusCode)
		require.Equal(t, "e1-7-2147483647", unchanged.Header.Get("Catalogue-Position"), path)
	}
}
