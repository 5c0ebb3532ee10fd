package proof

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"
)

var (
	overlays = []string{"dev", "staging", "production"}
	// withRedis is no overlay, but as one: Redis in NATS's place.
	withRedis = "../proof/testdata/redis"
	// withTLS is dev, with TLS between the gateway and the services.
	withTLS = "../proof/testdata/tls"
	// services are the apps of dapr.yaml.
	services = readServices()
	// keepers have a database, and a user at the broker.
	keepers = slices.DeleteFunc(slices.Clone(services), func(id string) bool { return id == "gateway" })
)

func readServices() (ids []string) {
	text, err := os.ReadFile("../../../dapr.yaml")
	if err != nil {
		panic(err)
	}
	for _, found := range regexp.MustCompile(`(?m)^  - appID: (\S+)$`).FindAllStringSubmatch(string(text), -1) {
		ids = append(ids, found[1])
	}
	return ids
}

// object is a Kubernetes resource, or a part of one, as JSON has it.
type object map[string]any

func (o object) kind() string { return o.text("kind") }
func (o object) name() string { return o.text("metadata", "name") }

// at follows a path into the object; nil if it ends before.
func (o object) at(path ...string) any {
	var here any = map[string]any(o)
	for _, name := range path {
		in, ok := here.(map[string]any)
		if !ok {
			return nil
		}
		here = in[name]
	}
	return here
}

func (o object) text(path ...string) string { s, _ := o.at(path...).(string); return s }

func (o object) in(path ...string) object { m, _ := o.at(path...).(map[string]any); return m }

// list is the objects in the list at path.
func (o object) list(path ...string) []object {
	items, _ := o.at(path...).([]any)
	list := make([]object, 0, len(items))
	for _, item := range items {
		if m, ok := item.(map[string]any); ok {
			list = append(list, m)
		}
	}
	return list
}

// texts is the strings in the list at path.
func (o object) texts(path ...string) []string {
	items, _ := o.at(path...).([]any)
	list := make([]string, 0, len(items))
	for _, item := range items {
		s, _ := item.(string)
		list = append(list, s)
	}
	return list
}

func named(objects []object, name string) object {
	for _, o := range objects {
		if o.text("name") == name {
			return o
		}
	}
	return nil
}

// manifests are the resources of a rendered overlay.
type manifests struct {
	text string
	all  []object
}

func (m manifests) of(kind string) []object {
	var found []object
	for _, o := range m.all {
		if o.kind() == kind {
			found = append(found, o)
		}
	}
	return found
}

func (m manifests) get(t *testing.T, kind, name string) object {
	t.Helper()
	for _, o := range m.of(kind) {
		if o.name() == name {
			return o
		}
	}
	t.Fatalf("there is no %s %s", kind, name)
	return nil
}

// pods are the pod specs in an overlay, with their labels and annotations, by the resource that makes them.
func (m manifests) pods() map[string]object {
	pods := map[string]object{}
	for _, o := range m.all {
		switch o.kind() {
		case "Deployment", "StatefulSet", "Job":
			pods[o.kind()+" "+o.name()] = o.in("spec", "template")
		case "CronJob":
			pods[o.kind()+" "+o.name()] = o.in("spec", "jobTemplate", "spec", "template")
		}
	}
	return pods
}

var rendering struct {
	sync.Mutex
	secrets sync.Once
	done    map[string]manifests
}

// render has kustomize put an overlay together. The secrets of "dev" are made if they are not there.
func render(t *testing.T, overlay string) manifests {
	t.Helper()
	needs(t, "cluster")
	rendering.Lock()
	defer rendering.Unlock()
	rendering.secrets.Do(func() {
		command := exec.Command("go", "run", "./deploy/k8s/secrets")
		command.Dir = root
		out, err := command.CombinedOutput()
		require.NoError(t, err, string(out))
	})
	if m, ok := rendering.done[overlay]; ok {
		return m
	}
	text, err := exec.Command(built("cluster"), "kubectl", "kustomize", filepath.Join("..", "overlays", overlay)).CombinedOutput()
	require.NoError(t, err, string(text))
	m := manifests{text: string(text)}
	for decoder := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var document map[string]any
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		o := asJSON(t, document)
		for key := range o.in("data") {
			if o.kind() == "Secret" { // base64, which kustomize breaks into lines
				o.in("data")[key] = strings.Join(strings.Fields(o.text("data", key)), "")
			}
		}
		m.all = append(m.all, o)
	}
	if rendering.done == nil {
		rendering.done = map[string]manifests{}
	}
	rendering.done[overlay] = m
	return m
}

func asJSON(t *testing.T, v any) object {
	t.Helper()
	text, err := json.Marshal(v)
	require.NoError(t, err)
	return parse(t, string(text))
}

func parse(t *testing.T, text string) object {
	t.Helper()
	var o object
	require.NoError(t, json.Unmarshal([]byte(text), &o))
	return o
}

// has returns where got differs from what is wanted: further fields are no difference.
func has(got, want any, path string) []string {
	switch want := want.(type) {
	case map[string]any:
		in, ok := got.(map[string]any)
		if !ok && len(want) > 0 {
			return []string{path + " is gone"}
		}
		var differences []string
		for name, value := range want {
			differences = append(differences, has(in[name], value, path+"."+name)...)
		}
		return differences
	case []any:
		in, _ := got.([]any)
		if len(in) != len(want) {
			return []string{path + " is longer or shorter"}
		}
		var differences []string
		for i := range want {
			differences = append(differences, has(in[i], want[i], path+"[]")...)
		}
		return differences
	case nil:
		return nil
	}
	if got != want {
		return []string{path + " is another"}
	}
	return nil
}

// each runs a test on every overlay.
func each(t *testing.T, test func(t *testing.T, m manifests)) {
	for _, overlay := range overlays {
		t.Run(overlay, func(t *testing.T) { test(t, render(t, overlay)) })
	}
}
