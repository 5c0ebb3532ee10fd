package domain

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/id"
)

func TestUserAttempts_CountedKeepsTheNewestOfEachOrder(t *testing.T) {
	at := func(order id.Order, minute int) UserAttempt {
		return UserAttempt{order, noon.Add(time.Duration(minute) * time.Minute)}
	}
	all := UserAttempts{Schema: 1, Attempts: []UserAttempt{at("a", 1), at("b", 2), at("a", 3), at("c", 4), at("a", 5)}}
	require.Equal(t, []UserAttempt{at("a", 3), at("c", 4), at("a", 5)}, all.Counted(map[id.Order]int{"a": 2, "b": 0}).Attempts)
	require.Equal(t, all, all.Counted(nil), "all attempts of an order that is not known count")
}

func TestLimits_CheckHour(t *testing.T) {
	var attempts UserAttempts
	attempts.Add("a", 1, noon.Add(-time.Hour))
	attempts.Add("a", 1, noon.Add(-50*time.Minute))
	attempts.Add("b", 1, noon.Add(-20*time.Minute))
	attempts = attempts.InWindow(noon)
	require.Len(t, attempts.Attempts, 2, "one is an hour old")

	require.NoError(t, Limits{}.CheckHour(attempts, noon), "there is no limit")
	require.NoError(t, Limits{PerHour: 3}.CheckHour(attempts, noon))
	err := Limits{PerHour: 2}.CheckHour(attempts, noon)
	require.Equal(t, ErrUserAttempts.WithRetryAfter(10*time.Minute), err, "until the older one is an hour old")
	err = Limits{PerHour: 1}.CheckHour(attempts, noon)
	require.Equal(t, ErrUserAttempts.WithRetryAfter(40*time.Minute), err)
}

func TestLimits_CheckOrder(t *testing.T) {
	require.NoError(t, Limits{}.CheckOrder(1000), "there is no limit")
	require.NoError(t, Limits{PerOrder: 2}.CheckOrder(1))
	require.ErrorIs(t, Limits{PerOrder: 2}.CheckOrder(2), ErrOrderAttempts)
}
