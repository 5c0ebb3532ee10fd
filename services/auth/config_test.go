package main

import (
	"reflect"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestConfig_NoTokenIsGoodForLongerThanRevocationsAreKept(t *testing.T) {
	field, _ := reflect.TypeFor[config]().FieldByName("TokenLifetime")
	limit := regexp.MustCompile(`max=(\w+)`).FindStringSubmatch(field.Tag.Get("validate"))
	require.Len(t, limit, 2)
	longest, err := time.ParseDuration(limit[1])
	require.NoError(t, err)

	require.Equal(t, longestTokenLifetime, longest)
}
