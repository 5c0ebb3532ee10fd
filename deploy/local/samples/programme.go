package samples

import (
	"fmt"
	"strconv"
	"time"
	_ "time/tzdata" // the time zones of the venues, also on a system without a database of them

	"boxoffice/deploy/proof/client"
)

// show is a show of the programme. Shows, venues and people are invented; the cities are not.
type show struct {
	slug     string // names it in keys of requests; never changes
	name     string
	venue    string
	city     string
	country  string
	zone     string
	category string
	// The show is in so many weeks at least, on this day of the week, at this time of the venue.
	weeks  int
	day    time.Weekday
	hour   int
	minute int
	// maxMarkup is the price cap; uncapped is none.
	maxMarkup int
	// The description has the language of the place first.
	german, english string
	sections        []section
	poster          poster
}

const uncapped = -1

// section is a part of a venue, with tickets of one price.
type section struct {
	name string
	rows []row
	// standing is the number of tickets without a place of their own.
	standing int
	price    int64 // in cents
	// faceValue is in cents; 0 is the price.
	faceValue int64
}

// row has the seats from one number to another.
type row struct {
	name     string
	from, to int
}

// ticket is a ticket as it is listed.
type ticket struct {
	key       string // unique in its show
	place     client.Place
	price     int64
	faceValue int64
}

// tickets are all tickets of the show.
func (s show) tickets() []ticket {
	var all []ticket
	for _, part := range s.sections {
		for _, r := range part.rows {
			for number := r.from; number <= r.to; number++ {
				at := client.Place{Section: part.name, Row: r.name, Number: strconv.Itoa(number)}
				all = append(all, ticket{fmt.Sprintf("%s-%s-%d", at.Section, at.Row, number), at, part.price, part.faceValue})
			}
		}
		for n := range part.standing {
			all = append(all, ticket{fmt.Sprintf("%s-%d", part.name, n+1), client.Place{Section: part.name}, part.price, part.faceValue})
		}
	}
	return all
}

// startsAt is when the show starts, for a programme that is made now.
func (s show) startsAt(now time.Time) (time.Time, error) {
	zone, err := time.LoadLocation(s.zone)
	if err != nil {
		return time.Time{}, err
	}
	there := now.In(zone)
	days := 7*s.weeks + (int(s.day-there.Weekday())+7)%7
	if s.weeks == 0 && days == 0 {
		days = 7
	}
	return time.Date(there.Year(), there.Month(), there.Day()+days, s.hour, s.minute, 0, 0, zone), nil
}

// description is in both languages, that of the place first.
func (s show) description() string {
	if s.country == "DE" || s.country == "AT" || s.country == "CH" {
		return s.german + "\n\n" + s.english
	}
	return s.english + "\n\n" + s.german
}

func seats(name string, price int64, rows ...row) section {
	return section{name: name, price: price, rows: rows}
}

func standing(name string, price int64, number int) section {
	return section{name: name, price: price, standing: number}
}

