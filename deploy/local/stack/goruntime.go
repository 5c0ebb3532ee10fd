package stack

import (
	"runtime"
	"strconv"
)

// Settings of Go's runtime for every process that the stack starts. Twenty processes of Go share the machine, and
// by default each behaves as if it were alone. deploy/README.md ("Settings of Go's runtime") has the measurements.
//
// A variable that whoever starts the stack has in the environment wins, and so do the run file and the options.
const (
	// A process's live data is 10 to 40 MB. At Go's default of 100 the collector runs whenever that has been allocated
	// again: several times a second under load.
	garbagePercent = "400"
	// The collector is as lazy as garbagePercent allows only below this much memory. It is no limit for data that is alive.
	memoryLimit = "384MiB"
)

// goSettings are the variables for a process, by the app that it runs or stands beside ("" for servers).
func goSettings(app string) map[string]string {
	settings := map[string]string{"GOGC": garbagePercent, "GOMEMLIMIT": memoryLimit}
	if app != hashing {
		settings["GOMAXPROCS"] = strconv.Itoa(threads(runtime.NumCPU()))
	}
	return settings
}

// hashing is the app that hashes passwords: it may have all cores, for a hash takes one for a twentieth of a second.
const hashing = "auth"

// threads is how many threads of a process may run Go's code at once. A change passes through about four processes that
// work at the same time, so half of the cores is enough for each; with fewer threads, less time goes into waking them.
func threads(cores int) int { return max(1, cores/2) }
