package index

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/id"
)

// program applies a few shows as a city has them.
func program(f *fixture) {
	for i, s := range []struct{ name, venue, city, category, description string }{
		{"Rock im Park", "Zeppelinfeld", "Nürnberg", "festival", "Three days of music."},
		{"Hamlet", "Schauspielhaus", "Zürich", "theatre", "By William Shakespeare, in German."},
		{"Die Zauberflöte", "Opernhaus", "Zürich", "music", "Opera by Mozart."},
		{"Beethoven: Symphony No. 9", "Tonhalle", "Zürich", "music", "With the choir of the opera."},
		{"Opera Gala", "Tonhalle", "Düsseldorf", "music", "Verdi, Puccini and a Hamlet of Thomas."},
		{"Zürich Marathon", "Mythenquai", "Zürich", "sport", ""},
		{"Don't Stop: Queen Tribute", "Hallenstadion", "Zürich", "music", "Rock of the seventies in the park."},
		{"東京フィルハーモニー", "Tonhalle", "Zürich", "music", ""},
		{"Smørrebrød & Straße", "Kulturkasino", "København", "other", ""},
	} {
		show := aShow(i + 1)
		show.Name, show.Venue, show.City, show.Category, show.Description = s.name, s.venue, s.city, s.category, s.description
		f.apply(show)
	}
}

func TestSearch_FindsWhatPeopleMean(t *testing.T) {
	f := fixtureOf(t)
	program(f)
	for _, test := range []struct {
		text string
		want []string
	}{
		{"hamlet", []string{"Hamlet", "Opera Gala"}},                         // the name before the description
		{"HAMLET", []string{"Hamlet", "Opera Gala"}},                         // any case
		{"ham", []string{"Hamlet", "Opera Gala"}},                            // a prefix
		{"h", []string{"Hamlet", "Don't Stop: Queen Tribute", "Opera Gala"}}, // one letter; Hallenstadion
		{"hamlt", []string{"Hamlet", "Opera Gala"}},                          // a letter too few
		{"hamllet", []string{"Hamlet", "Opera Gala"}},                        // one too many
		{"halmet", []string{"Hamlet", "Opera Gala"}},                         // two swapped
		{"beathofen", []string{"Beethoven: Symphony No. 9"}},                 // two typos in a long word
		{"beathov", []string{"Beethoven: Symphony No. 9"}},                   // a prefix with a typo
		{"zurich marathon", []string{"Zürich Marathon"}},                     // no umlaut
		{"Zürich MARATHON", []string{"Zürich Marathon"}},                     // an umlaut
		{"Zu\u0308rich marathon", []string{"Zürich Marathon"}},               // an umlaut of two characters
		{"zuerich marathon", []string{"Zürich Marathon"}},                    // in place of an umlaut
		{"zauberflote", []string{"Die Zauberflöte"}},
		{"opera", []string{"Opera Gala", "Die Zauberflöte", "Beethoven: Symphony No. 9"}}, // the name first
		{"zurich opera", []string{"Die Zauberflöte", "Beethoven: Symphony No. 9"}},        // words of several fields
		{"opera tonhalle", []string{"Opera Gala", "Beethoven: Symphony No. 9"}},
		{"tonhalle opera dusseldorf", []string{"Opera Gala"}},
		{"mozart hamlet", nil}, // each word must occur
		{"rock park", []string{"Rock im Park", "Don't Stop: Queen Tribute"}},
		{"rock im park", []string{"Rock im Park"}},
		{"rick park", []string{"Rock im Park", "Don't Stop: Queen Tribute"}}, // no text has it
		{"dont stop", []string{"Don't Stop: Queen Tribute"}},                 // an apostrophe
		{"don’t stop", []string{"Don't Stop: Queen Tribute"}},                // another one
		{"東京", []string{"東京フィルハーモニー"}},
		{"フィル", []string{"東京フィルハーモニー"}}, // the middle of a name without spaces
		{"smorrebrod strasse", []string{"Smørrebrød & Straße"}},
		{"kobenhavn", []string{"Smørrebrød & Straße"}},
		{"theatre", []string{"Hamlet"}}, // a category
		{"symphony no 9", []string{"Beethoven: Symphony No. 9"}},
		{"xyz", nil},
		{"no", []string{"Beethoven: Symphony No. 9"}}, // not Nürnberg: a prefix is not a typo
		{`"rock" OR (NOT park*) NEAR AND`, nil},       // no language of queries
		{`rock" im* -park`, []string{"Rock im Park"}},
		{"!!!", nil},
		{strings.Repeat("hamlet ", 100), []string{"Hamlet", "Opera Gala"}}, // repeats
		{"hamlet a b c d e f g h i j k l", nil},                            // many words
		{"park \x00 \xff rock", []string{"Rock im Park", "Don't Stop: Queen Tribute"}},
		{strings.Repeat("x", 10_000), nil},
		{"hamlet " + strings.Repeat("ü", 400) + " nothing that counts", nil},
		{"  ", []string{"Rock im Park", "Hamlet", "Die Zauberflöte", "Beethoven: Symphony No. 9", "Opera Gala", // no text at all
			"Zürich Marathon", "Don't Stop: Queen Tribute", "東京フィルハーモニー", "Smørrebrød & Straße"}},
	} {
		page := f.search(t, Query{Text: test.text, Sort: ByRelevance})
		if test.want == nil {
			test.want = []string{}
		}
		require.Equal(t, test.want, names(page), "%.60q", test.text)
		require.Equal(t, len(test.want), page.Total)
	}
}

