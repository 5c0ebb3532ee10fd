package main

import (
	"fmt"
	"runtime/debug"
	"strings"
	_ "unsafe" // for go:linkname
)

// daprVersion is the version that Dapr's programs print, log and return in their metadata. Dapr's own build sets it with a
// linker flag, and without it Dapr's CLI turns reminders off. Here it comes from the module that was compiled in, so that no
// second copy of the number exists and every way of building has it.
//
//go:linkname daprVersion github.com/dapr/dapr/pkg/buildinfo.version
var daprVersion string

const daprModule = "github.com/dapr/dapr"

func init() {
	if version := moduleVersion(daprModule); version != "" {
		daprVersion = strings.TrimPrefix(version, "v")
	}
}

// moduleVersion returns "" for a module that is not in this binary.
func moduleVersion(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, module := range info.Deps {
		if module.Path == path {
			return module.Version
		}
	}
	return ""
}

func printVersions() {
	info, _ := debug.ReadBuildInfo()
	fmt.Println(info.GoVersion)
	for _, m := range info.Deps {
		if strings.HasPrefix(m.Path, "github.com/dapr/") || strings.HasPrefix(m.Path, "github.com/nats-io/nats-server") {
			fmt.Println(m.Path, m.Version)
		}
	}
}
