package broker_test

import (
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/local/stack/stacktest"
	"boxoffice/deploy/proof/broker"
)

// servers starts the servers of a set, without apps.
func servers(t *testing.T, set string) *stack.Stack {
	t.Helper()
	if testing.Short() {
		t.Skip("needs real servers")
	}
	if err := stack.Installed(set); err != nil {
		require.False(t, os.Getenv("CI_REQUIRE_POSTGRES") == "1" && os.Getenv("CI_REQUIRE_REDIS") == "1", "CI_REQUIRE_… are set: %v", err)
		t.Skip(err)
	}
	return stacktest.Start(t, stack.Options{Set: set, Apps: []string{}})
}

var sets = []string{stack.SetEmbedded, stack.SetNATS, stack.SetRedis}

func TestBroker_PublishesReadsAndRemoves(t *testing.T) {
	for _, set := range sets {
		t.Run(set, func(t *testing.T) {
			b, err := broker.Open(servers(t, set).Broker())
			require.NoError(t, err)
			defer b.Close()
			const many = 250
			text := strings.Repeat("é\r\n$-1", 200)

			state, err := b.State(t.Context())
			require.NoError(t, err)
			require.Equal(t, broker.State{Complete: true}, state)
			for range many {
				require.NoError(t, b.Publish(t.Context(), "events.orders", []byte(text)))
			}
			all, err := b.Events(t.Context(), "")
			require.NoError(t, err)
			require.Len(t, all, many)
			require.Equal(t, text, string(all[7].Data))
			rest, err := b.Events(t.Context(), all[many-4].Place)
			require.NoError(t, err)
			require.Equal(t, all[many-3:], rest)

			require.NoError(t, b.Remove(t.Context(), all[many-2]))
			rest, err = b.Events(t.Context(), all[many-4].Place)
			require.NoError(t, err)
			require.Equal(t, []broker.Message{all[many-3], all[many-1]}, rest)
			rest, err = b.Events(t.Context(), all[many-1].Place)
			require.NoError(t, err)
			require.Empty(t, rest)
			state, err = b.State(t.Context())
			require.NoError(t, err)
			require.Equal(t, all[many-1].Place, state.Last)
			require.EqualValues(t, many-1, state.Messages)

			for _, topic := range []string{"events.tickets", "events.orders", "retry.orders", "dead.tickets"} {
				require.NoError(t, b.Publish(t.Context(), topic, []byte(topic)))
			}
			rest, err = b.Events(t.Context(), all[many-1].Place)
			require.NoError(t, err)
			require.Len(t, rest, 2)
			require.ElementsMatch(t, []string{"events.tickets", "events.orders"}, []string{rest[0].Topic, rest[1].Topic})
			last, err := b.Events(t.Context(), rest[0].Place)
			require.NoError(t, err)
			require.Equal(t, rest[1:], last)
			retries, err := b.Retries(t.Context())
			require.NoError(t, err)
			require.Len(t, retries, 1)
			require.Equal(t, "retry.orders", string(retries[0].Data))
			dead, err := b.DeadLetters(t.Context())
			require.NoError(t, err)
			require.Len(t, dead, 1)
			require.Equal(t, "dead.tickets", dead[0].Topic)
			state, err = b.State(t.Context())
			require.NoError(t, err)
			require.Equal(t, rest[1].Place, state.Last)
			require.EqualValues(t, 1, state.Dead)
		})
	}
}

func TestBroker_RequiresItsPasswordAndHasACertificate(t *testing.T) {
	for _, set := range sets[1:] {
		t.Run(set, func(t *testing.T) {
			right := servers(t, set).Broker()
			parsed, err := url.Parse(right.URL)
			require.NoError(t, err)

			parsed.User = url.UserPassword(parsed.User.Username(), "wrong")
			_, err = broker.Open(stack.BrokerAddress{URL: parsed.String(), Authority: right.Authority})
			require.Error(t, err, "a wrong password")
			parsed.User = nil
			_, err = broker.Open(stack.BrokerAddress{URL: parsed.String(), Authority: right.Authority})
			require.Error(t, err, "no password")
			_, err = broker.Open(stack.BrokerAddress{URL: right.URL})
			require.ErrorContains(t, err, "certificate", "an authority that is not trusted")
		})
	}
}
