// Command node is what a cluster needs besides its API server for pods to run, in one binary:
//
//	node kubelet …                  runs pods, by a container runtime
//	node kube-controller-manager …  makes pods of Deployments, StatefulSets and Jobs
//	node kube-scheduler …           gives pods to nodes
//	node kube-proxy …               leads the addresses of Services to pods
//	node dns …                      gives Services their names
//
// But for dns, which is our own (dns.go), the flags after the name are those of the original program. As the API server it
// is for tests alone.
package main

import (
	"context"
	"fmt"
	"os"

	"k8s.io/component-base/cli"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"

	"boxoffice/deploy/k8s/cluster/program"
)

func main() {
	program.Main("node", map[string]func() int{
		"kubelet":                 func() int { return cli.Run(kubelet.NewKubeletCommand(context.Background())) },
		"kube-controller-manager": func() int { return cli.Run(controllers.NewControllerManagerCommand()) },
		"kube-scheduler":          func() int { return cli.Run(scheduler.NewSchedulerCommand()) },
		"kube-proxy":              func() int { return cli.Run(proxy.NewProxyCommand()) },
		"dns": func() int {
			fmt.Fprintln(os.Stderr, serveDNS(os.Args[1:]))
			return 1
		},
	})
}
