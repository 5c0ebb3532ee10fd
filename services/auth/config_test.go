package main

import (
	"reflect"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestConfig_NoTokenIsValidLongerThanRevocationsAreStored(t *testing.T) {
	field, _ := reflect.TypeFor[config]().FieldByName("TokenLifetime")
	limit := regexp.MustCompile(`max=(\w+)`).FindStringSubmatch(field.Tag.Get("validate"))
	require.Len(t, limit, 2)
	longest, err := time.ParseDuration(limit[1])
	require.NoError(t, err)

	require.Equal(t, longestTokenLifetime, longest)
}

func TestRevocations_AreStoredUntilEveryTokenOfTheirUserHasExpired(t *testing.T) {
	noon := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	r := revocations{lifetime: 15 * time.Minute, started: noon}

	require.Equal(t, 24*time.Hour+time.Minute, r.duration(noon.Add(-time.Second)), "of an old user: the lifetime may have been lowered")
	require.Equal(t, 24*time.Hour+time.Minute, r.duration(noon.Add(time.Hour)), "other processes may still have the old lifetime")
	require.Equal(t, 16*time.Minute, r.duration(noon.Add(time.Hour+time.Second)), "of a new user")
}
