package events

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"
)

// pubsubFiles are all components with scopes for publishing and subscribing.
var pubsubFiles = []string{
	"components/embedded/pubsub.yaml", "components/nats/pubsub.yaml", "components/redis/pubsub.yaml",
	"deploy/docker/components/nats/pubsub.yaml", "deploy/docker/components/redis/pubsub.yaml",
	"deploy/k8s/base/dapr/components.yaml", "deploy/k8s/infrastructure/redis/pubsub.yaml",
}

func documentsOf[T any](t *testing.T, path string) (all []T) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "..", path))
	require.NoError(t, err)
	for decoder := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var document T
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err, path)
		all = append(all, document)
	}
}

// setting finds a setting of a component, wherever in the document it stands.
func setting(node any, name string) string {
	switch node := node.(type) {
	case map[string]any:
		if node["name"] == name {
			value, _ := node["value"].(string)
			return value
		}
		for _, child := range node {
			if found := setting(child, name); found != "" {
				return found
			}
		}
	case []any:
		for _, child := range node {
			if found := setting(child, name); found != "" {
				return found
			}
		}
	}
	return ""
}

// scopes reads a setting as Dapr does.
func scopes(text string) map[string][]string {
	all := map[string][]string{}
	for _, app := range strings.Split(strings.Join(strings.Fields(text), ""), ";") {
		name, topics, _ := strings.Cut(app, "=")
		all[name] = strings.FieldsFunc(topics, func(r rune) bool { return r == ',' })
		slices.Sort(all[name])
	}
	return all
}

// Each service publishes what it owns, and subscribes to the topics of subscriptions.yaml. No app may be missing, because Dapr would let
// it do anything.
func TestComponents_NameForEveryAppWhatItMayPublishAndSubscribe(t *testing.T) {
	publish := map[string][]string{"gateway": {}}
	subscribe := map[string][]string{"auth": {}, "gateway": {}}
	for service, payload := range map[string]Payload{
		"auth": UserCreated{}, "tickets": TicketCreated{}, "orders": OrderCreated{}, "payments": PaymentCreated{}, "expiration": ExpirationComplete{},
		"catalogue": ShowCreated{},
	} {
		publish[service] = []string{TopicOf(payload.EventType())}
	}
	var subscribers, letters []string
	for _, s := range documentsOf[struct {
		Metadata struct{ Name string }
		Spec     struct {
			Topic           string
			DeadLetterTopic string `yaml:"deadLetterTopic"`
			Routes          struct{ Default string }
			BulkSubscribe   struct{ Enabled bool } `yaml:"bulkSubscribe"`
		}
		Scopes []string
	}](t, "components/events/subscriptions.yaml") {
		require.Len(t, s.Scopes, 1)
		service := s.Scopes[0]
		require.True(t, s.Spec.BulkSubscribe.Enabled, s.Metadata.Name)
		subscribe[service] = append(subscribe[service], s.Spec.Topic)
		if service == "dead-letters" {
			require.Empty(t, s.Spec.DeadLetterTopic, s.Metadata.Name)
			require.Equal(t, "/letters", s.Spec.Routes.Default, s.Metadata.Name)
			letters = append(letters, s.Spec.Topic)
			continue
		}
		require.Equal(t, deadLetterTopic(service), s.Spec.DeadLetterTopic, s.Metadata.Name)
		require.Equal(t, "/events", s.Spec.Routes.Default, s.Metadata.Name)
		subscribers = append(subscribers, service)
	}
	slices.Sort(subscribers)
	require.ElementsMatch(t, Subscribers, slices.Compact(subscribers))
	topics := []string{oldTopic, OldDeadLetterTopic}
	for _, service := range Subscribers {
		require.Contains(t, subscribe[service], RetryTopic(service))
		publish[service] = append(publish[service], deadLetterTopic(service))
		publish["dead-letters"] = append(publish["dead-letters"], RetryTopic(service))
		require.Contains(t, letters, deadLetterTopic(service))
	}
	require.Contains(t, letters, OldDeadLetterTopic)
	require.Len(t, letters, len(Subscribers)+1)
	for app := range publish {
		slices.Sort(publish[app])
		slices.Sort(subscribe[app])
		topics = append(topics, publish[app]...)
	}
	for _, app := range documentsOf[struct {
		Apps []struct {
			ID string `yaml:"appID"`
		}
	}](t, "dapr.yaml")[0].Apps {
		require.Contains(t, publish, app.ID)
	}

	for _, path := range pubsubFiles {
		node := documentsOf[any](t, path)
		require.Equal(t, publish, scopes(setting(node, "publishingScopes")), path)
		require.Equal(t, subscribe, scopes(setting(node, "subscriptionScopes")), path)
		require.ElementsMatch(t, topics, strings.Split(strings.Join(strings.Fields(setting(node, "protectedTopics")), ""), ","), path)
	}
}
