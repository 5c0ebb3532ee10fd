// Package proof shows that the manifests in deploy/k8s hold, with nothing but a real API server: kustomize renders each
// overlay, the API server takes it, and Dapr's own control plane makes of each pod what it would make of it in a cluster.
// `make test-k8s` builds what is needed and runs it; without that, the tests are skipped. `make test-node` makes this machine
// a node besides, on which the pods run.
package proof
