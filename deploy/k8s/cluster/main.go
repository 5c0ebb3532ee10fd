// Command cluster is what the manifests are proved with where there is no cluster, in one binary:
//
//	cluster etcd …            etcd, as the API server's store
//	cluster kube-apiserver …  the Kubernetes API server
//	cluster kubectl …         kubectl, with kustomize in it
//
// The flags after the name are those of the original program. It is built from Go modules, and only for tests: nothing
// of it is shipped.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
)

const usage = "usage: cluster etcd|kube-apiserver|kubectl [flags of that program]"

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	program := os.Args[1]
	os.Args = append([]string{filepath.Base(program)}, os.Args[2:]...)
	switch program {
	case "etcd":
		etcdmain.Main(os.Args)
	case "kube-apiserver":
		os.Exit(cli.Run(apiserver.NewAPIServerCommand()))
	case "kubectl":
		os.Exit(cli.Run(kubectl.NewDefaultKubectlCommand()))
	default:
		fmt.Fprintf(os.Stderr, "no program %q in this binary; %s\n", program, usage)
		os.Exit(2)
	}
}
