package stack

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"gopkg.in/yaml.v3"
)

// rights are the topics that an app may publish and subscribe to.
type rights struct{ publish, subscribe []string }

// readScopes reads the rights of each app from the pub/sub component in a folder of components. So each user of the broker has exactly
// the rights that Dapr gives to its app.
func readScopes(folder string) (map[string]rights, error) {
	path := filepath.Join(folder, "pubsub.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	scopes := map[string]rights{}
	for decoder := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var component struct {
			Spec struct {
				Metadata []struct{ Name, Value string }
			}
		}
		if err := decoder.Decode(&component); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		for _, item := range component.Spec.Metadata {
			for app, topics := range topicsByApp(item.Value) {
				may := scopes[app]
				switch item.Name {
				case "publishingScopes":
					may.publish = append(may.publish, topics...)
				case "subscriptionScopes":
					may.subscribe = append(may.subscribe, topics...)
				default:
					continue
				}
				scopes[app] = may
			}
		}
	}
	if len(scopes) == 0 {
		return nil, fmt.Errorf("%s: there are no publishingScopes and subscriptionScopes, so no app may publish or subscribe", path)
	}
	return scopes, nil
}

// topicsByApp reads a scope as Dapr does: "orders=events.orders, dead.orders; auth=".
func topicsByApp(scope string) map[string][]string {
	all := map[string][]string{}
	for _, part := range strings.Split(strings.Join(strings.Fields(scope), ""), ";") {
		app, list, found := strings.Cut(part, "=")
		if !found {
			continue
		}
		for _, topic := range strings.Split(list, ",") {
			if topic != "" {
				all[app] = append(all[app], topic)
			}
		}
	}
	return all
}
