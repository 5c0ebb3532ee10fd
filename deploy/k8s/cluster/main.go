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
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"

	"boxoffice/deploy/k8s/cluster/program"
)

func main() {
	program.Main("cluster", map[string]func() int{
		"etcd":           func() int { etcdmain.Main(os.Args); return 0 },
		"kube-apiserver": func() int { return cli.Run(apiserver.NewAPIServerCommand()) },
		"kubectl":        func() int { return cli.Run(kubectl.NewDefaultKubectlCommand()) },
	})
}
