package stack

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

func redisProgram() string {
	path, _ := exec.LookPath("redis-server")
	return path
}

// redisConfig: an answer means that it is on disk (appendfsync always), and nothing is ever thrown away to make room. Nobody
// can be the default user; but in its name Redis reads its own file again, and what it may not do it leaves out: without
// these rights, a restart would forget what groups have read.
const redisConfig = `# Written at each start.
bind 127.0.0.1
port 0
tls-port %d
tls-cert-file %q
tls-key-file %q
tls-ca-cert-file %q
tls-auth-clients no
dir %q
appendonly yes
appendfsync always
save ""
maxmemory-policy noeviction
user default off resetpass ~* &* +@all
user %s on >%s ~* &* +@all
`

// redisUser may add to the streams of the topics that it publishes on, read those that it subscribes to, and nothing else:
// two sets of rights ("selectors"), for reading in a group is a kind of writing, and must not include adding.
func redisUser(id, password string, may rights) string {
	text := fmt.Sprintf("user %s on >%s resetkeys -@all +@connection -@dangerous +info", id, password)
	selector := func(topics []string, commands string) {
		if len(topics) > 0 {
			text += " (~" + strings.Join(topics, " ~") + " -@all " + commands + ")"
		}
	}
	selector(may.publish, "+xadd")
	selector(may.subscribe, "+xgroup|create +xreadgroup +xack +xpending +xclaim")
	return text + "\n"
}

func (s *Stack) redisArgs() ([]string, error) {
	folder := filepath.Join(s.data, "redis")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	var text strings.Builder
	fmt.Fprintf(&text, redisConfig, s.ports.Redis, s.certificates.Server, s.certificates.ServerKey, s.certificates.Authority, folder,
		administrator, s.passwords.of(Redis, administrator))
	scopes, err := readScopes(s.components)
	if err != nil {
		return nil, err
	}
	for _, id := range s.appIDs() {
		text.WriteString(redisUser(id, s.passwords.of(Redis, id), scopes[id]))
	}
	path := filepath.Join(s.data, "redis.conf")
	return []string{redisProgram(), path}, os.WriteFile(path, []byte(text.String()), 0o600)
}

// redisReady asks it as the administrator: while it reads what is on disk it refuses to answer.
func (s *Stack) redisReady(ctx context.Context) error {
	pool, err := authorities(s.certificates.Authority)
	if err != nil {
		return err
	}
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: time.Second}, Config: &tls.Config{RootCAs: pool}}
	conn, err := dialer.DialContext(ctx, "tcp", local(s.ports.Redis))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := fmt.Fprintf(conn, "AUTH %s %s\r\nPING\r\nQUIT\r\n", administrator, s.passwords.of(Redis, administrator)); err != nil {
		return err
	}
	answer := make([]byte, 512)
	var text string
	for {
		n, err := conn.Read(answer)
		text += string(answer[:n])
		if strings.Contains(text, "+PONG") {
			return nil
		}
		if err != nil {
			return fmt.Errorf("it answers %q", text)
		}
	}
}
