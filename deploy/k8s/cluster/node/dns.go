package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/clientcmd"
)

// names answers what pods ask: the addresses of Services, of the pods behind those that have none, and of single pods of
// a StatefulSet. Whatever else there is in the world does not exist.
type names struct {
	services  corelisters.ServiceLister
	endpoints discoverylisters.EndpointSliceLister
}

// zone follows the name and the namespace of a Service.
const zone = ".svc.cluster.local."

func serveDNS(args []string) error {
	flags := flag.NewFlagSet("dns", flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "how to ask the API server")
	listen := flags.String("listen", "127.0.0.1:53", "address to listen on")
	if err := flags.Parse(args); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	watch := informers.NewSharedInformerFactory(client, time.Hour)
	n := names{watch.Core().V1().Services().Lister(), watch.Discovery().V1().EndpointSlices().Lister()}
	watch.Start(context.Background().Done())
	for kind, synced := range watch.WaitForCacheSync(context.Background().Done()) {
		if !synced {
			return fmt.Errorf("no %v", kind)
		}
	}
	conn, err := net.ListenPacket("udp", *listen)
	if err != nil {
		return err
	}
	question := make([]byte, 4096)
	for {
		size, from, err := conn.ReadFrom(question)
		if err != nil {
			return err
		}
		if answer, err := n.answer(question[:size]); err != nil {
			slog.Warn("a question that is none", "from", from, "error", err)
		} else if _, err := conn.WriteTo(answer, from); err != nil {
			slog.Warn("no answer", "to", from, "error", err)
		}
	}
}

func (n names) answer(message []byte) ([]byte, error) {
	var parser dnsmessage.Parser
	header, err := parser.Start(message)
	if err != nil {
		return nil, err
	}
	question, err := parser.Question()
	if err != nil {
		return nil, err
	}
	addresses, found := n.lookup(strings.ToLower(question.Name.String()))
	answer := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: header.ID, Response: true, Authoritative: true, RecursionDesired: header.RecursionDesired, RecursionAvailable: true},
		Questions: []dnsmessage.Question{question},
	}
	if !found {
		answer.RCode = dnsmessage.RCodeNameError
	}
	if question.Type == dnsmessage.TypeA {
		for _, address := range addresses {
			answer.Answers = append(answer.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: question.Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET, TTL: 1},
				Body:   &dnsmessage.AResource{A: address.As4()},
			})
		}
	}
	return answer.Pack()
}

// lookup finds SERVICE.NAMESPACE.svc.cluster.local and POD.SERVICE.NAMESPACE.svc.cluster.local.
func (n names) lookup(name string) (addresses []netip.Addr, found bool) {
	name, inZone := strings.CutSuffix(name, zone)
	parts := strings.Split(name, ".")
	if !inZone || len(parts) < 2 || len(parts) > 3 {
		return nil, false
	}
	host := strings.Join(parts[:len(parts)-2], ".")
	namespace, service := parts[len(parts)-1], parts[len(parts)-2]
	s, err := n.services.Services(namespace).Get(service)
	if err != nil {
		return nil, false
	}
	if s.Spec.ClusterIP != core.ClusterIPNone {
		address, err := netip.ParseAddr(s.Spec.ClusterIP)
		return []netip.Addr{address}, err == nil && host == ""
	}
	slices, err := n.endpoints.EndpointSlices(namespace).List(labels.SelectorFromSet(labels.Set{discovery.LabelServiceName: service}))
	if err != nil {
		return nil, false
	}
	for _, slice := range slices {
		for _, endpoint := range slice.Endpoints {
			if endpoint.Conditions.Ready != nil && !*endpoint.Conditions.Ready {
				continue
			}
			if host != "" && (endpoint.Hostname == nil || *endpoint.Hostname != host) {
				continue
			}
			for _, text := range endpoint.Addresses {
				if address, err := netip.ParseAddr(text); err == nil && address.Is4() {
					addresses = append(addresses, address)
				}
			}
		}
	}
	return addresses, len(addresses) > 0
}
