package storefront

import (
	"fmt"
	"html/template"
	"math"
	"strings"
	"time"
	_ "time/tzdata" // the time zones of shows, whatever the host has

	"golang.org/x/text/currency"
	"golang.org/x/text/language"
	"golang.org/x/text/language/display"
	"golang.org/x/text/message"
	"golang.org/x/text/number"
)

// functions are those that templates call: texts, money and dates in one language. The scripts write them alike (src/lib/format.ts).
func functions(t translation) template.FuncMap {
	return template.FuncMap{
		"t":             t.text,
		"tn":            t.plural,
		"languageLinks": languageLinks,
		"category":      func(value string) string { return t.or("category."+value, value) },
		"country":       t.country,
		"money":         t.money,
		"place":         t.place,
		"number":        func(n int) string { return t.number(int64(n)) },
		"dateTime":      t.dateTime,
		"longDate":      t.longDate,
		"clock":         func(at time.Time) string { return at.Format("15:04") },
		"day":           func(at time.Time) int { return at.Day() },
		"month": func(at time.Time) string {
			return strings.TrimSuffix(t.word("calendar.monthsShort", int(at.Month())-1), ".")
		},
		"weekday": func(at time.Time) string {
			return strings.TrimSuffix(t.word("calendar.daysShort", int(at.Weekday())), ".")
		},
		"utc": func(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05.000Z") },
	}
}

// or returns the text of a key, or otherwise if there is none.
func (t translation) or(key, otherwise string) string {
	if text, ok := t[key]; ok {
		return text
	}
	return otherwise
}

func (t translation) isGerman() bool { return t["language.code"] == "de" }

func (t translation) printer() *message.Printer {
	return message.NewPrinter(language.Make(t["language.code"]))
}

func (t translation) number(n int64) string { return t.printer().Sprint(number.Decimal(n)) }

// money writes an amount in the currency's minor unit: 4500 and "usd" are "$45.00".
func (t translation) money(amount int64, code string) string {
	unit, err := currency.ParseISO(code)
	if err != nil {
		return fmt.Sprintf("%d %s", amount, strings.ToUpper(code))
	}
	digits, _ := currency.Standard.Rounding(unit)
	value := float64(amount) / math.Pow10(digits)
	p := t.printer()
	figures := p.Sprint(number.Decimal(value, number.Scale(digits)))
	symbol := p.Sprint(currency.NarrowSymbol(unit))
	switch {
	case t.isGerman():
		return figures + "\u00a0" + symbol
	case symbol[len(symbol)-1] >= 'A' && symbol[len(symbol)-1] <= 'Z':
		return symbol + "\u00a0" + figures
	}
	return symbol + figures
}

// country returns the name of a country by its code: "DE" is "Germany".
func (t translation) country(code string) string {
	region, err := language.ParseRegion(code)
	if err != nil {
		return code
	}
	return display.Regions(language.Make(t["language.code"])).Name(region)
}

// word returns a word of a text that lists words.
func (t translation) word(key string, i int) string { return strings.Fields(t[key])[i] }

// dateTime writes "Thu, 24 Dec 2026, 19:30", in the time's own zone.
func (t translation) dateTime(at time.Time) string {
	day := fmt.Sprint(at.Day())
	if t.isGerman() {
		day += "."
	}
	return fmt.Sprintf("%s, %s %s %d, %s", t.word("calendar.daysShort", int(at.Weekday())), day, t.word("calendar.monthsShort", int(at.Month())-1), at.Year(), at.Format("15:04"))
}

// shortDate writes a date: "2026-12-24" is "24 Dec 2026". "" stays "".
func (t translation) shortDate(date string) string {
	at, err := time.Parse(time.DateOnly, date)
	if err != nil {
		return ""
	}
	_, short, _ := strings.Cut(t.dateTime(at), ", ")
	short, _, _ = strings.Cut(short, ", ")
	return short
}

// place writes where a ticket's holder sits: "Stalls, row C, seat 12"; "" for a ticket without a place.
func (t translation) place(p *place) string {
	if p == nil {
		return ""
	}
	var parts []string
	if p.Section != "" {
		parts = append(parts, p.Section)
	}
	if p.Row != "" {
		parts = append(parts, t["ui.row"]+" "+p.Row)
	}
	if p.Number != "" {
		parts = append(parts, t["ui.seat"]+" "+p.Number)
	}
	return strings.Join(parts, ", ")
}

// longDate writes "Thursday, 24 December 2026".
func (t translation) longDate(at time.Time) string {
	day := fmt.Sprint(at.Day())
	if t.isGerman() {
		day += "."
	}
	return fmt.Sprintf("%s, %s %s %d", t.word("calendar.days", int(at.Weekday())), day, t.word("calendar.months", int(at.Month())-1), at.Year())
}
