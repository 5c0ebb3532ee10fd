package chaos

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var processes = []string{"nats", "placement", "scheduler", "sandbox", "gateway", "gateway-dapr", "orders", "orders-dapr", "orders-2", "orders-2-dapr"}

func TestSchedule_FollowsFromTheSeed(t *testing.T) {
	text := func(seed uint64) (all []string) {
		for _, f := range schedule(seed, time.Minute, processes) {
			all = append(all, f.String())
		}
		return all
	}
	require.Equal(t, text(7), text(7))
	require.NotEqual(t, text(7), text(8))
}

func TestSchedule_ReachesEveryProcessInEveryWay(t *testing.T) {
	kinds, victims := map[string]bool{}, map[string]bool{}
	last := time.Duration(0)
	for _, f := range schedule(1, time.Hour, processes) {
		require.GreaterOrEqual(t, f.at, last)
		require.Less(t, f.at, time.Hour)
		require.Positive(t, f.length)
		require.Equal(t, f.kind == misbehave, f.rule.Fault != "")
		last = f.at
		kinds[f.kind+string(f.rule.Fault)], victims[f.victim] = true, true
	}
	require.Len(t, victims, len(processes))
	require.Len(t, kinds, 3+len(badDays))
}
