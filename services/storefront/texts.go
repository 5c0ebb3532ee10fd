package storefront

import (
	"embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"golang.org/x/text/language"
)

//go:embed texts
var textFiles embed.FS

// languages are those of the pages. The first is for readers of none of them.
var languages = []string{"en", "de"}

// languageCookie is the reader's choice. Without it, Accept-Language decides.
const languageCookie = "lang"

// languageAge is how long the choice is kept.
const languageAge = 365 * 24 * time.Hour

var matcher = language.NewMatcher([]language.Tag{language.English, language.German})

// languageOf returns the language in which a request is answered.
func languageOf(c *fiber.Ctx) string {
	if chosen := c.Cookies(languageCookie); isLanguage(chosen) {
		return chosen
	}
	_, i := language.MatchStrings(matcher, c.Get(fiber.HeaderAcceptLanguage))
	return languages[i]
}

func isLanguage(text string) bool { return slices.Contains(languages, text) }

// translation has the texts of one language by key. The scripts have the same (src/lib/texts.ts).
type translation map[string]string

// texts are all texts, by language.
var texts = func() map[string]translation {
	all := map[string]translation{}
	for _, language := range languages {
		content, err := textFiles.ReadFile("texts/" + language + ".json")
		if err != nil {
			panic(err) // it is embedded
		}
		of := translation{}
		if err := json.Unmarshal(content, &of); err != nil {
			panic(fmt.Sprintf("texts/%s.json: %v", language, err))
		}
		all[language] = of
	}
	return all
}()

// text returns the text of a key, with {name} replaced by the value after the name.
func (t translation) text(key string, values ...any) (string, error) {
	text, ok := t[key]
	if !ok {
		return "", fmt.Errorf("there is no text %q", key)
	}
	pairs := make([]string, 0, len(values))
	for i := 0; i+1 < len(values); i += 2 {
		value := values[i+1]
		if pointer, ok := value.(*int); ok {
			value = *pointer
		}
		pairs = append(pairs, fmt.Sprintf("{%v}", values[i]), fmt.Sprint(value))
	}
	return strings.NewReplacer(pairs...).Replace(text), nil
}

// plural returns the text of a key for a number, which stands in the text as {n}. English and German have a form for one, and one for all others.
func (t translation) plural(key string, n int) (string, error) {
	form := ".other"
	if n == 1 {
		form = ".one"
	}
	return t.text(key+form, "n", t.number(int64(n)))
}
