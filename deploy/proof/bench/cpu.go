package bench

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"boxoffice/deploy/local/stack"
)

// cpuReader reads the processor times of a stack's processes and of this one. The time of a process includes all its descendants,
// also those that have ended: PostgreSQL has one for each connection and more for its own work. On systems other than Linux
// all times are 0.
type cpuReader struct{ stack *stack.Stack }

// cpuTimes are processor times by process, with an app's replicas together. This process is "load".
type cpuTimes map[string]time.Duration

const self = "load"

// bareSidecar is the id of the sidecar without a service.
const bareSidecar = "bare"

// tick is the unit of /proc/PID/stat on every Linux that Go runs on.
const tick = time.Second / 100

func (r cpuReader) times() cpuTimes {
	times := cpuTimes{}
	if r.stack == nil {
		return times
	}
	all := readProcesses()
	times[self] = all[os.Getpid()].own // without its descendants, which are the stack
	for _, name := range r.stack.Processes() {
		times[withoutReplica(name)] += all.tree(r.stack.Process(name).PID())
	}
	return times
}

// withoutReplica is the name of a process without the number of its replica: orders-2-dapr is orders-dapr.
func withoutReplica(name string) string {
	parts := strings.Split(name, "-")
	return strings.Join(slices.DeleteFunc(parts, func(part string) bool { _, err := strconv.Atoi(part); return err == nil }), "-")
}

// processTimes are all processes of the machine, by number.
type processTimes map[int]processTime

type processTime struct {
	own      time.Duration
	ended    time.Duration // of children that have ended, with their descendants
	children []int
}

func readProcesses() processTimes {
	all := processTimes{}
	paths, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range paths {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		text, err := os.ReadFile(path)
		if err != nil {
			continue // the process has ended
		}
		// The second field is the command's name in parentheses, with any characters. See proc(5).
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(fields) < 15 {
			continue
		}
		number := func(i int) int { n, _ := strconv.Atoi(fields[i]); return n }
		process, parent := all[pid], all[number(1)]
		process.own = time.Duration(number(11)+number(12)) * tick
		process.ended = time.Duration(number(13)+number(14)) * tick
		all[pid] = process
		parent.children = append(parent.children, pid)
		all[number(1)] = parent
	}
	return all
}

// tree is the time of a process and its descendants.
func (p processTimes) tree(pid int) time.Duration {
	process := p[pid]
	sum := process.own + process.ended
	for _, child := range process.children {
		sum += p.tree(child)
	}
	return sum
}

func (t cpuTimes) since(before cpuTimes) cpuTimes {
	spent := cpuTimes{}
	for name, now := range t {
		spent[name] = now - before[name]
	}
	return spent
}

func (t cpuTimes) total() (sum time.Duration) {
	for _, spent := range t {
		sum += spent
	}
	return sum
}

// kinds are the groups of processes in the order of the output.
var kinds = []string{"services", "sidecars", "broker", "database", "rest", "load"}

func kindOf(process string) string {
	switch process {
	case self:
		return "load"
	case stack.NATS, stack.Redis:
		return "broker"
	case stack.Postgres:
		return "database"
	case stack.Placement, stack.Scheduler, stack.Sentry, stack.Sandbox, bareSidecar + "-dapr":
		return "rest"
	}
	if strings.HasSuffix(process, "-dapr") {
		return "sidecars"
	}
	return "services"
}

// perOperation describes the times as microseconds per operation: the sum, and by kind the processes, the largest first.
func (t cpuTimes) perOperation(operations int) string {
	micros := func(d time.Duration) int64 { return d.Microseconds() / int64(max(1, operations)) }
	parts := []string{}
	for _, kind := range kinds {
		processes := slices.Collect(maps.Keys(t))
		processes = slices.DeleteFunc(processes, func(name string) bool { return kindOf(name) != kind || micros(t[name]) == 0 })
		slices.SortFunc(processes, func(a, b string) int { return int(t[b] - t[a]) })
		var sum time.Duration
		var names []string
		for _, name := range processes {
			sum += t[name]
			names = append(names, fmt.Sprintf("%s %d", strings.TrimSuffix(name, "-dapr"), micros(t[name])))
		}
		switch {
		case len(processes) == 0:
		case kind == processes[0] || kind == "broker" || kind == "database":
			parts = append(parts, fmt.Sprintf("%s %d", kind, micros(sum)))
		default:
			parts = append(parts, fmt.Sprintf("%s %d (%s)", kind, micros(sum), strings.Join(names, ", ")))
		}
	}
	return fmt.Sprintf("%d: %s", micros(t.total()), strings.Join(parts, "; "))
}

// micros are the times in microseconds per operation by process, for the file of results.
func (t cpuTimes) micros(operations int) map[string]int64 {
	each := map[string]int64{"total": t.total().Microseconds() / int64(max(1, operations))}
	for name, spent := range t {
		if n := spent.Microseconds() / int64(max(1, operations)); n > 0 {
			each[name] = n
		}
	}
	return each
}
