package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"boxoffice/deploy/local/stack"
)

// cpuWatch reads how much processor time each process of a stack has had, and this one. Where the system does
// not tell (it is not Linux), all times are 0.
type cpuWatch struct{ stack *stack.Stack }

// cpuTimes are processor times by process; this process is called "load".
type cpuTimes map[string]time.Duration

const self = "load"

// tick is the unit of /proc/PID/stat on every Linux that Go runs on.
const tick = time.Second / 100

func (w cpuWatch) times() cpuTimes {
	times := cpuTimes{self: cpuTime(os.Getpid())}
	if w.stack != nil {
		for _, name := range w.stack.Processes() {
			times[name] = cpuTime(w.stack.Process(name).PID())
		}
	}
	return times
}

func cpuTime(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The second field is the command's name in parentheses, and may hold anything.
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * tick
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

// each describes the times as microseconds per operation, the greatest first.
func (t cpuTimes) each(operations int) string {
	names := make([]string, 0, len(t))
	for name := range t {
		if t[name]/time.Duration(max(1, operations)) >= time.Microsecond {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return int(t[b] - t[a]) })
	parts := make([]string, len(names))
	for i, name := range names {
		parts[i] = fmt.Sprintf("%s %d", name, t[name].Microseconds()/int64(max(1, operations)))
	}
	return strings.Join(parts, ", ")
}
