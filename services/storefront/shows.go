package storefront

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
)

const (
	// showsOnPage divides into two, three and four columns.
	showsOnPage = 24
	// Of the cities and countries, so many are shown at once; the others on demand.
	firstChoices = 7
	// longestQuery and longestCity are the catalogue's bounds, in characters.
	longestQuery, longestCity = 200, 100
)

// search is what the reader wants to find. Its members are valid for the catalogue: others are left out.
type search struct {
	Text, City, Country, Category string
	From, To                      string // dates
	Sort                          string
	Available                     bool
	Cursor                        string
}

var categories = []string{"music", "theatre", "comedy", "dance", "sport", "family", "festival", "other"}

// readSearch reads the query of a page. What the catalogue would refuse is ignored: it is from an old link, or typed.
func readSearch(c *fiber.Ctx) search {
	s := search{
		Text: cut(strings.TrimSpace(c.Query("q")), longestQuery), City: cut(c.Query("city"), longestCity), Country: c.Query("country"), Category: c.Query("category"),
		From: dateOf(c.Query("from")), To: dateOf(c.Query("to")), Sort: c.Query("sort"), Available: c.Query("available") == "true", Cursor: c.Query("cursor"),
	}
	if !slices.Contains(categories, s.Category) {
		s.Category = ""
	}
	if len(s.Country) != 2 || strings.Trim(s.Country, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		s.Country = ""
	}
	if !slices.Contains(s.sorts(), s.Sort) {
		s.Sort = s.sorts()[0]
	}
	return s
}

// sorts are the possible orders, with the usual one first.
func (s search) sorts() []string {
	if s.Text != "" {
		return []string{"relevance", "date", "price"}
	}
	return []string{"date", "price"}
}

func cut(text string, longest int) string {
	if runes := []rune(text); len(runes) > longest {
		return string(runes[:longest])
	}
	return text
}

// dateOf returns the text if it is a date, and otherwise "".
func dateOf(text string) string {
	if _, err := time.Parse(time.DateOnly, text); err != nil {
		return ""
	}
	return text
}

// query is the search as parameters, which the catalogue and the page have in common.
func (s search) query() url.Values {
	q := url.Values{}
	for name, value := range map[string]string{"q": s.Text, "city": s.City, "country": s.Country, "category": s.Category, "from": s.From, "to": s.To, "cursor": s.Cursor} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if s.Sort != s.sorts()[0] {
		q.Set("sort", s.Sort)
	}
	if s.Available {
		q.Set("available", "true")
	}
	return q
}

// Path is the address of the page.
func (s search) Path() string {
	if q := s.query().Encode(); q != "" {
		return "/?" + q
	}
	return "/"
}

// with returns the first page of a search with a change.
func (s search) with(change func(*search)) search {
	s.Cursor = ""
	change(&s)
	return s
}

// isEverything reports whether nothing was asked for.
func (s search) isEverything() bool {
	return s.with(func(s *search) { s.Sort = s.sorts()[0] }).Path() == "/"
}

// choice is a link that changes the search.
type choice struct {
	Name  string
	Count int // of the shows that it would find; 0: not known
	Path  string
	On    bool // it is chosen, and the link removes it
}

// group is a row of choices.
type group struct {
	Label         string
	First, Others []choice
}

// add appends a choice. One that is on is always shown.
func (g *group) add(c choice) {
	if len(g.First) < firstChoices || c.On {
		g.First = append(g.First, c)
	} else {
		g.Others = append(g.Others, c)
	}
}

// searchPage is a page of the catalogue's list of shows, with what the filters would find.
type searchPage struct {
	Shows  []show
	Total  int
	Facets struct{ Cities, Categories, Countries []facet }
}

// facet is a value of a filter, and how many shows have it.
type facet struct {
	Value string
	Count int
}

// showsContent is what the template shows.html gets.
type showsContent struct {
	search
	Found   searchPage
	Groups  []group
	Active  []choice
	Sorts   []choice
	Hidden  map[string]string // of the form: what it does not ask for
	Next    string            // the path of the next page; "" for none
	IsEmpty bool              // there is no show at all
	IsFirst bool
}

func (s *Storefront) shows(c *fiber.Ctx) error {
	wanted := readSearch(c)
	q := wanted.query()
	q.Set("limit", strconv.Itoa(showsOnPage))
	var found searchPage
	answer, err := s.read(c, "/api/catalogue/shows?"+q.Encode(), &found)
	switch {
	case err == nil && answer.Status == http.StatusBadRequest && wanted.Cursor != "":
		return c.Redirect(wanted.with(func(*search) {}).Path(), http.StatusSeeOther) // the cursor is of another list
	case err != nil || answer.Status != http.StatusOK:
		return s.failed(c, err)
	}
	t := texts[languageOf(c)]
	content := showsContent{
		search: wanted, Found: found, Groups: t.groups(wanted, found, s.now()), Active: t.active(wanted),
		IsEmpty: found.Total == 0 && wanted.isEverything(), IsFirst: wanted.Cursor == "",
		Hidden: map[string]string{},
	}
	for _, name := range []string{"city", "country", "category", "sort", "available"} {
		if value := wanted.query().Get(name); value != "" {
			content.Hidden[name] = value
		}
	}
	for _, sort := range wanted.sorts() {
		content.Sorts = append(content.Sorts, choice{Name: t["shows.sort."+sort], Path: wanted.with(func(s *search) { s.Sort = sort }).Path(), On: sort == wanted.Sort})
	}
	if next := answer.nextCursor(); next != "" {
		content.Next = wanted.with(func(s *search) { s.Cursor = next }).Path()
	}
	title := t["shows.title"]
	if wanted.Text != "" {
		title = wanted.Text
	}
	return s.respond(c, page{template: "shows.html", status: http.StatusOK, view: view{Name: "shows", Title: title, Content: content}})
}

