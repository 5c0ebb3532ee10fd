package event

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestNew_IdentityIsTypeAggregateAndVersion(t *testing.T) {
	e := Order{ID: "an-order", Version: 2}.Event("order.cancelled")

	require.Equal(t, "order.cancelled:an-order:2", e.ID)
	require.Equal(t, "/orders", e.Source)
	require.Equal(t, "an-order", e.Subject)
	require.Equal(t, "urn:boxoffice:order.cancelled:1", e.DataSchema)
}

func TestNew_SchemaIsThatOfTheAggregate(t *testing.T) {
	require.Equal(t, "urn:boxoffice:user.created:2", User{ID: "a-user", Version: 1}.Event("user.created").DataSchema)
	require.Equal(t, "urn:boxoffice:expiration.complete:2", Expiration("1.0", 1).DataSchema)
}

func TestRead_ReadsWhatJSONWrites(t *testing.T) {
	written := Expiration("1.0", 1, ExpiredOrder{ID: "an-order", ExpiresAt: time.Unix(1, 0).UTC()})

	read, err := Read(written.JSON())

	require.NoError(t, err)
	require.Equal(t, written, read)
}

func TestTopic_IsThatOfTheAggregate(t *testing.T) {
	require.Equal(t, "events.orders", Topic("order.created"))
	require.Equal(t, "events.expirations", Topic("expiration.complete"))
	require.Empty(t, Topic("nonsense"))
	require.Empty(t, Topic(".created"))
}
