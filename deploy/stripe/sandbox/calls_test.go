package sandbox

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCalls_CountsWhatIsAskedOfStripe(t *testing.T) {
	b := newBench(t, Options{})
	intent := b.create(t)
	_, err := b.intents.Get(intent.ID, nil)
	require.NoError(t, err)
	_, err = b.intents.Get("pi_unknown", nil)
	require.Error(t, err, "a refused call counts as well")

	for range 2 { // what is not Stripe's does not count
		response, err := http.Get(b.url + "/sandbox/calls")
		require.NoError(t, err)
		var counted Calls
		require.NoError(t, json.NewDecoder(response.Body).Decode(&counted))
		require.NoError(t, response.Body.Close())
		require.Equal(t, Calls{Reads: 2, Writes: 1}, counted)
	}
}