// groups are the rows of choices: kinds, cities, dates, and countries if there are several.
func (t translation) groups(s search, found searchPage, now time.Time) []group {
	kinds := group{Label: t["shows.category"]}
	slices.SortStableFunc(found.Facets.Categories, otherLast)
	for _, f := range found.Facets.Categories {
		on := f.Value == s.Category
		kinds.First = append(kinds.First, choice{t.or("category."+f.Value, f.Value), f.Count, s.with(func(s *search) { s.Category = unless(on, f.Value) }).Path(), on})
	}
	cities := group{Label: t["shows.city"]}
	for _, f := range found.Facets.Cities {
		on := strings.EqualFold(f.Value, s.City)
		cities.add(choice{f.Value, f.Count, s.with(func(s *search) { s.City = unless(on, f.Value) }).Path(), on})
	}
	countries := group{Label: t["shows.country"]}
	for _, f := range found.Facets.Countries {
		on := f.Value == s.Country
		countries.add(choice{t.country(f.Value), f.Count, s.with(func(s *search) { s.Country = unless(on, f.Value) }).Path(), on})
	}
	groups := []group{kinds, t.periods(s, now), cities}
	if len(countries.First) > 1 || s.Country != "" {
		groups = append(groups, countries)
	}
	return slices.DeleteFunc(groups, func(g group) bool { return len(g.First) == 0 })
}

// otherLast is the order of kinds that puts those without a name at the end.
func otherLast(a, b facet) int {
	switch {
	case a.Value == b.Value:
		return 0
	case a.Value == "other":
		return 1
	case b.Value == "other":
		return -1
	}
	return 0
}

func unless(on bool, value string) string {
	if on {
		return ""
	}
	return value
}

// periods are usual ranges of dates. The days are those of UTC: near midnight they may be those of the day before or after at some places.
func (t translation) periods(s search, now time.Time) group {
	today := now.UTC()
	saturday := today.AddDate(0, 0, (int(time.Saturday)-int(today.Weekday())+7)%7)
	if today.Weekday() == time.Sunday {
		saturday = today.AddDate(0, 0, -1)
	}
	g := group{Label: t["shows.dates"]}
	for _, p := range []struct {
		key      string
		from, to time.Time
	}{
		{"shows.today", today, today},
		{"shows.weekend", latest(today, saturday.AddDate(0, 0, -1)), saturday.AddDate(0, 0, 1)},
		{"shows.week", today, today.AddDate(0, 0, 6)},
		{"shows.month", today, today.AddDate(0, 0, 29)},
	} {
		from, to := p.from.Format(time.DateOnly), p.to.Format(time.DateOnly)
		on := s.From == from && s.To == to
		g.First = append(g.First, choice{Name: t[p.key], Path: s.with(func(s *search) { s.From, s.To = unless(on, from), unless(on, to) }).Path(), On: on})
	}
	return g
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// active are the filters of a search, each with a link that removes it.
func (t translation) active(s search) []choice {
	var all []choice
	add := func(name string, change func(*search)) {
		if name != "" {
			all = append(all, choice{Name: name, Path: s.with(change).Path(), On: true})
		}
	}
	if s.Text != "" {
		add(strings.Replace(t["shows.query"], "{text}", s.Text, 1), func(s *search) { s.Text = ""; s.Sort = "date" })
	}
	if s.Category != "" {
		add(t.or("category."+s.Category, s.Category), func(s *search) { s.Category = "" })
	}
	add(s.City, func(s *search) { s.City = "" })
	if s.Country != "" {
		add(t.country(s.Country), func(s *search) { s.Country = "" })
	}
	if s.From != "" || s.To != "" {
		period := t.shortDate(s.From)
		if s.From != s.To {
			period = strings.TrimSpace(cmp.Or(period, "…") + " – " + cmp.Or(t.shortDate(s.To), "…"))
		}
		add(period, func(s *search) { s.From, s.To = "", "" })
	}
	if s.Available {
		add(t["shows.available"], func(s *search) { s.Available = false })
	}
	return all
}

// WithAvailable is the path that adds or removes the filter of shows with tickets.
func (s search) WithAvailable() string {
	return s.with(func(s *search) { s.Available = !s.Available }).Path()
}

// FirstPage is the path of the first page of the search.
func (s search) FirstPage() string { return s.with(func(*search) {}).Path() }
