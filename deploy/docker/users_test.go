package docker

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
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

func TestBrokerUsers_HaveTheRightsOfTheScopesAndNoMore(t *testing.T) {
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
			want = origin + "# Nobody is the default user; but in its name Redis reads its own file again, and without these rights a restart would forget\n" +
				"# what groups have read.\nuser default off resetpass ~* &* +@all\n" + "user admin on >${REDIS_PASSWORD_ADMIN} ~* &* +@all\n" + users
		}
		if os.Getenv("UPDATE") != "" {
			require.NoError(t, os.WriteFile(f.file, []byte(want), 0o644))
		}
		got, err := os.ReadFile(f.file)
		require.NoError(t, err)
		require.Equal(t, want, string(got), "%s: UPDATE=1 go test ./deploy/docker -run TestBrokerUsers", f.file)
	}
}

// The command of the container, run here: passwords stand where their variables stood, and nobody is anybody without one.
func TestCompose_RedisKnowsEachService(t *testing.T) {
	redis, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("redis-server is not installed")
	}
	var compose composeFile
	read(t, "../../docker-compose.yaml", &compose)
	command := compose.Services["redis"].Command
	require.Equal(t, []string{"sh", "-c"}, command[:2])
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
	require.NoError(t, listener.Close())
	folder := t.TempDir()
	users, err := filepath.Abs("redis-users.conf")
	require.NoError(t, err)
	script := strings.NewReplacer("$$", "$", "/etc/redis/users.conf", users, "/run/redis/", folder+"/", "exec redis-server",
		"exec "+redis+" --bind 127.0.0.1 --port "+port+" --dir "+folder).Replace(command[2])
	server := exec.Command("sh", "-c", script)
	server.Env = os.Environ()
	for name := range compose.Services["redis"].Environment {
		server.Env = append(server.Env, name+"=p-"+name)
	}
	require.NoError(t, server.Start())
	t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	cli := func(args ...string) string {
		out, _ := exec.Command("redis-cli", append([]string{"-p", port, "--no-auth-warning"}, args...)...).CombinedOutput()
		return string(out)
	}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		assert.Equal(c, "PONG\n", cli("--user", "admin", "--pass", "p-REDIS_PASSWORD_ADMIN", "ping"))
	}, 20*time.Second, 50*time.Millisecond)
	orders := []string{"--user", "orders", "--pass", "p-REDIS_PASSWORD_ORDERS"}
	require.Regexp(t, `^\d+-\d+`, cli(append(orders, "xadd", "events.orders", "*", "data", "{}")...))
	require.Contains(t, cli(append(orders, "xadd", "events.payments", "*", "data", "{}")...), "NOPERM")
	require.Contains(t, cli("--user", "payments", "--pass", "p-REDIS_PASSWORD_ORDERS", "ping"), "WRONGPASS")
	require.Contains(t, cli("ping"), "NOAUTH")
}
