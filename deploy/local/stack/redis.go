package stack

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

func redisProgram() string {
	path, _ := exec.LookPath("redis-server")
	return path
}

// redisConfig: a write is answered when it is on disk (appendfsync always), and Redis never deletes data to make room. No client
// can sign in as the default user. But Redis loads its own file as that user and skips what that user may not do: without
// these rights, a restart would lose the positions of consumer groups.
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

// redisUser is the line of a user. It may add to the streams of the topics that it publishes on, read those that it subscribes
// to, and nothing else. It takes two sets of rights ("selectors"): to read in a group is to write for Redis, and must not
// include adding.
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

func (p *plan) redisConfigPath() string { return filepath.Join(p.dataFolder(), "redis.conf") }

func (l *layout) redisFolder() string { return filepath.Join(l.dataFolder(), "redis") }

func (p *plan) redisConfig() string {
	var text strings.Builder
	fmt.Fprintf(&text, redisConfig, p.ports.Redis, p.certificates.Server, p.certificates.ServerKey, p.certificates.Authority, p.redisFolder(),
		administrator, p.passwords.of(Redis, administrator))
	for _, id := range p.appIDs() {
		text.WriteString(redisUser(id, p.passwords.of(Redis, id), p.set.rights[id]))
	}
	return text.String()
}

// redisReady sends a PING as the administrator. While Redis loads its data, it answers with an error.
func (s *Stack) redisReady(ctx context.Context) error {
	pool, err := authorities(s.plan.certificates.Authority)
	if err != nil {
		return err
	}
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: time.Second}, Config: &tls.Config{RootCAs: pool}}
	conn, err := dialer.DialContext(ctx, "tcp", local(s.plan.ports.Redis))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := fmt.Fprintf(conn, "AUTH %s %s\r\nPING\r\nQUIT\r\n", administrator, s.plan.passwords.of(Redis, administrator)); err != nil {
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