func TestSearch_AWordThatExistsMayStillBeATypo(t *testing.T) {
	f := fixtureOf(t)
	rock, rack := aShow(1), aShow(2)
	rock.Name, rack.Name = "Rock Night", "Rack Repair"
	f.apply(rock, rack)
	require.Equal(t, []string{"Rock Night"}, names(f.search(t, Query{Text: "rack night"})))
	require.Equal(t, []string{"Rack Repair"}, names(f.search(t, Query{Text: "rack"})))
}

func TestSearch_TheWholeNameIsFirst(t *testing.T) {
	f := fixtureOf(t)
	for i, name := range []string{"The Queen of Spades", "Queen", "Dancing Queen", "Queens of Comedy"} {
		show := aShow(i + 1)
		show.Name = name
		f.apply(show)
	}
	require.Equal(t, []string{"Queen", "Dancing Queen", "Queens of Comedy", "The Queen of Spades"}[0], names(f.search(t, Query{Text: "queen", Sort: ByRelevance}))[0])
}

func TestSearch_Filters(t *testing.T) {
	f := fixtureOf(t)
	program(f)
	f.apply(aListing(1, aShow(2), 10), aListing(2, aShow(4), 5))
	for _, test := range []struct {
		name  string
		query Query
		want  int
	}{
		{"a city without its umlaut", Query{City: " ZURICH "}, 6},
		{"a city that there is not", Query{City: "Paris"}, 0},
		{"a country", Query{Country: "CH"}, 9},
		{"a category", Query{Category: "music"}, 5},
		{"all of them", Query{City: "zürich", Country: "CH", Category: "sport"}, 1},
		{"what is left", Query{Available: true}, 2},
		{"from a time", Query{From: AtTime(noon.AddDate(0, 0, 8))}, 2},
		{"after a time", Query{From: AtTime(noon.AddDate(0, 0, 8).Add(1e6))}, 1},
		{"to a time", Query{To: AtTime(noon.AddDate(0, 0, 2))}, 2},
		{"on a date", Query{From: OnDate(noon.AddDate(0, 0, 3)), To: OnDate(noon.AddDate(0, 0, 3))}, 1},
		{"with a text", Query{Text: "opera", City: "Zürich"}, 2},
	} {
		page := f.search(t, test.query)
		require.Equal(t, test.want, page.Total, test.name)
		require.Len(t, page.Shows, test.want, test.name)
	}
}

func TestSearch_ADateIsThatOfTheShowsTimeZone(t *testing.T) {
	f := fixtureOf(t)
	show := aShow(1)
	show.StartsAt, show.TimeZone = time.Date(2030, 7, 1, 23, 30, 0, 0, time.UTC), "Europe/Zurich" // 01:30 on July 2
	f.apply(show)
	july := func(day int) Bound { return OnDate(time.Date(2030, 7, day, 0, 0, 0, 0, time.UTC)) }
	require.Equal(t, 0, f.search(t, Query{To: july(1)}).Total)
	require.Equal(t, 1, f.search(t, Query{From: july(2), To: july(2)}).Total)
	show.TimeZone, show.Version = "No/Such", 2 // UTC
	f.apply(show)
	require.Equal(t, 1, f.search(t, Query{To: july(1)}).Total)
}

