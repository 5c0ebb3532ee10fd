package state

import (
	"context"
	"log/slog"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/problem"
)

func FuzzCursor(f *testing.F) {
	const entries = 2*pageLength + 50
	s, err := Open(context.Background(), newMemory(), Options{Service: "tested", Instance: "one", Writers: 1, Log: slog.New(slog.DiscardHandler)})
	require.NoError(f, err)
	f.Cleanup(func() { _ = s.Close(context.Background()) })
	var change Change
	for i := range entries {
		change.Append("all", strconv.Itoa(i))
	}
	require.NoError(f, s.Commit(context.Background(), &change))
	for _, place := range []Place{{1, 0}, {1, pageLength}, {2, 17}, {3, 50}, {3, pageLength}, {99, 1}} {
		f.Add(cursor{"0": place}.String(), 10)
		f.Add(cursor{"0": place, "7": place, legacyPartition: place}.String(), 10)
	}
	for _, raw := range []string{"x", "MQ", "LTEuNQ", "MS4tMQ", "OTk5OTk5OTk5OTk5OTk5OTk5OTkuMQ", "MS4xMDAwMDAw", "MS4x\n", "MS4x=", "KzEuMQ", "MDEuMQ"} {
		f.Add(raw, 1)
	}
	f.Fuzz(func(t *testing.T, raw string, limit int) {
		if limit < 1 || limit > 1000 || raw == "" {
			t.Skip()
		}
		place, err := parseCursor(raw)
		ids, next, pageErr := s.Page(context.Background(), "all", limit, raw)
		if err != nil {
			require.Equal(t, problem.Invalid, problem.KindOf(err))
			require.Equal(t, problem.Invalid, problem.KindOf(pageErr))
			return
		}
		require.Equal(t, raw, place.String(), "a place has one spelling")
		require.NoError(t, pageErr, "a cursor that can be read leads to a page: %+v", place)
		require.LessOrEqual(t, len(ids), limit)
		for i := 1; i < len(ids); i++ {
			before, _ := strconv.Atoi(ids[i-1])
			require.Equal(t, strconv.Itoa(before-1), ids[i], "newest first, none left out")
		}
		if next == "" && len(ids) > 0 {
			require.Equal(t, "0", ids[len(ids)-1], "the end is the oldest")
		}
		if next != "" {
			_, err := parseCursor(next)
			require.NoError(t, err)
		}
	})
}
