package bench

import (
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseFill(t *testing.T) {
	for text, want := range map[string]fill{
		"":                            {},
		"tickets=300000,orders=90000": {tickets: 300000, orders: 90000},
		"orders=5":                    {tickets: 5, orders: 5}, // each needs a ticket
		"shows=5,listings=30":         {shows: 5, listings: 30},
	} {
		got, err := parseFill(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"tickets", "tickets=-1", "seats=3", "tickets=1;orders=1", "listings=3"} {
		_, err := parseFill(text)
		require.Error(t, err, text)
	}
}

func TestCPUTimes_AreShownByKindWithReplicasTogether(t *testing.T) {
	require.Equal(t, "orders", withoutReplica("orders-2"))
	require.Equal(t, "orders-dapr", withoutReplica("orders-2-dapr"))
	require.Equal(t, "nats", withoutReplica("nats"))

	times := cpuTimes{"orders": 3 * time.Millisecond, "tickets": time.Millisecond, "orders-dapr": 2 * time.Millisecond, "postgres": 4 * time.Millisecond, self: time.Millisecond}
	require.Equal(t, "1100: services 400 (orders 300, tickets 100); sidecars 200 (orders 200); database 400; load 100", times.perOperation(10))
	require.Equal(t, map[string]int64{"total": 1100, "orders": 300, "tickets": 100, "orders-dapr": 200, "postgres": 400, "load": 100}, times.micros(10))
}

func TestProcesses_TimeOfEndedChildrenCounts(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has these times")
	}
	before := readProcesses()[os.Getpid()].ended
	require.NoError(t, exec.Command("sh", "-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done").Run())
	all := readProcesses()
	require.Greater(t, all[os.Getpid()].ended, before)
	require.GreaterOrEqual(t, all.tree(os.Getpid()), all[os.Getpid()].own+all[os.Getpid()].ended)
}

func TestCost_IsDividedByOperations(t *testing.T) {
	before := &cost{calls: map[string]float64{"orders GetState": 5}, commits: map[string]commit{"orders": {10, 5, -1}}}
	after := &cost{
		calls:      map[string]float64{"orders GetState": 25, "orders ExecuteStateTransaction": 10, "auth GetState": 0},
		commits:    map[string]commit{"orders": {40, 15, 1}, "auth": {}},
		deliveries: 80, stripeWrites: 20, stripeReads: 10,
	}
	difference := after.since(before)
	require.Equal(t, "3.00 calls to sidecars, of them 1.00 transactions; 8.00 deliveries; Stripe: 2.00 writes, 1.00 reads"+
		"\n    orders      ExecuteStateTransaction 1.00, GetState 2.00", difference.perOperation(10))
	require.Equal(t, "orders 3.0 (10.0% tried again)", difference.changesPerTransaction())
}

func TestSample_Label(t *testing.T) {
	s := sample{labels: `app_id="orders",grpc_server_method="/dapr.proto.runtime.v1.Dapr/GetState",grpc_server_status="OK"}`}
	require.Equal(t, "/dapr.proto.runtime.v1.Dapr/GetState", s.label("grpc_server_method"))
	require.Empty(t, s.label("component"))
}
