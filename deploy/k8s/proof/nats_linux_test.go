package proof

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
)

// natsServers runs an overlay's servers of NATS from the files that they get in the cluster, each with a folder and ports
// of its own on this machine. It returns their addresses for clients and for monitoring.
func natsServers(t *testing.T, m manifests) (clients, monitors []string, env []string) {
	t.Helper()
	set := m.get(t, "StatefulSet", "nats")
	n := int(set.at("spec", "replicas").(float64))
	config := set.list("spec", "template", "spec", "volumes")
	files := m.get(t, "ConfigMap", named(config, "config").text("configMap", "name")).in("data")
	require.NotEmpty(t, files)
	dev, err := filepath.Abs("../overlays/dev/secrets")
	require.NoError(t, err)
	env = []string{"SSL_CERT_FILE=" + filepath.Join(dev, "ca.crt")}
	for _, user := range append([]string{"admin"}, keepers...) {
		password, err := os.ReadFile(filepath.Join(dev, "nats-"+user))
		require.NoError(t, err)
		env = append(env, "NATS_PASSWORD_"+strings.ToUpper(strings.ReplaceAll(user, "-", "_"))+"="+string(password))
	}
	for _, name := range []string{"MAX_FILE_STORE"} {
		env = append(env, name+"="+named(set.list("spec", "template", "spec", "containers")[0].list("env"), name).text("value"))
	}

	ports, err := freePorts(3 * n)
	require.NoError(t, err)
	var servers []*process
	for i := range n {
		dir := t.TempDir()
		moves := []string{
			"0.0.0.0:4222", fmt.Sprintf("127.0.0.1:%d", ports[3*i]), "0.0.0.0:8222", fmt.Sprintf("127.0.0.1:%d", ports[3*i+1]),
			"0.0.0.0:6222", fmt.Sprintf("127.0.0.1:%d", ports[3*i+2]), "store_dir: /data", "store_dir: " + dir,
			"/etc/nats-tls/tls.crt", filepath.Join(dev, "nats.crt"), "/etc/nats-tls/tls.key", filepath.Join(dev, "nats.key"),
			"/etc/nats-tls/ca.crt", filepath.Join(dev, "ca.crt"),
		}
		for other := range n {
			moves = append(moves, fmt.Sprintf("nats-%d.nats-servers:6222", other), fmt.Sprintf("localhost:%d", ports[3*other+2]))
		}
		for name, text := range files {
			moved := strings.NewReplacer(moves...).Replace(text.(string))
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(moved), 0o600))
		}
		command := named(set.list("spec", "template", "spec", "containers"), "nats").texts("command")
		require.Equal(t, []string{"/nats-server", "--config", "/etc/nats/nats.conf"}, command)
		// The name under which the image has the runtime.
		server := filepath.Join(dir, "nats-server")
		runtime, err := filepath.Abs(built("runtime"))
		require.NoError(t, err)
		require.NoError(t, os.Symlink(runtime, server))
		p, err := start(fmt.Sprintf("nats-%d", i), dir, append(env, fmt.Sprintf("POD_NAME=nats-%d", i)), server, "--config", filepath.Join(dir, "nats.conf"))
		require.NoError(t, err)
		t.Cleanup(p.stop)
		servers = append(servers, p)
		clients = append(clients, fmt.Sprintf("tls://localhost:%d", ports[3*i]))
		monitors = append(monitors, fmt.Sprintf("http://127.0.0.1:%d", ports[3*i+1]))
	}
	probe := named(set.list("spec", "template", "spec", "containers"), "nats").text("readinessProbe", "httpGet", "path")
	for i, p := range servers {
		require.NoError(t, p.waitFor(time.Minute, answers(monitors[i]+probe, "")))
	}
	return clients, monitors, env
}