func TestSearch_AFacetIgnoresItsOwnFilter(t *testing.T) {
	f := fixtureOf(t)
	program(f)
	other := aShow(20)
	other.City = "ZÜRICH"
	f.apply(other)
	facets := f.search(t, Query{City: "zurich", Category: "music"}).Facets
	require.Equal(t, []FacetValue{{"Zürich", 5}, {"Düsseldorf", 1}}, facets.Cities)
	require.Equal(t, []FacetValue{{"music", 5}, {"sport", 1}, {"theatre", 1}}, facets.Categories)
	require.Equal(t, []FacetValue{{"CH", 5}}, facets.Countries)
}

func TestSearch_ByPriceHasSoldOutShowsLast(t *testing.T) {
	f := fixtureOf(t)
	f.apply(aShow(1), aShow(2), aShow(3), aListing(1, aShow(2), 20), aListing(2, aShow(3), 10))
	require.Equal(t, []string{"Show 3", "Show 2", "Show 1"}, names(f.search(t, Query{Sort: ByPrice})))
	f.apply(Reservation{TicketID: ticketID(2), Sequence: 1, Status: Sold})
	require.Equal(t, []string{"Show 2", "Show 1", "Show 3"}, names(f.search(t, Query{Sort: ByPrice})))
	require.Equal(t, []string{"Show 2"}, names(f.search(t, Query{Sort: ByPrice, Available: true})))
	f.apply(Reservation{TicketID: ticketID(2), Sequence: 2, Status: Available})
	require.Equal(t, []string{"Show 3", "Show 2"}, names(f.search(t, Query{Sort: ByPrice, Available: true})))
}

func TestSearch_PagesHaveEachShowOnce(t *testing.T) {
	f := fixtureOf(t)
	for i := range 57 {
		show := aShow(1 + i/5) // many start at the same time
		show.ID = showID(i)
		f.apply(show)
		for j := range i % 3 {
			f.apply(aListing(i*3+j, show, int64(i%7)))
		}
	}
	for _, sort := range []Sort{ByDate, ByPrice, ByRelevance} {
		for _, limit := range []int{1, 7, 57, 100} {
			seen := map[id.Show]bool{}
			q := Query{Text: "hallenstadion", Sort: sort, Limit: limit}
			for {
				page := f.search(t, q)
				require.Equal(t, 57, page.Total)
				for _, s := range page.Shows {
					require.False(t, seen[s.ID])
					seen[s.ID] = true
				}
				if q.Cursor = page.Next; q.Cursor == "" {
					break
				}
				require.Len(t, page.Shows, limit)
			}
			require.Len(t, seen, 57)
		}
	}
}

func TestSearch_ChangesAreSeenThoughResultsAreCached(t *testing.T) {
	f := fixtureOf(t)
	f.apply(aShow(1), aShow(2), aListing(1, aShow(2), 20))
	queries := []Query{{}, {Available: true}, {Sort: ByPrice}, {Text: "show"}}
	totals := func() (totals []int) {
		for _, q := range queries {
			page := f.search(t, q)
			totals = append(totals, page.Total)
			for _, s := range page.Shows {
				totals = append(totals, s.Left)
			}
		}
		return totals
	}
	require.Equal(t, []int{2, 0, 1, 1, 1, 2, 1, 0, 2, 0, 1}, totals())
	f.apply(aListing(2, aShow(2), 20))
	require.Equal(t, []int{2, 0, 2, 1, 2, 2, 2, 0, 2, 0, 2}, totals())
	f.apply(aListing(3, aShow(1), 30))
	require.Equal(t, []int{2, 1, 2, 2, 1, 2, 2, 2, 1, 2, 1, 2}, totals())
	f.now = aShow(1).StartsAt
	require.Equal(t, []int{1, 2, 1, 2, 1, 2, 1, 2}, totals())
}

