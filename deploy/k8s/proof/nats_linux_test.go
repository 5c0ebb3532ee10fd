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
	token, err := os.ReadFile(filepath.Join(dev, "nats-token"))
	require.NoError(t, err)
	env = []string{"NATS_TOKEN=" + string(token), "SSL_CERT_FILE=" + filepath.Join(dev, "ca.crt")}

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
			}

			stranger, err := start("stranger", t.TempDir(), []string{env[1], "NATS_TOKEN=guess"}, built("runtime"), "nats-streams", "--server="+clients[0], "--wait=2s")
			require.NoError(t, err)
			<-stranger.done
			require.Contains(t, stranger.lastLines(), "Authorization Violation")
		})
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
