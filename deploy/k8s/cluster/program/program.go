// Package program lets one binary be several programs, by the first of its arguments.
package program

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Main becomes the program that the first argument names, one of all by name, with the arguments after it as if it had been
// called by that name, and ends with what it returns. Without such a name it lists the programs and ends with 2.
func Main(binary string, all map[string]func() (exitCode int)) {
	usage := fmt.Sprintf("usage: %s %s [flags of that program]", binary, strings.Join(slices.Sorted(maps.Keys(all)), "|"))
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	name := os.Args[1]
	run, known := all[name]
	if !known {
		fmt.Fprintf(os.Stderr, "no program %q in this binary; %s\n", name, usage)
		os.Exit(2)
	}
	os.Args = append([]string{filepath.Base(name)}, os.Args[2:]...) // each program reads its flags from os.Args
	os.Exit(run())
}
