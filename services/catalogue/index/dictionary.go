package index

import "cmp"

// dictionary numbers the values of a column: cities, countries or categories. Two spellings with the same folded form are one value, so
// that a filter finds "Zürich" also as "zurich".
type dictionary struct {
	numbers map[string]uint32 // by folded form
	values  []value           // by number
	free    []uint32
}

type value struct {
	folded    string
	spellings map[string]int // how many shows have each
	shown     string         // the most frequent spelling
}

func newDictionary() *dictionary { return &dictionary{numbers: map[string]uint32{}} }

// add counts a show with this spelling and returns the value's number.
func (d *dictionary) add(spelling string) uint32 {
	folded := fold(spelling)
	number, known := d.numbers[folded]
	if !known {
		if last := len(d.free) - 1; last >= 0 {
			number, d.free = d.free[last], d.free[:last]
		} else {
			number = uint32(len(d.values)) //nolint:gosec // a number of values in memory
			d.values = append(d.values, value{})
		}
		d.numbers[folded] = number
		d.values[number] = value{folded: folded, spellings: map[string]int{}}
	}
	v := &d.values[number]
	v.spellings[spelling]++
	v.choose()
	return number
}

// remove ends what add began.
func (d *dictionary) remove(number uint32, spelling string) {
	v := &d.values[number]
	if v.spellings[spelling]--; v.spellings[spelling] == 0 {
		delete(v.spellings, spelling)
	}
	if len(v.spellings) > 0 {
		v.choose()
		return
	}
	delete(d.numbers, v.folded)
	d.values[number] = value{}
	d.free = append(d.free, number)
}

// choose sets the spelling that is shown: of those that most shows have, the first in the order of texts. So each replica shows the same.
func (v *value) choose() {
	v.shown = ""
	for spelling, count := range v.spellings {
		if v.shown == "" || cmp.Or(cmp.Compare(v.spellings[v.shown], count), cmp.Compare(spelling, v.shown)) < 0 {
			v.shown = spelling
		}
	}
}
