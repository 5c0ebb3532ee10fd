package storefront

import (
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestShows_HasWhatIsOn(t *testing.T) {
	site := newSite(t)
	status, _, body := site.get(t, "/")
	require.Equal(t, 200, status)
	require.Equal(t, []string{"/api/catalogue/shows?limit=24"}, site.asked)
	for _, part := range []string{
		`<a href="/shows/` + showID + `">Hamlet</a>`, "Schaubühne, Berlin", "Thu, 24 Dec 2026, 19:30", `datetime="2026-12-24T18:30:00.000Z"`, "from $45.00", "2 left", "1 show",
		`src="/api/shows/1/images/2" width="800" height="450"`, `href="/?city=Berlin"`, `href="/?category=theatre"`, `href="/?sort=price"`, `href="/?available=true"`,
	} {
		require.Contains(t, body, part)
	}
	require.NotContains(t, body, "Germany", "one country is no choice")
	_, _, body = site.get(t, "/", "Accept-Language", "de")
	for _, part := range []string{"Do., 24. Dez. 2026, 19:30", "ab 45,00\u00a0$", "Noch 2", "1 Veranstaltung", "Theater"} {
		require.Contains(t, body, part)
	}
}

func TestShows_OffersWhatIsOfNoKindLast(t *testing.T) {
	site := newSite(t)
	site.catalogue["/api/catalogue/shows"] = strings.Replace(onePage, `"categories":[`, `"categories":[{"value":"music","count":3},{"value":"other","count":2},{"value":"sport","count":2},`, 1)
	_, _, body := site.get(t, "/")
	require.Regexp(t, `(?s)category=music.*category=sport.*category=theatre.*category=other`, body)
}

func TestShows_WithoutTicketsHaveTheWordsOfTheirPage(t *testing.T) {
	site := newSite(t)
	site.catalogue["/api/catalogue/shows"] = strings.Replace(onePage, `"left":2,"priceFrom":4500`, `"left":0`, 1)
	_, _, body := site.get(t, "/")
	require.Contains(t, body, "No tickets at the moment")
}

func TestShows_AreSortedOnlyIfThereAreAny(t *testing.T) {
	site := newSite(t)
	_, _, body := site.get(t, "/")
	require.Contains(t, body, "Sort by")
	site.catalogue["/api/catalogue/shows"] = nothing
	_, _, body = site.get(t, "/?q=x&available=true")
	require.NotContains(t, body, "Sort by")
	require.Contains(t, body, `class="chip on" href="/?q=x"`, "the filter can be removed")
}

func TestShows_AsksForWhatTheReaderWants(t *testing.T) {
	for path, asked := range map[string]string{
		"/?q=+hamlet+&city=Berlin&country=DE&category=theatre&from=2026-12-24&to=2026-12-31&available=true&sort=price": "available=true&category=theatre&city=Berlin&country=DE&from=2026-12-24&limit=24&q=hamlet&sort=price&to=2026-12-31",
		"/?sort=relevance":                   "limit=24", // only of a text
		"/?q=a&sort=relevance":               "limit=24&q=a",
		"/?q=a&sort=date":                    "limit=24&q=a&sort=date",
		"/?category=opera":                   "limit=24",
		"/?country=Germany&from=24":          "limit=24",
		"/?available=false&q=":               "limit=24",
		"/?cursor=abc":                       "cursor=abc&limit=24",
		"/?city=" + strings.Repeat("ü", 101): "city=" + strings.Repeat("%C3%BC", 100) + "&limit=24",
	} {
		site := newSite(t)
		status, _, _ := site.get(t, path)
		require.Equal(t, 200, status, path)
		require.Equal(t, []string{"/api/catalogue/shows?" + asked}, site.asked, path)
	}
}

func TestShows_EachFilterCanBeRemovedAndTheFormKeepsTheOthers(t *testing.T) {
	_, _, body := newSite(t).get(t, "/?q=hamlet&city=Berlin&category=theatre&from=2026-12-24&to=2026-12-24&sort=date")
	for _, part := range []string{
		`class="chip on" href="/?category=theatre&amp;city=Berlin&amp;from=2026-12-24&amp;to=2026-12-24"`,
		`class="chip on" href="/?category=theatre&amp;from=2026-12-24&amp;q=hamlet&amp;sort=date&amp;to=2026-12-24"`,
		`class="chip on" href="/?category=theatre&amp;city=Berlin&amp;q=hamlet&amp;sort=date"`, "24 Dec 2026",
		`<input type="hidden" name="city" value="Berlin">`, `<input type="hidden" name="category" value="theatre">`, `value="hamlet"`,
	} {
		require.Contains(t, body, part)
	}
}

func TestShows_HasFurtherPages(t *testing.T) {
	site := newSite(t)
	site.link = `</api/catalogue/shows?q=a&cursor=MDox&limit=24>; rel="next"`
	_, _, body := site.get(t, "/?q=a")
	require.Contains(t, body, `href="/?cursor=MDox&amp;q=a" rel="next"`)
	site.link = ""
	_, _, body = site.get(t, "/?q=a&cursor=MDox")
	require.NotContains(t, body, `rel="next"`)
	require.Contains(t, body, "Back to the first page")
}

func TestShows_BeginAnewWithACursorOfAnotherList(t *testing.T) {
	site := newSite(t)
	site.status = 400
	status, header, _ := site.get(t, "/?q=a&cursor=old")
	require.Equal(t, 303, status)
	require.Equal(t, "/?q=a", header["Location"][0])
}

func TestShows_OfAnEmptyCatalogueHaveWhatToDo(t *testing.T) {
	site := newSite(t)
	site.catalogue["/api/catalogue/shows"] = nothing
	_, _, body := site.get(t, "/")
	require.Contains(t, body, "make samples")
	require.Contains(t, body, `href="/sell"`)
	_, _, body = site.get(t, "/?q=x")
	require.NotContains(t, body, "make samples")
	require.Contains(t, body, "Nothing matches")
	require.Contains(t, body, `name="q"`, "the search can be changed")
}

func TestPeriods_AreDaysFromToday(t *testing.T) {
	english := texts["en"]
	for day, weekend := range map[string]string{
		"2026-11-25": "2026-11-27 2026-11-29", // a Wednesday
		"2026-11-27": "2026-11-27 2026-11-29",
		"2026-11-28": "2026-11-28 2026-11-29",
		"2026-11-29": "2026-11-29 2026-11-29",
		"2026-11-30": "2026-12-04 2026-12-06",
	} {
		now, err := time.Parse(time.DateOnly, day)
		require.NoError(t, err)
		address, err := url.Parse(english.periods(search{}, now).First[1].Path)
		require.NoError(t, err)
		require.Equal(t, weekend, address.Query().Get("from")+" "+address.Query().Get("to"), day)
	}
}

func TestShow_HasItsFactsAndTickets(t *testing.T) {
	site := newSite(t)
	status, _, body := site.get(t, "/shows/"+showID)
	require.Equal(t, 200, status)
	require.Equal(t, []string{showPath, showPath + "/tickets?limit=50"}, site.asked)
	for _, part := range []string{
		"<h1>Hamlet</h1>", "Thursday, 24 December 2026", "19:30", "Time in Berlin", "Schaubühne", "Germany", "<p>First.</p>", "<p>Second.</p>", "2 tickets left",
		"Stalls, row C, seat 12", "Face value $40.00", "$45.00", "Free choice of seat", `href="/shows/` + showID + `?section=Stalls#tickets"`,
		`<meta property="og:image" content="https://tickets.example.com/api/shows/1/images/2">`,
	} {
		require.Contains(t, body, part)
	}
}

func TestShow_HasARowForTicketsThatAreAlike(t *testing.T) {
	site := newSite(t)
	site.catalogue[showPath+"/tickets"] = `[{"id":"1","price":1900,"currency":"usd","seat":{"section":"Stalls","row":"A","number":"10"}},{"id":"2","price":1900,"currency":"usd","seat":{"section":"Bar"}},
		{"id":"3","price":1900,"currency":"usd","seat":{"section":"Stalls","row":"A","number":"9"}},{"id":"4","price":1900,"currency":"usd","seat":{"section":"Bar"}},
		{"id":"5","price":1900,"faceValue":1700,"currency":"usd","seat":{"section":"Bar"}},{"id":"6","price":2900,"currency":"usd"},{"id":"7","price":2900,"currency":"usd"}]`
	rows := func() (rows []string) {
		_, _, body := site.get(t, "/shows/"+showID)
		for _, row := range regexp.MustCompile(`<p class="place">(.*?)</p>`).FindAllStringSubmatch(body, -1) {
			rows = append(rows, regexp.MustCompile(`<[^>]*>`).ReplaceAllString(row[1], ""))
		}
		return rows
	}
	require.Equal(t, []string{"Bar · 2 left", "Bar", "Stalls, row A, seat 9", "Stalls, row A, seat 10", "Free choice of seat · 2 left"}, rows())
	site.link = `<` + showPath + `/tickets?cursor=abc>; rel="next"`
	require.Equal(t, []string{"Bar · 2 left", "Bar", "Stalls, row A, seat 9", "Stalls, row A, seat 10", "Free choice of seat · 2 or more left"}, rows())
}

func TestShow_ExplainsItsButtonsAboveThemIfThereAreNoScripts(t *testing.T) {
	_, _, body := newSite(t).get(t, "/shows/"+showID)
	require.Regexp(t, `(?s)<noscript>.*This page needs JavaScript.*</noscript>.*Reserve`, body)
}

func TestShow_HasTheTicketsOfASectionAndFurtherPages(t *testing.T) {
	site := newSite(t)
	site.link = `<` + showPath + `/tickets?section=Stalls&cursor=abc&limit=50>; rel="next"`
	_, _, body := site.get(t, "/shows/"+showID+"?section=Stalls")
	require.Equal(t, showPath+"/tickets?limit=50&section=Stalls", site.asked[1])
	require.Contains(t, body, `href="?cursor=abc&amp;section=Stalls#tickets"`)
	require.Contains(t, body, `class="chip on" href="/shows/`+showID+`#tickets"`)
}

func TestShow_ThatIsCancelledOrHasStartedHasNoTickets(t *testing.T) {
	for status, text := range map[string]string{"cancelled": "This show is cancelled", "scheduled": "This show has started"} {
		site := newSite(t)
		delete(site.catalogue, showPath)
		site.catalogue["/api/shows/"+showID] = strings.NewReplacer("scheduled", status, "2026-12-24", "2026-11-24").Replace(oneShow)
		code, _, body := site.get(t, "/shows/"+showID)
		require.Equal(t, 200, code)
		require.Contains(t, body, text)
		require.NotContains(t, body, `id="app"`)
	}
}

func TestShow_ThatIsSoldOutShowsIt(t *testing.T) {
	site := newSite(t)
	site.catalogue[showPath+"/tickets"] = "[]"
	_, _, body := site.get(t, "/shows/"+showID)
	require.Contains(t, body, "No tickets at the moment")
	_, _, body = site.get(t, "/shows/"+showID+"?section=Stalls")
	require.Contains(t, body, "Nothing is left in this section", "the catalogue has two others")
}
