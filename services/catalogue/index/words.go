package index

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// longestWord bounds the words of texts and of queries, in bytes. A longer one is cut.
const longestWord = 40

// Letters that have no decomposition in Unicode, but that people write without their sign.
var plain = map[rune]string{
	'ß': "ss", 'æ': "ae", 'œ': "oe", 'ø': "o", 'đ': "d", 'ð': "d", 'þ': "th", 'ł': "l", 'ħ': "h", 'ı': "i", 'ŋ': "n",
}

// fold returns a text in lower case, without diacritics and without space around it.
func fold(text string) string {
	if isPlain(text) {
		return strings.ToLower(strings.TrimSpace(text))
	}
	var folded strings.Builder
	folded.Grow(len(text))
	for _, r := range norm.NFKD.String(strings.ToValidUTF8(text, " ")) {
		if unicode.Is(unicode.Mn, r) {
			continue
		}
		r = unicode.ToLower(r)
		if replaced, ok := plain[r]; ok {
			folded.WriteString(replaced)
		} else {
			folded.WriteRune(r)
		}
	}
	return strings.TrimSpace(folded.String())
}

func isPlain(text string) bool {
	for i := range len(text) {
		if text[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// wordsOf splits a text into folded words: letters and digits in a row. An apostrophe inside a word is skipped ("don't" is dont).
// Scripts that are written without spaces have a word for each character.
func wordsOf(text string) []string {
	var words []string
	folded := fold(text)
	begin := -1
	var word []byte // the word that begins at begin, if it is not a part of the text as it is
	end := func(at int) {
		if begin >= 0 {
			if word == nil {
				word = []byte(folded[begin:at])
			}
			words = append(words, cut(string(word)))
		}
		begin, word = -1, nil
	}
	for i, r := range folded {
		switch {
		case r == utf8.RuneError:
			end(i)
		case isUnspaced(r):
			end(i)
			words = append(words, string(r))
		case unicode.IsLetter(r) || unicode.IsNumber(r) || unicode.Is(unicode.M, r):
			if begin < 0 {
				begin = i
			}
			if word != nil {
				word = utf8.AppendRune(word, r)
			}
		case (r == '\'' || r == '’') && begin >= 0:
			if word == nil {
				word = []byte(folded[begin:i])
			}
		default:
			end(i)
		}
	}
	end(len(folded))
	return words
}

func isUnspaced(r rune) bool {
	return r >= 0x0E00 && unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar)
}

// cut shortens a word to longestWord, at a character's end.
func cut(word string) string {
	if len(word) <= longestWord {
		return word
	}
	at := longestWord
	for !utf8.RuneStart(word[at]) {
		at--
	}
	return word[:at]
}
