package id

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func TestNew_IsAnotherUUIDEachTimeThatHoldsTheTime(t *testing.T) {
	first, second := New[Ticket](), New[Ticket]()
	require.NotEqual(t, first, second)
	require.Less(t, first, second, "ids sort by time")
	parsed, err := uuid.Parse(string(first))
	require.NoError(t, err)
	require.Equal(t, uuid.Version(7), parsed.Version())
}

func TestParse(t *testing.T) {
	const canonical = "0190a6b8-7c2f-7d3e-9a4b-5c6d7e8f9a0b"
	for _, text := range []string{canonical, strings.ToUpper(canonical)} {
		parsed, err := Parse[Order](text)
		require.NoError(t, err)
		require.Equal(t, Order(canonical), parsed)
	}
	for _, text := range []string{"", "17", canonical[1:], canonical + "0", "{" + canonical + "}", "urn:uuid:" + canonical, strings.ReplaceAll(canonical, "-", "")} {
		_, err := Parse[Order](text)
		require.Error(t, err, text)
	}
}
