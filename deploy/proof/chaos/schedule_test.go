package chaos

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var processes = []string{"nats", "placement", "scheduler", "sandbox", "gateway", "gateway-dapr", "orders", "orders-dapr", "orders-2", "orders-2-dapr"}

var all = supported{cuts: true, disks: true, clocks: true}

func TestSchedule_FollowsFromTheSeed(t *testing.T) {
	text := func(seed uint64) (lines []string) {
		for _, f := range schedule(seed, time.Minute, processes, all) {
			lines = append(lines, f.String())
		}
		return lines
	}
	require.Equal(t, text(7), text(7))
	require.NotEqual(t, text(7), text(8))
}

func TestSchedule_ReachesEveryProcessInEveryWay(t *testing.T) {
	kinds, targets := map[string]bool{}, map[string]bool{}
	last := time.Duration(0)
	for _, f := range schedule(1, time.Hour, processes, all) {
		require.GreaterOrEqual(t, f.at, last)
		require.Less(t, f.at, time.Hour)
		require.Positive(t, f.length)
		require.Equal(t, f.kind == misbehave, f.rule.Fault != "")
		last = f.at
		kinds[f.kind+string(f.rule.Fault)], targets[f.target] = true, true
	}
	require.Len(t, targets, len(processes))
	require.Len(t, kinds, 7+len(sandboxFaults))
	for _, f := range schedule(1, time.Hour, processes, supported{}) {
		require.NotContains(t, []string{cut, fill, jump}, f.kind)
	}
}

// An overlap endangers events: the broker is away when a service is killed, and the process that takes over its journal is
// killed, too.
func TestSchedule_OverlapsFaults(t *testing.T) {
	both := map[bool]int{}
	for _, f := range schedule(1, time.Hour, processes, supported{}) {
		if f.kind != overlap {
			continue
		}
		require.Contains(t, []string{"orders", "orders-2"}, f.target)
		away, kills, running := false, map[string]int{}, map[string]bool{}
		for _, s := range f.steps {
			switch {
			case s.process == "nats":
				away = s.action == kill || s.action == freeze
			case s.action == kill:
				if len(kills) == 0 {
					require.True(t, away, "%s", f)
				}
				kills[s.process]++
				running[s.process] = false
			case s.action == start:
				running[s.process] = true
			}
		}
		require.GreaterOrEqual(t, kills[f.target], 1)
		require.Equal(t, kills[f.target], kills[f.target+"-dapr"])
		itself := kills[f.target] == 2
		both[itself]++
		require.True(t, itself || len(kills) == 4, "%s", f)
		for process := range kills {
			require.True(t, running[process], "%s", f)
		}
	}
	require.Greater(t, both[true], 10)
	require.Greater(t, both[false], 10)
}

func TestSchedule_AttacksAnApp(t *testing.T) {
	with := append([]string{"webhooks", "webhooks-dapr", "webhooks-2", "webhooks-2-dapr", "catalogue", "catalogue-dapr"}, processes...)
	for _, app := range []string{"webhooks", "catalogue"} {
		testAttacks(t, with, app)
	}
	require.Empty(t, attacks(rand.New(rand.NewPCG(1, 1)), time.Hour, processes, all, "webhooks"))
}

func testAttacks(t *testing.T, with []string, app string) {
	t.Helper()
	for _, stored := range []bool{false, true} {
		of, kinds := with, map[string]int{}
		if stored {
			of = append([]string{"postgres"}, with...)
		}
		for _, f := range attacks(rand.New(rand.NewPCG(1, 1)), time.Hour, of, supported{cuts: true, disks: true}, app) {
			require.True(t, strings.HasPrefix(f.target, app), "%s", f)
			kinds[f.kind+" "+role(f.target)]++
		}
		lost := "fill sidecar"
		if stored {
			lost = "cut sidecar"
		}
		for _, kind := range []string{"kill service", "freeze service", "kill sidecar", lost} {
			require.Greater(t, kinds[kind], 10, "%s: %v", kind, kinds)
		}
	}
}