// Nothing is asserted about what the pages have while the index changes; -race and the absence of panics are the test. Afterwards all is as
// the last changes made it.
func TestSearch_WhileTheIndexChanges(t *testing.T) {
	f := fixtureOf(t)
	var now atomic.Int64
	f.clock = func() time.Time { return noon.Add(time.Duration(now.Load())) }
	program(f)
	var running sync.WaitGroup
	var done atomic.Bool
	running.Go(func() {
		defer done.Store(true)
		for i := range 400 {
			show := aShow(i%20 + 1)
			show.Version, show.City = i+2, []string{"Bern", "Basel"}[i%2]
			show.Cancelled = i%20 == 19
			f.apply(show, aListing(i%60, show, int64(i%9)), Reservation{TicketID: ticketID(i % 60), Sequence: i, Status: []Status{Available, Reserved, Sold}[i%3]})
			if i%100 == 99 {
				now.Add(int64(24 * time.Hour))
				f.tidy()
			}
			_ = f.Flush(t.Context())
		}
	})
	for reader := range 3 {
		running.Go(func() {
			for i := 0; !done.Load(); i++ {
				q := Query{Text: []string{"", "show", "zurich", "hallenstadoin"}[i%4], Sort: []Sort{ByDate, ByPrice, ByRelevance}[(i+reader)%3], Limit: 5}
				for range 5 {
					page, err := f.Search(q)
					if err != nil {
						t.Error(err)
						return
					}
					if q.Cursor = page.Next; q.Cursor == "" {
						break
					}
				}
				_, _, _ = f.Show(showID(i%20 + 1))
				_, _, _, _ = f.Listings(showID(i%20+1), nil, 5, "")
				_, next, _ := f.Newest(5, "")
				_, _, _ = f.Newest(5, next)
				_ = f.Entries(i%8, 8)
			}
		})
	}
	running.Wait()
	again := fixtureOf(t)
	again.now = f.clock()
	again.Apply(1, f.Entries(0, 1))
	require.Equal(t, again.search(t, Query{Text: "show"}), f.search(t, Query{Text: "show"}))
}

func TestDistance(t *testing.T) {
	for _, test := range []struct {
		a, b     string
		asPrefix bool
		want     int
	}{
		{"abc", "abc", false, 0}, {"abc", "abd", false, 1}, {"abc", "ab", false, 1}, {"abc", "acb", false, 1}, {"abc", "xabc", false, 1},
		{"abc", "abcdef", true, 0}, {"axc", "abcdef", true, 1}, {"bac", "abcdef", true, 1}, {"abcd", "ab", true, 2}, {"zürich", "zurich", false, 1},
	} {
		require.Equal(t, test.want, distance([]rune(test.a), []rune(test.b), 2, test.asPrefix), "%s %s", test.a, test.b)
	}
	require.Greater(t, distance([]rune("abcdef"), []rune("uvwxyz"), 2, false), 2)
	require.Greater(t, distance([]rune("abcdef"), []rune("a"), 2, true), 2)
}

func FuzzWordsOf(f *testing.F) {
	for _, text := range []string{"Zürich", "don't", "東京 ﷺ", "\xff\x00", "ǅ ŉ ﬁ Ⅷ ①", "a\u0301'b"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, word := range wordsOf(text) {
			require.NotEmpty(t, word)
			require.LessOrEqual(t, len(word), longestWord)
			require.True(t, utf8.ValidString(word))
			require.NotContains(t, word, `"`)
			require.NotContains(t, word, " ")
			require.NotContains(t, word, "\x00")
			require.Equal(t, []string{word}, wordsOf(word), "a word is itself")
		}
	})
}

var fuzzed struct {
	sync.Once
	*fixture
}

// FuzzSearch: any text and cursor have a page or are refused.
func FuzzSearch(f *testing.F) {
	f.Add("hamlet zü", "d.0.1.01990c3f-6a00-7abc-8def-000000000000", "zürich")
	f.Add(`"rock" AND NOT {name}:* ^a NEAR(b c)`, "r.-9.1.01990c3f-6a00-7abc-8def-000000000000", "")
	f.Add("no' -- ;", "t.1.01990c3f-6a00-7abc-8def-000000000000", "x")
	f.Fuzz(func(t *testing.T, text, cursor, city string) {
		fuzzed.Do(func() {
			fuzzed.fixture = newFixture(t)
			program(fuzzed.fixture)
			require.NoError(t, fuzzed.Flush(t.Context()))
		})
		for _, sort := range []Sort{ByDate, ByPrice, ByRelevance} {
			page, err := fuzzed.Search(Query{Text: text, City: city, Cursor: cursor, Sort: sort, Limit: 3})
			if err != nil {
				require.ErrorIs(t, err, ErrCursor, fmt.Sprint(text))
				continue
			}
			require.LessOrEqual(t, len(page.Shows), 3)
			require.LessOrEqual(t, len(page.Shows), page.Total)
		}
		_, _, _, err := fuzzed.Listings(showID(1), &city, 3, cursor)
		if err != nil {
			require.ErrorIs(t, err, ErrCursor)
		}
		_, _, err = fuzzed.Newest(3, cursor)
		if err != nil {
			require.ErrorIs(t, err, ErrCursor)
		}
	})
}
