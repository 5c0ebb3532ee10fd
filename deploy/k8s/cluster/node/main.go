// Command node is what a cluster needs besides its API server for pods to run, in one binary:
//
//	node kubelet …                  runs pods, by a container runtime
//	node kube-controller-manager …  makes pods of Deployments, StatefulSets and Jobs
//	node kube-scheduler …           gives pods to nodes
//	node kube-proxy …               leads the addresses of Services to pods
//	node dns …                      gives Services their names
//
// But for dns, which is our own (dns.go), the flags after the name are those of the original program. As the API server it is for tests alone.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/component-base/cli"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

const usage = "usage: node kubelet|kube-controller-manager|kube-scheduler|kube-proxy|dns [flags of that program]"

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	program := os.Args[1]
	os.Args = append([]string{filepath.Base(program)}, os.Args[2:]...)
	switch program {
	case "kubelet":
		os.Exit(cli.Run(kubelet.NewKubeletCommand(context.Background())))
	case "kube-controller-manager":
		os.Exit(cli.Run(controllers.NewControllerManagerCommand()))
	case "kube-scheduler":
		os.Exit(cli.Run(scheduler.NewSchedulerCommand()))
	case "kube-proxy":
		os.Exit(cli.Run(proxy.NewProxyCommand()))
	case "dns":
		if err := serveDNS(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	default:
		fmt.Fprintf(os.Stderr, "no program %q in this binary; %s\n", program, usage)
		os.Exit(2)
	}
}
