package stack

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
)

// Ports are the ports of a stack that are not in the run file.
type Ports struct {
	NATS, NATSMonitor                         int
	Postgres, Redis                           int
	Placement, PlacementHealth, PlacementRaft int
	Scheduler, SchedulerHealth                int
	Sentry, SentryHealth                      int
	Sandbox                                   int
}

// DefaultPorts are the ports in the component files and in the run file's sandbox address. Those of Dapr's control plane are below the
// range of outgoing connections, which often have 50001, 50005 or 50006, the ports of Dapr's CLI.
func DefaultPorts() Ports {
	return Ports{
		NATS: 4222, NATSMonitor: 8290, // NATS' usual 8222 is the port of a replica
		Postgres: 15432, Redis: 16379, // not the ports of servers that the system starts
		Placement: 3850, PlacementHealth: 3851, PlacementRaft: 3852,
		Scheduler: 3860, SchedulerHealth: 3861,
		Sentry: 3870, SentryHealth: 3871,
		Sandbox: 12112,
	}
}

// DaprPorts are DefaultPorts with sentry, placement and scheduler on the ports of Dapr's CLI.
func DaprPorts() Ports {
	ports := DefaultPorts()
	ports.Sentry, ports.Placement, ports.Scheduler = 50001, 50005, 50006
	return ports
}

func (p *Ports) all() []*int {
	var ports []*int
	for _, flag := range p.Flags() {
		ports = append(ports, flag.Port)
	}
	return ports
}

// Flag is the launcher's flag that sets one of the ports.
type Flag struct {
	Name, What string
	Port       *int
	process    string
}

// Flags are the launcher's flags for p.
func (p *Ports) Flags() []Flag {
	return []Flag{
		{"nats-port", "NATS", &p.NATS, NATS},
		{"nats-monitor-port", "NATS, monitoring", &p.NATSMonitor, NATS},
		{"postgres-port", "PostgreSQL", &p.Postgres, Postgres},
		{"redis-port", "Redis", &p.Redis, Redis},
		{"placement-port", "Dapr placement", &p.Placement, Placement},
		{"placement-health-port", "Dapr placement, health", &p.PlacementHealth, Placement},
		{"placement-raft-port", "Dapr placement, raft", &p.PlacementRaft, Placement},
		{"scheduler-port", "Dapr scheduler", &p.Scheduler, Scheduler},
		{"scheduler-health-port", "Dapr scheduler, health", &p.SchedulerHealth, Scheduler},
		{"sentry-port", "Dapr sentry", &p.Sentry, Sentry},
		{"sentry-health-port", "Dapr sentry, health", &p.SentryHealth, Sentry},
		{"sandbox-port", "Stripe sandbox", &p.Sandbox, Sandbox},
	}
}

// of is the port of a server.
func (p *Ports) of(server string) int {
	return map[string]int{NATS: p.NATS, Postgres: p.Postgres, Redis: p.Redis}[server]
}

func (p *Ports) uses(process string) []portUse {
	var uses []portUse
	for _, flag := range p.Flags() {
		if flag.process == process {
			uses = append(uses, portUse{*flag.Port, flag.What, "it with -" + flag.Name})
		}
	}
	return uses
}

// TakenError names ports on which another program listens, and for each the setting that changes it.
type TakenError struct{ Taken []string }

// takenShown is how many ports the message of a TakenError names. If more are taken, another stack runs.
const takenShown = 3

func (e *TakenError) Error() string {
	text := "taken already:\n  " + strings.Join(e.Taken[:min(takenShown, len(e.Taken))], "\n  ")
	if more := len(e.Taken) - takenShown; more > 0 {
		text += fmt.Sprintf("\nand %d more ports. Probably another stack runs, of another folder or in containers: stop that one first", more)
	}
	return text
}

// portUse is a port on which the stack will listen.
type portUse struct {
	port    int
	what    string
	setting string // where to change it
}

func checkPorts(uses []portUse) error {
	var taken TakenError
	seen := map[int]string{}
	for _, use := range uses {
		if other, twice := seen[use.port]; twice {
			taken.Taken = append(taken.Taken, fmt.Sprintf("port %d (%s) by %s of this same stack; change %s", use.port, use.what, other, use.setting))
			continue
		}
		seen[use.port] = use.what
		if !portFree(use.port) {
			taken.Taken = append(taken.Taken, fmt.Sprintf("port %d (%s); stop the program that listens there, or change %s", use.port, use.what, use.setting))
		}
	}
	if len(taken.Taken) > 0 {
		return &taken
	}
	return nil
}

// portFree reports whether nothing listens on a port. It tries both the loopback interface and all interfaces, because some systems
// allow a port to be bound on both.
func portFree(port int) bool {
	for _, host := range []string{"127.0.0.1", ""} {
		listener, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			return false
		}
		_ = listener.Close()
	}
	return true
}

// Free ports are reserved in blocks, by locks on files, so that the stacks of several test processes never choose the same port. The
// range is below the ports of outgoing connections.
const (
	blockSize  = 64
	firstPort  = 20032
	blockCount = 180
)

// freePorts gives free ports. After an error it gives 0, and err is the first error.
type freePorts struct {
	next func() (int, error)
	err  error
}

func (f *freePorts) take() int {
	if f.err != nil {
		return 0
	}
	var port int
	port, f.err = f.next()
	return port
}

type portBlocks struct {
	locks []*os.File
	ports []int
}

// next returns a port that is free, and that no other stack chooses before release.
func (b *portBlocks) next() (int, error) {
	for {
		for len(b.ports) > 0 {
			port := b.ports[0]
			b.ports = b.ports[1:]
			if portFree(port) {
				return port, nil
			}
		}
		if err := b.reserve(); err != nil {
			return 0, err
		}
	}
}

func (b *portBlocks) reserve() error {
	dir := filepath.Join(os.TempDir(), "boxoffice-ports-"+strconv.Itoa(os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, block := range rand.Perm(blockCount) {
		lock, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(block)), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return err
		}
		if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			_ = lock.Close()
			continue
		}
		b.locks = append(b.locks, lock)
		for i := range blockSize {
			b.ports = append(b.ports, firstPort+block*blockSize+i)
		}
		return nil
	}
	return errors.New("no block of free ports is left")
}

func (b *portBlocks) release() {
	for _, lock := range b.locks {
		_ = lock.Close()
	}
	b.locks, b.ports = nil, nil
}

// moves maps the ports of the run file to those of a stack.
type moves map[int]int

var localAddress = regexp.MustCompile(`\b(localhost|127\.0\.0\.1):(\d+)\b`)

// in replaces the ports in the addresses of this machine that a text contains.
func (m moves) in(text string) string {
	return localAddress.ReplaceAllStringFunc(text, func(address string) string {
		host, port, _ := strings.Cut(address, ":")
		number, _ := strconv.Atoi(port)
		if to, moved := m[number]; moved {
			return host + ":" + strconv.Itoa(to)
		}
		return address
	})
}
