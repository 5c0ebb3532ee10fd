package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"boxoffice/deploy/proof/client"
)

// program is what the catalogue contains: shows, with listings of their owners. What shows are called, where and when they are, and what
// clients search for follows from their numbers.
type program struct {
	words []string // of names and descriptions; the first ones are the most frequent
	begin time.Time

	mu       sync.Mutex
	shows    []filledShow
	listings []filledListing // that are not reserved
}

type filledShow struct {
	id     string
	seller int
	client.NewShow
}

type filledListing struct {
	id, show string
	seller   int
	price    int64 // its face value, too
}

const (
	vocabulary = 4000
	// wordsOfName and wordsOfDescription are how many words a show has.
	wordsOfName, wordsOfDescription = 3, 30
	// daysOfProgram is how far in the future the last show is.
	daysOfProgram = 365
	// placesInRow is how many places a row has.
	placesInRow = 20
)

var (
	syllables  = strings.Fields("ba be bi bo da de di do fa fe fi fo ga ka ke ki ko la le li lo ma me mi mo na ne ni no pa pe pi po ra re ri ro sa se si so ta te ti to va ve vi vo")
	categories = strings.Fields("music theatre comedy dance sport family festival other")
	sections   = strings.Fields("Stalls Circle Balcony")
	cities     = []struct{ name, country, zone string }{
		{"Berlin", "DE", "Europe/Berlin"}, {"Hamburg", "DE", "Europe/Berlin"}, {"Munich", "DE", "Europe/Berlin"}, {"Cologne", "DE", "Europe/Berlin"},
		{"London", "GB", "Europe/London"}, {"Manchester", "GB", "Europe/London"}, {"Glasgow", "GB", "Europe/London"}, {"Paris", "FR", "Europe/Paris"},
		{"Lyon", "FR", "Europe/Paris"}, {"Marseille", "FR", "Europe/Paris"}, {"Madrid", "ES", "Europe/Madrid"}, {"Barcelona", "ES", "Europe/Madrid"},
		{"Lisbon", "PT", "Europe/Lisbon"}, {"Rome", "IT", "Europe/Rome"}, {"Milan", "IT", "Europe/Rome"}, {"Vienna", "AT", "Europe/Vienna"},
		{"Zurich", "CH", "Europe/Zurich"}, {"Amsterdam", "NL", "Europe/Amsterdam"}, {"Brussels", "BE", "Europe/Brussels"}, {"Copenhagen", "DK", "Europe/Copenhagen"},
		{"Oslo", "NO", "Europe/Oslo"}, {"Stockholm", "SE", "Europe/Stockholm"}, {"Helsinki", "FI", "Europe/Helsinki"}, {"Warsaw", "PL", "Europe/Warsaw"},
		{"Prague", "CZ", "Europe/Prague"}, {"Budapest", "HU", "Europe/Budapest"}, {"Athens", "GR", "Europe/Athens"}, {"Dublin", "IE", "Europe/Dublin"},
		{"New York", "US", "America/New_York"}, {"Chicago", "US", "America/Chicago"}, {"Los Angeles", "US", "America/Los_Angeles"}, {"Toronto", "CA", "America/Toronto"},
		{"Mexico City", "MX", "America/Mexico_City"}, {"São Paulo", "BR", "America/Sao_Paulo"}, {"Tokyo", "JP", "Asia/Tokyo"}, {"Osaka", "JP", "Asia/Tokyo"},
		{"Seoul", "KR", "Asia/Seoul"}, {"Sydney", "AU", "Australia/Sydney"}, {"Melbourne", "AU", "Australia/Melbourne"}, {"Auckland", "NZ", "Pacific/Auckland"},
	}
)

func newProgram() *program {
	p := &program{begin: time.Now().UTC().Truncate(time.Hour)}
	chance := rand.New(rand.NewPCG(1, 1))
	seen := map[string]bool{}
	for len(p.words) < vocabulary {
		word := ""
		for range 2 + chance.IntN(3) {
			word += syllables[chance.IntN(len(syllables))]
		}
		if !seen[word] {
			seen[word] = true
			p.words = append(p.words, word)
		}
	}
	return p
}

// text is some words: few of them are frequent, as in a language.
func (p *program) text(chance *rand.Rand, words int) string {
	frequency := rand.NewZipf(chance, 1.1, 10, uint64(len(p.words)-1))
	chosen := make([]string, words)
	for i := range chosen {
		chosen[i] = p.words[frequency.Uint64()]
	}
	return strings.Join(chosen, " ")
}

// show is the show with a number.
func (p *program) show(number int) client.NewShow {
	chance := rand.New(rand.NewPCG(2, uint64(number)))
	city := cities[int(chance.ExpFloat64()*8)%len(cities)]
	show := client.NewShow{
		Name: title(p.text(chance, wordsOfName)), Venue: title(p.text(chance, 1)) + " Hall", City: city.name, Country: city.country, TimeZone: city.zone,
		StartsAt: p.begin.Add(24*time.Hour + time.Duration(chance.IntN(daysOfProgram*24*2))*time.Hour/2),
		Category: categories[chance.IntN(len(categories))], Description: p.text(chance, wordsOfDescription),
	}
	if chance.IntN(3) == 0 {
		show.MaxMarkup = new(chance.IntN(30))
	}
	return show
}

func title(text string) string {
	words := strings.Fields(text)
	for i, word := range words {
		words[i] = strings.ToUpper(word[:1]) + word[1:]
	}
	return strings.Join(words, " ")
}

// place is the place with a number in a show.
func place(number int) *client.Place {
	row := number / placesInRow
	return &client.Place{Section: sections[row%len(sections)], Row: strconv.Itoa(row/len(sections) + 1), Number: strconv.Itoa(number%placesInRow + 1)}
}