func TestNATS_TheJobMakesTheStreamsOnAllServers(t *testing.T) {
	for _, overlay := range []string{"dev", "production"} {
		t.Run(overlay, func(t *testing.T) {
			needs(t, "runtime")
			m := render(t, overlay)
			clients, monitors, env := natsServers(t, m)
			job := m.get(t, "Job", "nats-streams").list("spec", "template", "spec", "containers")[0]
			require.Equal(t, []string{"/nats-streams"}, job.texts("command"))
			require.Equal(t, "admin", named(job.list("env"), "NATS_USER").text("value"))
			admin, err := os.ReadFile("../overlays/dev/secrets/nats-admin")
			require.NoError(t, err)
			env = append(env, "NATS_USER=admin", "NATS_PASSWORD="+string(admin))
			args := []string{built("runtime"), "nats-streams"}
			for _, arg := range job.texts("args") {
				args = append(args, strings.Replace(arg, "tls://nats:4222", clients[len(clients)-1], 1))
			}
			for range 2 { // a second run finds all done
				p, err := start("nats-streams", t.TempDir(), env, args...)
				require.NoError(t, err)
				<-p.done
				require.NoError(t, p.err, p.lastLines())
			}
			for name, want := range map[string]struct {
				days       int
				duplicates time.Duration
				subjects   []string
			}{
				"events": {7, 2 * time.Minute, []string{"events", "events.>"}},
				"dead":   {30, 100 * time.Millisecond, []string{"dead.>"}},
				"retry":  {30, 100 * time.Millisecond, []string{"retry.>"}},
			} {
				config := streamConfig(t, monitors, name)
				require.EqualValues(t, len(clients), config["num_replicas"])
				require.Equal(t, "file", config["storage"])
				require.EqualValues(t, time.Duration(want.days)*24*time.Hour, config["max_age"])
				require.EqualValues(t, want.duplicates, config["duplicate_window"])
				require.Equal(t, want.subjects, config.texts("subjects"))
				require.Equal(t, "new", config["discard"], "a full stream refuses, and forgets nothing")
				require.Greater(t, config["max_bytes"], 30e6)
			}
			onlyItsOwn(t, clients[0])

			stranger, err := start("stranger", t.TempDir(), []string{env[0], "NATS_USER=admin", "NATS_PASSWORD=guess"}, built("runtime"), "nats-streams", "--server="+clients[0], "--wait=2s")
			require.NoError(t, err)
			<-stranger.done
			require.Contains(t, stranger.lastLines(), "Authorization Violation")
		})
	}
}

// onlyItsOwn shows that a service's user publishes what is the service's, and nothing else.
func onlyItsOwn(t *testing.T, server string) {
	t.Helper()
	password, err := os.ReadFile("../overlays/dev/secrets/nats-tickets")
	require.NoError(t, err)
	refused := make(chan error, 10)
	conn, err := nats.Connect(server, nats.UserInfo("tickets", string(password)), nats.RootCAs("../overlays/dev/secrets/ca.crt"),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Request("events.tickets", []byte("{}"), 5*time.Second)
	require.NoError(t, err, "the stream answers")
	for _, subject := range []string{"events.payments", "events.orders", "dead.orders", "retry.tickets", "$JS.API.STREAM.PURGE.events", "$JS.API.STREAM.DELETE.events", "$JS.API.CONSUMER.DELETE.events.orders-events-tickets"} {
		require.NoError(t, conn.Publish(subject, []byte("{}")))
		require.NoError(t, conn.Flush())
		select {
		case err := <-refused:
			require.ErrorContains(t, err, subject)
		case <-time.After(5 * time.Second):
			t.Fatalf("tickets may publish on %s", subject)
		}
	}
}

// streamConfig asks the servers for a stream's configuration; in a cluster not each of them has to know it at once.
func streamConfig(t *testing.T, monitors []string, name string) object {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		for _, monitor := range monitors {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, monitor+"/jsz?streams=true&config=true", nil)
			require.NoError(t, err)
			res, err := insecure.Do(req)
			if err != nil {
				continue
			}
			var answer object
			err = json.NewDecoder(res.Body).Decode(&answer)
			_ = res.Body.Close()
			require.NoError(t, err)
			for _, account := range answer.list("account_details") {
				if stream := named(account.list("stream_detail"), name); stream != nil {
					return stream.in("config")
				}
			}
		}
	}
	t.Fatalf("no server knows the stream %s", name)
	return nil
}
