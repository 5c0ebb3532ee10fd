package check

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
)

// closedAddress is an address at which nothing listens.
func closedAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	return listener.Addr().String()
}

func TestDiagnose_DistinguishesAnOutageFromNoStack(t *testing.T) {
	server := func(status int, body string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	up, closed := server(http.StatusOK, ""), closedAddress(t)
	failed := errors.New("read the events: timeout")

	none := Target{Gateways: []string{"http://" + closed}, Sandbox: "http://" + closed, Broker: stack.BrokerAddress{URL: "nats://" + closed}}
	require.ErrorIs(t, none.diagnose(t.Context(), failed), errNotRunning)

	withoutBroker := Target{
		Gateways: []string{up}, Sandbox: up, Broker: stack.BrokerAddress{URL: "nats://user:secret@" + closed},
		Services: map[string][]string{"orders": {server(http.StatusServiceUnavailable, "store: connection refused")}, "tickets": {up}},
	}
	err := withoutBroker.diagnose(t.Context(), failed)
	require.ErrorIs(t, err, failed)
	require.ErrorContains(t, err, "the stack is running")
	require.ErrorContains(t, err, "the broker does not answer at "+closed)
	require.ErrorContains(t, err, "orders is not ready: 503 Service Unavailable store: connection refused")
	require.NotContains(t, err.Error(), "tickets is not ready")
	require.NotContains(t, err.Error(), "secret")

	all := Target{Gateways: []string{up}, Sandbox: up, Broker: stack.BrokerAddress{URL: "nats://" + up[len("http://"):]}}
	err = all.diagnose(t.Context(), failed)
	require.ErrorIs(t, err, failed)
	require.NotErrorIs(t, err, errNotRunning)
}