// programme is what a new box office shows: 20 shows with 20 tickets each.
var programme = []show{
	{
		slug: "blue-hour", name: "Blue Hour Quartet", venue: "Glashütte am Nordhafen", city: "Berlin", country: "DE", zone: "Europe/Berlin",
		category: "music", weeks: 1, day: time.Friday, hour: 20, minute: 30, maxMarkup: 20, poster: poster{vinyl, night},
		german: "Vier Musikerinnen, ein Flügel und eine Sammlung alter Schallplatten: Das Blue Hour Quartet spielt Jazz, der leise beginnt und spät aufhört. " +
			"Zwei Sets mit einer Pause. Die Bar ist ab 19 Uhr geöffnet.",
		english: "Four musicians, a grand piano and a shelf of old records: the Blue Hour Quartet plays jazz that begins quietly and ends late. " +
			"Two sets with an interval. The bar opens at 7 pm.",
		sections: []section{seats("Tische", 4200, row{"1", 1, 4}, row{"2", 1, 4}), seats("Empore", 2900, row{"A", 1, 6}), standing("Bar", 1900, 6)},
	},
	{
		slug: "low-frequency", name: "Low Frequency: Five Hours of Bass", venue: "The Turbine Shed", city: "London", country: "GB", zone: "Europe/London",
		category: "music", weeks: 2, day: time.Saturday, hour: 22, minute: 0, maxMarkup: 0, poster: poster{equaliser, neon},
		german:  "Fünf Stunden elektronische Musik auf einer Anlage, die für diesen Raum gebaut wurde. Drei Künstlerinnen, keine Pause. Ohrstöpsel gibt es am Eingang.",
		english: "Five hours of electronic music on a system that was built for this room. Three artists, no interval. Earplugs are free at the door. Tickets may be sold again, but not for more than they cost.",
		sections: []section{
			standing("Main floor", 3400, 12), standing("Early entry", 2600, 4), seats("Gallery", 4800, row{"A", 1, 4}),
		},
	},
	{
		slug: "signals", name: "Signals from the Coast", venue: "Pier Four Hall", city: "Dublin", country: "IE", zone: "Europe/Dublin",
		category: "music", weeks: 4, day: time.Thursday, hour: 19, minute: 30, maxMarkup: 15, poster: poster{soundWaves, neon},
		german:   "Eine Komponistin hat ein Jahr lang Bojen, Nebelhörner und Funkgeräte aufgenommen. Ein Orchester von zwölf Leuten macht daraus einen Abend.",
		english:  "A composer recorded buoys, foghorns and radios for a year. An orchestra of twelve makes an evening of them. Ninety minutes without an interval.",
		sections: []section{seats("Stalls", 3800, row{"C", 1, 6}, row{"D", 1, 6}), seats("Balcony", 2400, row{"A", 1, 8})},
	},
	{
		slug: "brass", name: "Blech und Wein", venue: "Kelterhof Sommeregg", city: "Wien", country: "AT", zone: "Europe/Vienna",
		category: "music", weeks: 6, day: time.Sunday, hour: 11, minute: 0, maxMarkup: uncapped, poster: poster{brass, sand},
		german:   "Eine Blaskapelle, zwölf Winzerinnen und eine lange Tafel im Hof. Gespielt wird Polka, Funk und alles dazwischen. Bei Regen im Gewölbe.",
		english:  "A brass band, twelve winegrowers and a long table in the yard. They play polka, funk and all between. If it rains, in the vault.",
		sections: []section{seats("Lange Tafel", 3600, row{"Links", 1, 7}, row{"Rechts", 1, 7}), standing("Hof", 1500, 6)},
	},
	{
		slug: "nocturnes", name: "Nocturnes by Candlelight", venue: "Salle des Tisserands", city: "Paris", country: "FR", zone: "Europe/Paris",
		category: "music", weeks: 3, day: time.Wednesday, hour: 20, minute: 0, maxMarkup: 10, poster: poster{pianoKeys, ember},
		german:   "Klaviermusik aus zwei Jahrhunderten, gespielt bei Kerzenlicht in einem alten Websaal. Eine Stunde, ohne Pause und ohne Verstärker.",
		english:  "Piano music of two centuries, played by candlelight in an old weaving hall. One hour, without an interval and without amplification.",
		sections: []section{seats("Parterre", 5200, row{"A", 1, 6}, row{"B", 1, 6}), seats("Galerie", 3300, row{"1", 1, 8})},
	},
	{
		slug: "last-prompter", name: "Die letzte Souffleuse", venue: "Theater am Kranzplatz", city: "München", country: "DE", zone: "Europe/Berlin",
		category: "theatre", weeks: 2, day: time.Tuesday, hour: 19, minute: 30, maxMarkup: 0, poster: poster{curtain, ember},
		german: "Dreißig Jahre lang hat Irma Vogt jeden Text gekannt. Am Abend der letzten Vorstellung sagt sie zum ersten Mal ihren eigenen. " +
			"Ein Stück für vier Personen und eine Falltür.",
		english:  "For thirty years Irma Vogt has known every line. On the evening of the last performance she speaks her own for the first time. A play for four people and a trapdoor. In German, with English surtitles.",
		sections: []section{seats("Parkett", 4600, row{"3", 1, 8}), seats("Rang", 3200, row{"1", 1, 7}), seats("Galerie", 1600, row{"2", 1, 5})},
	},
	{
		slug: "hill-of-owls", name: "The Hill of Owls", venue: "Quarry Open Air", city: "Edinburgh", country: "GB", zone: "Europe/London",
		category: "theatre", weeks: 8, day: time.Friday, hour: 20, minute: 0, maxMarkup: 20, poster: poster{moonlight, midnight},
		german:   "Ein Dorf, ein Hügel und eine Nacht, in der niemand schläft. Erzähltheater unter freiem Himmel, für Menschen ab zehn Jahren. Decken gibt es am Eingang.",
		english:  "A village, a hill, and a night in which nobody sleeps. Storytelling under the open sky, for people from the age of ten. There are blankets at the entrance.",
		sections: []section{seats("Bench", 2800, row{"A", 1, 6}, row{"B", 1, 6}), standing("Meadow", 1400, 8)},
	},
	{
		slug: "windows", name: "Every Window on Ninth Street", venue: "Freight Yard Theater", city: "New York", country: "US", zone: "America/New_York",
		category: "theatre", weeks: 5, day: time.Saturday, hour: 19, minute: 0, maxMarkup: 25, poster: poster{windows, slate},
		german:   "Neun Wohnungen, neun Szenen, und alle geschehen gleichzeitig. Das Publikum sieht das Haus von der anderen Straßenseite. Auf Englisch.",
		english:  "Nine apartments, nine scenes, and all of them happen at once. The audience sees the building from across the street. Two hours with an interval.",
		sections: []section{seats("Orchestra", 8900, row{"F", 101, 108}), seats("Mezzanine", 6400, row{"B", 1, 8}), seats("Rear mezzanine", 3900, row{"H", 1, 4})},
	},
	{
		slug: "open-mic", name: "Terrible First Drafts", venue: "Cellar of the Red Lion Yard", city: "Manchester", country: "GB", zone: "Europe/London",
		category: "comedy", weeks: 1, day: time.Thursday, hour: 20, minute: 0, maxMarkup: uncapped, poster: poster{microphone, mint},
		german:   "Acht Komikerinnen lesen vor, was sie nie zeigen wollten. Der schlechteste Witz des Abends gewinnt eine Topfpflanze. Auf Englisch.",
		english:  "Eight comedians read out what they never wanted to show. The worst joke of the evening wins a potted plant.",
		sections: []section{seats("Tables", 2200, row{"1", 1, 5}, row{"2", 1, 5}), standing("Bar", 1200, 10)},
	},
	{
		slug: "small-talk", name: "Die Meisterschaft im Smalltalk", venue: "Saal der alten Seilerei", city: "Hamburg", country: "DE", zone: "Europe/Berlin",
		category: "comedy", weeks: 3, day: time.Saturday, hour: 20, minute: 0, maxMarkup: 15, poster: poster{smiles, peach},
		german:   "Vier Profis reden mit Fremden über das Wetter, und eine Jury gibt Noten. Improvisation mit Regeln, die niemand kennt. Freiwillige aus dem Publikum bekommen einen Stuhl.",
		english:  "Four professionals talk with strangers about the weather, and a jury gives marks. Improvisation with rules that nobody knows. In German.",
		sections: []section{seats("Parkett", 2700, row{"A", 1, 7}, row{"B", 1, 7}), seats("Balkon", 1900, row{"1", 1, 6})},
	},
	{
		slug: "threads", name: "Threads", venue: "Silo Nine", city: "Amsterdam", country: "NL", zone: "Europe/Amsterdam",
		category: "dance", weeks: 4, day: time.Friday, hour: 20, minute: 15, maxMarkup: 10, poster: poster{ribbons, lilac},
		german:   "Elf Tänzer, elf Kilometer Garn. Das Bühnenbild entsteht während der Vorstellung und wird am Ende zerschnitten. Nach der Vorstellung Gespräch mit dem Ensemble.",
		english:  "Eleven dancers, eleven kilometres of yarn. The set is made during the performance, and cut at its end. The company talks with the audience afterwards.",
		sections: []section{seats("Hall", 3500, row{"A", 1, 6}, row{"B", 1, 6}), seats("Side", 2300, row{"L", 1, 4}, row{"R", 1, 4})},
	},
	{
		slug: "milonga", name: "Milonga bis zum Morgen", venue: "Haus zum Goldenen Anker", city: "Zürich", country: "CH", zone: "Europe/Zurich",
		category: "dance", weeks: 7, day: time.Saturday, hour: 21, minute: 0, maxMarkup: uncapped, poster: poster{steps, ember},
		german:   "Ein Tango-Orchester aus acht Leuten, ein Parkettboden von 1911 und eine Tanzfläche bis vier Uhr. Einführung für Neue um 20 Uhr, ohne Anmeldung.",
		english:  "A tango orchestra of eight, a parquet floor of 1911, and a dance floor until four in the morning. A class for beginners at 8 pm, no registration needed.",
		sections: []section{standing("Tanzfläche", 3000, 12), seats("Tische am Rand", 4500, row{"A", 1, 4}, row{"B", 1, 4})},
	},
	{
		slug: "night-mile", name: "The Night Mile", venue: "Harbour Track", city: "København", country: "DK", zone: "Europe/Copenhagen",
		category: "sport", weeks: 9, day: time.Thursday, hour: 21, minute: 30, maxMarkup: 0, poster: poster{track, sand},
		german:   "Eine Meile, acht Bahnen, Flutlicht. Zwölf Läufe an einem Abend, von Schülerinnen bis zu Profis. Zwischen den Läufen spielt eine Trommelgruppe.",
		english:  "One mile, eight lanes, floodlights. Twelve races in one evening, from pupils to professionals. A group of drummers plays between them.",
		sections: []section{seats("Home straight", 3100, row{"4", 11, 18}), seats("Back straight", 2100, row{"2", 1, 6}), standing("Curve", 1200, 6)},
	},
	{
		slug: "city-derby", name: "City Derby: Foxes v Herons", venue: "Riverside Arena", city: "Chicago", country: "US", zone: "America/Chicago",
		category: "sport", weeks: 3, day: time.Sunday, hour: 15, minute: 0, maxMarkup: 30, poster: poster{court, parquet},
		german:   "Zwei Mannschaften, eine Stadt, ein Basketballspiel. Einlass ab 13:30 Uhr, Kinder unter sechs Jahren auf dem Schoß sind frei.",
		english:  "Two teams, one city, one game of basketball. Doors open at 1:30 pm. Children under six on a lap are free.",
		sections: []section{seats("Courtside", 12500, row{"1", 1, 4}), seats("Lower bowl", 6800, row{"K", 1, 8}), seats("Upper bowl", 2900, row{"T", 21, 28})},
	},
	{
		slug: "balloon-post", name: "Die Ballonpost", venue: "Figurentheater Lindenhof", city: "Leipzig", country: "DE", zone: "Europe/Berlin",
		category: "family", weeks: 1, day: time.Sunday, hour: 15, minute: 0, maxMarkup: 0, poster: poster{balloons, sky},
		german:   "Ein Brief fliegt um die Welt und kommt bei der falschen Großmutter an. Figurentheater für Kinder ab vier Jahren und alle, die Post mögen. 55 Minuten.",
		english:  "A letter flies around the world and arrives at the wrong grandmother's. Puppet theatre for children from the age of four, and for all who like letters. In German, 55 minutes.",
		sections: []section{seats("Kissenreihe", 900, row{"1", 1, 8}), seats("Bankreihen", 1200, row{"2", 1, 6}, row{"3", 1, 6})},
	},
	{
		slug: "paper-fleet", name: "The Paper Fleet", venue: "Teatro da Doca", city: "Lisboa", country: "PT", zone: "Europe/Lisbon",
		category: "family", weeks: 10, day: time.Saturday, hour: 16, minute: 0, maxMarkup: 10, poster: poster{boats, sea},
		german:   "Hundert Papierschiffe, ein Becken voll Wasser und ein Orchester aus Gläsern. Alle Kinder falten ein Schiff und dürfen es mitnehmen. Ohne Worte.",
		english:  "A hundred paper boats, a pool of water and an orchestra of glasses. Every child folds a boat and takes it home. Without words, for everybody from the age of three.",
		sections: []section{seats("Around the pool", 1600, row{"A", 1, 10}), seats("Steps", 1100, row{"B", 1, 10})},
	},
	{
		slug: "field-days", name: "Field Days", venue: "Meadows at Mill Lane", city: "Barcelona", country: "ES", zone: "Europe/Madrid",
		category: "festival", weeks: 18, day: time.Friday, hour: 14, minute: 0, maxMarkup: 20, poster: poster{sunburst, peach},
		german:  "Drei Tage Musik auf zwei Bühnen, dazwischen Werkstätten, Essen und Schatten. Der Zeltplatz ist im Preis der Dreitageskarte enthalten.",
		english: "Three days of music on two stages, and workshops, food and shade between them. The campsite is included in the ticket for three days.",
		sections: []section{
			{name: "Three days", standing: 8, price: 13900, faceValue: 14900}, standing("Friday", 5900, 6), standing("Saturday", 6900, 6),
		},
	},
	{
		slug: "river-of-lights", name: "River of Lights", venue: "Embankment Gardens", city: "Praha", country: "CZ", zone: "Europe/Prague",
		category: "festival", weeks: 13, day: time.Saturday, hour: 21, minute: 0, maxMarkup: uncapped, poster: poster{fireworks, midnight},
		german:   "Ein Feuerwerk, für das eine Musik geschrieben wurde, und nicht umgekehrt. Dazu zwanzig Boote mit Laternen. Das Gelände öffnet um 18 Uhr.",
		english:  "Fireworks for which music was written, and not the other way round. With twenty boats that carry lanterns. The gardens open at 6 pm.",
		sections: []section{seats("Riverside terrace", 4900, row{"1", 1, 5}, row{"2", 1, 5}), standing("Gardens", 1800, 10)},
	},
	{
		slug: "sharp-corners", name: "Scharfe Ecken: ein Abend über Form", venue: "Werkraum Kupfergasse", city: "Basel", country: "CH", zone: "Europe/Zurich",
		category: "other", weeks: 5, day: time.Wednesday, hour: 18, minute: 30, maxMarkup: uncapped, poster: poster{tiles, sand},
		german:   "Eine Gestalterin, ein Mathematiker und eine Schreinerin über Kacheln, Kanten und die Frage, warum manche Muster nie langweilig werden. Mit Werkbank zum Mitmachen.",
		english:  "A designer, a mathematician and a carpenter on tiles, edges, and why some patterns never get boring. With a workbench for everybody. In German.",
		sections: []section{seats("Saal", 1800, row{"A", 1, 7}, row{"B", 1, 7}), seats("Werkbank", 2600, row{"W", 1, 6})},
	},
	{
		slug: "slow-planets", name: "Slow Planets: A Night at the Dome", venue: "Lakeview Dome", city: "Toronto", country: "CA", zone: "America/Toronto",
		category: "other", weeks: 6, day: time.Friday, hour: 21, minute: 0, maxMarkup: 10, poster: poster{orbits, midnight},
		german:   "Der Himmel des nächsten Monats in einer Stunde, erzählt von einer Astronomin und begleitet von einem Cello. Danach, wenn es klar ist, an die Fernrohre.",
		english:  "The sky of the next month in one hour, presented by an astronomer and accompanied by a cello. Afterwards, if it is clear, at the telescopes.",
		sections: []section{seats("Inner ring", 3200, row{"1", 1, 8}), seats("Outer ring", 2400, row{"2", 1, 12})},
	},
}
