package bench

import (
	"context"
	"math/rand/v2"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestProgram_FollowsFromTheNumberOfAShow(t *testing.T) {
	p := newProgram()
	require.Equal(t, p.show(7), newProgram().show(7))
	require.NotEqual(t, p.show(7), p.show(8))
	zones := map[string]bool{}
	for number := range 1000 {
		show := p.show(number)
		_, err := time.LoadLocation(show.TimeZone)
		require.NoError(t, err)
		require.True(t, show.StartsAt.After(time.Now()))
		zones[show.TimeZone] = true
	}
	require.Greater(t, len(zones), 10)
	require.NotEqual(t, place(0), place(placesInRow))
	require.NotEqual(t, place(0), place(len(sections)*placesInRow), "another row of the same section")
}

func TestProgram_QueriesAreMixed(t *testing.T) {
	p := newProgram()
	for number := range 100 {
		p.shows = append(p.shows, filledShow{NewShow: p.show(number)})
	}
	parameters := map[string]int{}
	for i := range 1000 {
		address, err := url.Parse(p.query(rand.New(rand.NewPCG(3, uint64(i)))).Path)
		require.NoError(t, err)
		for name := range address.Query() {
			parameters[name]++
		}
	}
	for _, name := range []string{"q", "city", "category", "country", "from", "to", "available", "sort"} {
		require.NotZero(t, parameters[name], name)
	}
	require.NotEqual(t, "balado", misspelt(rand.New(rand.NewPCG(1, 1)), "balado"))
}

func TestSteadily_DoesNotWaitForAnswers(t *testing.T) {
	answer := make(chan struct{})
	done := 0
	m := steadily(context.Background(), 1000, 0, 10*time.Millisecond, func(i int) (int, error) {
		if i == 9 {
			close(answer)
		}
		<-answer
		return 200, nil
	})
	require.NoError(t, m.problems(200))
	for _, n := range m.statuses {
		done += n
	}
	require.Equal(t, 10, done)
	require.Len(t, m.latencies, 10)
}