// createShows makes shows, and returns them.
func (b *bench) createShows(ctx context.Context, n int) ([]filledShow, error) {
	p := b.program
	first, made := len(p.shows), make([]filledShow, n)
	err := b.repeatNumbered(ctx, "shows", n, func(_, i int) (int, int, error) {
		s := filledShow{seller: (first + i) % (len(b.data.users) / 2), NewShow: p.show(first + i)}
		status, err := b.direct.catalogue.call(b.data.seller(s.seller), client.CreateShow(s.NewShow), createdID(&s.id))
		made[i] = s
		return 1, status, err
	})
	if err != nil {
		return nil, err
	}
	p.shows = append(p.shows, made...)
	return made, b.waitHandled(ctx)
}

// listPlaces lists n places in shows that have none yet: as many in each, or one more.
func (b *bench) listPlaces(ctx context.Context, shows []filledShow, n int) ([]filledListing, error) {
	made := make([]filledListing, n)
	err := b.repeatNumbered(ctx, "listings of shows", n, func(_, i int) (int, int, error) {
		show := shows[i%len(shows)]
		l := filledListing{show: show.id, seller: show.seller, price: 2000 + int64(i*7919%9000)}
		offer := client.Offer{ShowID: show.id, Seat: place(i / len(shows)), Price: l.price}
		status, err := b.direct.tickets.call(b.data.seller(l.seller), client.ListPlace(offer), createdID(&l.id))
		made[i] = l
		return 1, status, err
	})
	if err != nil {
		return nil, err
	}
	return made, b.waitHandled(ctx)
}

// fillShows makes shows with listings, and waits until each replica of the catalogue has all of them.
func (b *bench) fillShows(ctx context.Context, shows, listings int) error {
	begin := time.Now()
	made, err := b.createShows(ctx, shows)
	if err != nil {
		return err
	}
	created := time.Now()
	listed, err := b.listPlaces(ctx, made, listings)
	if err != nil {
		return err
	}
	b.program.put(listed...)
	ended := time.Now()
	if err := b.waitShown(ctx, listed); err != nil {
		return err
	}
	progress("the catalogue contains %d more shows (%.0f/s) and %d more listings of them (%.0f/s); the last is shown %.1f s later",
		shows, float64(shows)/created.Sub(begin).Seconds(), listings, float64(listings)/ended.Sub(created).Seconds(), time.Since(ended).Seconds())
	return nil
}

// waitShown waits until each replica of the catalogue shows some of the listings, among them the last.
func (b *bench) waitShown(ctx context.Context, listings []filledListing) error {
	ctx, cancel := context.WithTimeout(ctx, b.settings.settle)
	defer cancel()
	left := map[string]int{}
	for _, l := range listings {
		left[l.show]++
	}
	for _, replica := range b.catalogues {
		for i := len(listings); i > 0; i -= max(1, len(listings)/20) {
			show := listings[i-1].show
			for {
				var read client.CatalogueShow
				status, err := replica.call("", client.ReadCatalogueShow(show), body(&read))
				if status == 200 && read.Left >= left[show] {
					break
				}
				if pause(ctx, 10*time.Millisecond); ctx.Err() != nil {
					return fmt.Errorf("the catalogue shows %d of %d listings of a show (status %d, %v)", read.Left, left[show], status, err)
				}
			}
		}
	}
	return nil
}

func (p *program) put(listings ...filledListing) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listings = append(p.listings, listings...)
}

// take returns listings that nobody has reserved, from as many shows as possible.
func (p *program) take(n int) []filledListing {
	p.mu.Lock()
	defer p.mu.Unlock()
	n = min(n, len(p.listings))
	taken := slices.Clone(p.listings[:n])
	p.listings = p.listings[n:]
	return taken
}

// query is a search, as clients of a storefront send it.
func (p *program) query(chance *rand.Rand) client.Request {
	wanted := p.shows[chance.IntN(len(p.shows))]
	words := strings.Fields(strings.ToLower(wanted.Name))
	word := words[chance.IntN(len(words))]
	from := p.begin.AddDate(0, 0, chance.IntN(daysOfProgram))
	parameters := url.Values{}
	switch n := chance.IntN(100); {
	case n < 30: // one word
		parameters.Set("q", word)
	case n < 45: // the name
		parameters.Set("q", strings.Join(words, " "))
	case n < 60: // what is typed so far
		parameters.Set("q", word[:min(len(word), 3+chance.IntN(3))])
	case n < 75:
		parameters.Set("q", misspelt(chance, word))
	case n < 80: // a word with filters
		parameters.Set("q", word)
		parameters.Set("category", wanted.Category)
		parameters.Set("available", "true")
	case n < 90: // what is on in a city in a week
		parameters.Set("city", wanted.City)
		parameters.Set("from", from.Format(time.DateOnly))
		parameters.Set("to", from.AddDate(0, 0, 7).Format(time.DateOnly))
	case n < 95:
		parameters.Set("category", wanted.Category)
		parameters.Set("country", wanted.Country)
		parameters.Set("sort", "price")
	default: // the beginning of the list
		parameters.Set("sort", "date")
	}
	request := client.SearchShows()
	request.Path += "?" + parameters.Encode()
	return request
}

// misspelt is a word with a typing error: a letter is missing, or two are exchanged.
func misspelt(chance *rand.Rand, word string) string {
	at := 1 + chance.IntN(len(word)-2)
	if chance.IntN(2) == 0 {
		return word[:at] + word[at+1:]
	}
	return word[:at] + word[at+1:at+2] + word[at:at+1] + word[at+2:]
}
