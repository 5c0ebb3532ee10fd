package index

import (
	"cmp"
	"math/bits"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	// mostSimilar bounds the words that are searched in place of one with a typo.
	mostSimilar = 12
	// From oneTypoLength characters on, a word may have one typo, and from twoTyposLength on two.
	oneTypoLength  = 4
	twoTyposLength = 8
)

// vocabulary is the set of all words in the texts, with the number of texts that have each. It finds words with typos: it compares a word
// with all others, which is fast, because the letters of most exclude them (masks).
type vocabulary struct {
	numbers map[string]uint32
	words   []string // "" is free
	masks   []uint32 // the letters of each word
	texts   []int32  // how many texts have it
	free    []uint32
}

func newVocabulary() *vocabulary { return &vocabulary{numbers: map[string]uint32{}} }

// add counts a text with this word.
func (v *vocabulary) add(word string) {
	if number, known := v.numbers[word]; known {
		v.texts[number]++
		return
	}
	word = strings.Clone(word) // it may be a part of a long text
	var number uint32
	if last := len(v.free) - 1; last >= 0 {
		number, v.free = v.free[last], v.free[:last]
		v.words[number], v.masks[number], v.texts[number] = word, mask(word), 1
	} else {
		number = uint32(len(v.words)) //nolint:gosec // a number of words in memory
		v.words, v.masks, v.texts = append(v.words, word), append(v.masks, mask(word)), append(v.texts, 1)
	}
	v.numbers[word] = number
}

// remove ends what add began.
func (v *vocabulary) remove(word string) {
	number, known := v.numbers[word]
	if !known {
		return
	}
	if v.texts[number]--; v.texts[number] == 0 {
		delete(v.numbers, word)
		v.words[number], v.masks[number] = "", 0
		v.free = append(v.free, number)
	}
}

func (v *vocabulary) has(word string) bool {
	_, known := v.numbers[word]
	return known
}

// hasPrefix reports whether a word begins with this.
func (v *vocabulary) hasPrefix(prefix string) bool {
	needed := mask(prefix)
	for i, m := range v.masks {
		if needed&^m == 0 && strings.HasPrefix(v.words[i], prefix) && v.words[i] != "" {
			return true
		}
	}
	return false
}

// typos is how many typos a word may have.
func typos(word string) int {
	switch length := utf8.RuneCountInString(word); {
	case length >= twoTyposLength:
		return 2
	case length >= oneTypoLength:
		return 1
	}
	return 0
}

// similar returns the words that the given one may stand for if it has typos: those with the fewest typos, and of these those that most
// texts have. With asPrefix, words that begin like it count too. The word itself may be among them.
func (v *vocabulary) similar(word string, asPrefix bool) []string {
	allowed := typos(word)
	if allowed == 0 {
		return nil
	}
	type candidate struct {
		word     string
		distance int
		texts    int32
	}
	compare := func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), -cmp.Compare(a.texts, b.texts), cmp.Compare(a.word, b.word))
	}
	var found []candidate
	letters, wanted := []rune(word), mask(word)
	var buffer [longestWord]rune
	for i, m := range v.masks {
		// Each typo replaces at most one letter by another.
		if bits.OnesCount32(wanted&^m) > allowed || !asPrefix && bits.OnesCount32(m&^wanted) > allowed || v.words[i] == "" {
			continue
		}
		other := buffer[:0]
		for _, r := range v.words[i] {
			other = append(other, r)
		}
		d := distance(letters, other, allowed, asPrefix)
		if d > allowed {
			continue
		}
		found = append(found, candidate{v.words[i], d, v.texts[i]})
		if len(found) > 16*mostSimilar {
			slices.SortFunc(found, compare)
			found = found[:mostSimilar]
		}
	}
	slices.SortFunc(found, compare)
	found = found[:min(len(found), mostSimilar)]
	similar := make([]string, len(found))
	for i, c := range found {
		similar[i] = c.word
	}
	return similar
}

// mask has a bit for each letter that the word has; different letters may share a bit.
func mask(word string) uint32 {
	var m uint32
	for _, r := range word {
		m |= 1 << (uint32(r) % 32) //nolint:gosec // a rune is not negative
	}
	return m
}

// distance counts the typos between two words: a letter too many, too few or another, or two neighbours swapped. It is the optimal string
// alignment distance. With asPrefix it is the distance to the best prefix of the second word. If it is above most, the result is any
// number above most.
func distance(a, b []rune, most int, asPrefix bool) int {
	if len(a)-len(b) > most || !asPrefix && len(b)-len(a) > most {
		return most + 1
	}
	if asPrefix && len(b) > len(a)+most {
		b = b[:len(a)+most]
	}
	var rows [3][longestWord + 1]int
	before, last, row := &rows[0], &rows[1], &rows[2]
	for j := range len(b) + 1 {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		least := i
		for j := 1; j <= len(b); j++ {
			d := last[j-1]
			if a[i-1] != b[j-1] {
				d++
			}
			d = min(d, last[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, before[j-2]+1)
			}
			row[j] = d
			least = min(least, d)
		}
		if least > most {
			return most + 1
		}
		before, last, row = last, row, before
	}
	if asPrefix {
		return slices.Min(last[:len(b)+1])
	}
	return last[len(b)]
}
