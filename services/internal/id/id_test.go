package id

import (
	"strings"
	"testing"
	"time"

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

func TestIsYoung_ForAMinuteAfterTheTimeInAUUIDv7(t *testing.T) {
	const made = "01990c3f-6a00-7abc-8def-0123456789ab"
	at, ok := TimeOf(Ticket(made))
	require.True(t, ok)
	require.EqualValues(t, 0x01990c3f6a00, at.UnixMilli())
	for _, test := range []struct {
		age   time.Duration
		young bool
	}{
		{-5*time.Second - 1, false}, // another process made it, whose clock is ahead
		{-5 * time.Second, true},
		{0, true},
		{time.Minute, true},
		{time.Minute + 1, false},
		{24 * time.Hour, false},
	} {
		require.Equal(t, test.young, IsYoung(Ticket(made), at.Add(test.age)), "%s", test.age)
	}
	require.True(t, IsYoung(New[Order](), time.Now()))
}

func TestIsYoung_OnlyAUUIDv7HoldsItsTime(t *testing.T) {
	v1, err := uuid.NewUUID()
	require.NoError(t, err)
	v6, err := uuid.NewV6()
	require.NoError(t, err)
	for _, other := range []string{"", "17", uuid.NewString(), uuid.Nil.String(), uuid.Max.String(), v1.String(), v6.String()} {
		_, ok := TimeOf(Order(other))
		require.False(t, ok, other)
		require.False(t, IsYoung(Order(other), time.Now()), other)
		require.False(t, IsYoung(Order(other), time.Time{}), other)
	}
}
