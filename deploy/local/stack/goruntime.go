package stack

import (
	"runtime"
	"strconv"
)

// Settings of Go's runtime for every process of a stack. Twenty Go processes share the machine, and by default each behaves as if it
// were alone. deploy/README.md ("Settings of Go's runtime") has the measurements.
//
// The launcher's environment, the run file and the options override them.
const (
	// A process has 10 to 40 MB of live data. At Go's default of 100 the collector runs each time that as much has been allocated
	// again: several times a second under load.
	garbagePercent = "400"
	// garbagePercent applies only below this much memory. It is no limit for live data.
	memoryLimit = "384MiB"
)

// goSettings are the variables for the process of an app. For servers and sidecars app is "".
func goSettings(app string) map[string]string {
	settings := map[string]string{"GOGC": garbagePercent, "GOMEMLIMIT": memoryLimit}
	if app != hashing && app != searching {
		settings["GOMAXPROCS"] = strconv.Itoa(threads(runtime.NumCPU()))
	}
	return settings
}

// hashing is the app that hashes passwords. It may use all cores, because one hash uses a core for a twentieth of a second.
const hashing = "auth"

// searching is the app that keeps the shows in memory. It may use all cores too: with one thread, a search waits for others that take
// milliseconds, and for the collector, which marks hundreds of megabytes.
const searching = "catalogue"

// threads is how many threads of a process may run Go code at once. About four processes work on one change at the same time, so half
// of the cores is enough for each. With fewer threads the system spends less time waking them.
func threads(cores int) int { return max(1, cores/2) }
