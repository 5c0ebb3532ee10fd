package docker

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
)

// userFiles are where the users of the brokers stand, and the components whose scopes their rights follow from. To write
// them anew: UPDATE=1 go test ./deploy/docker -run TestBrokerUsers
var userFiles = []struct{ file, components string }{
	{"nats-users.conf", "components/nats"},
	{"redis-users.conf", "components/redis"},
	{"../k8s/infrastructure/nats/users.conf", "../../components/nats"},
	{"../k8s/infrastructure/redis/users.conf", "../../components/redis"},
}

func TestBrokerUsers_MayDoWhatTheScopesSayAndNoMore(t *testing.T) {
	const origin = "# The users of the broker, a service each, with the rights that follow from the scopes of the component pubsub. Written by\n" +
		"# UPDATE=1 go test ./deploy/docker -run TestBrokerUsers; passwords come from the environment.\n"
	for _, f := range userFiles {
		var want string
		if strings.Contains(f.components, "nats") {
			users, err := stack.NATSUsers(f.components)
			require.NoError(t, err)
			want = origin + "users: [\n    {user: \"admin\", password: $NATS_PASSWORD_ADMIN}\n" + users + "]\n"
		} else {
			users, err := stack.RedisUsers(f.components)
			require.NoError(t, err)
			want = origin + "user admin on >${REDIS_PASSWORD_ADMIN} ~* &* +@all\n" + users
		}
		if os.Getenv("UPDATE") != "" {
			require.NoError(t, os.WriteFile(f.file, []byte(want), 0o644))
		}
		got, err := os.ReadFile(f.file)
		require.NoError(t, err)
		require.Equal(t, want, string(got), "%s: UPDATE=1 go test ./deploy/docker -run TestBrokerUsers", f.file)
	}
}
