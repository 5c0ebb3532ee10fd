package storefront

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/services/contracts"
)

var placeholder = regexp.MustCompile(`\{\w+\}`)

func TestTexts_AreCompleteInEachLanguage(t *testing.T) {
	english := texts["en"]
	for _, language := range languages {
		require.ElementsMatch(t, slices.Collect(maps.Keys(english)), slices.Collect(maps.Keys(texts[language])), language)
		for key, text := range texts[language] {
			require.NotEmpty(t, text, "%s of %s", key, language)
			wanted, found := placeholder.FindAllString(english[key], -1), placeholder.FindAllString(text, -1)
			slices.Sort(wanted)
			slices.Sort(found)
			require.Equal(t, slices.Compact(wanted), slices.Compact(found), "the values of %s in %s", key, language)
		}
		require.Equal(t, language, texts[language]["language.code"])
	}
}

// A reader gets the text of each code in their language, and not the server's English sentence.
func TestTexts_HaveEachCodeOfTheAPI(t *testing.T) {
	var document struct {
		Codes map[string]any `json:"x-codes"`
	}
	require.NoError(t, json.Unmarshal(contracts.OpenAPI(), &document))
	require.NotEmpty(t, document.Codes)
	for code := range document.Codes {
		require.Contains(t, texts["en"], "error."+code)
	}
}

func TestTexts_HaveEachCategory(t *testing.T) {
	for _, category := range categories {
		require.Contains(t, texts["en"], "category."+category)
	}
}

func TestText_OfAKeyThatDoesNotExistIsAnError(t *testing.T) {
	_, err := texts["en"].text("no.such.key")
	require.Error(t, err)
}

func TestMoney_HasTheFormOfTheLanguage(t *testing.T) {
	for _, tt := range []struct {
		amount          int64
		code            string
		english, german string
	}{
		{4500, "usd", "$45.00", "45,00\u00a0$"},
		{123456789, "eur", "€1,234,567.89", "1.234.567,89\u00a0€"},
		{5, "gbp", "£0.05", "0,05\u00a0£"},
		{1500, "jpy", "¥1,500", "1.500\u00a0¥"},
		{123450, "chf", "CHF\u00a01,234.50", "1.234,50\u00a0CHF"},
	} {
		require.Equal(t, tt.english, texts["en"].money(tt.amount, tt.code))
		require.Equal(t, tt.german, texts["de"].money(tt.amount, tt.code))
	}
}

func TestDates_HaveTheFormOfTheLanguage(t *testing.T) {
	at := time.Date(2026, 3, 5, 9, 7, 0, 0, time.UTC)
	require.Equal(t, "Thu, 5 Mar 2026, 09:07", texts["en"].dateTime(at))
	require.Equal(t, "Do., 5. März 2026, 09:07", texts["de"].dateTime(at))
	require.Equal(t, "Thursday, 5 March 2026", texts["en"].longDate(at))
	require.Equal(t, "Donnerstag, 5. März 2026", texts["de"].longDate(at))
	require.Equal(t, "5 Mar 2026", texts["en"].shortDate("2026-03-05"))
}
