package contracts

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"boxoffice/services/internal/events"
	"boxoffice/services/internal/sources"
)

// asyncDocument has the parts of asyncapi.yaml that tests compare.
type asyncDocument struct {
	Channels map[string]struct {
		Address     string
		Description string
		Messages    map[string]reference
	}
	Operations map[string]struct {
		Action   string
		Channel  reference
		Summary  string
		Services []string `yaml:"x-services"`
	}
	Components struct {
		Parameters map[string]struct{ Enum []string }
		Messages   map[string]struct {
			Name, Summary string
			Payload       struct {
				AllOf []struct {
					Ref        string `yaml:"$ref"`
					Properties struct {
						Type struct{ Const string }
						Data reference
					}
				} `yaml:"allOf"`
			}
		}
	}
}

type reference struct {
	Ref string `yaml:"$ref"`
}

func readAsyncAPI(t *testing.T) asyncDocument {
	t.Helper()
	var document asyncDocument
	require.NoError(t, yaml.Unmarshal(AsyncAPIYAML(), &document))
	return document
}

// The schema of AsyncAPI 3.0.0 is that of github.com/asyncapi/spec-json-schemas (schemas/3.0.0.json, Apache License 2.0).
func TestAsyncAPI_IsAnAsyncAPIDocument(t *testing.T) {
	file, err := os.Open("testdata/asyncapi-3.0.0.schema.json.gz")
	require.NoError(t, err)
	defer func() { require.NoError(t, file.Close()) }()
	unzipped, err := gzip.NewReader(file)
	require.NoError(t, err)
	text, err := io.ReadAll(unzipped)
	require.NoError(t, err)
	schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	require.NoError(t, err)
	compiler := jsonschema.NewCompiler()
	require.NoError(t, compiler.AddResource("http://asyncapi.com/definitions/3.0.0/asyncapi.json", schema))
	compiled, err := compiler.Compile("http://asyncapi.com/definitions/3.0.0/asyncapi.json")
	require.NoError(t, err)

	check := func(text []byte) error {
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		require.NoError(t, err)
		return compiled.Validate(document)
	}
	require.NoError(t, check(AsyncAPI()))
	require.Error(t, check(bytes.Replace(AsyncAPI(), []byte(`"action":"send"`), []byte(`"action":"shout"`), 1)), "the schema finds mistakes")
}

// References lead somewhere: inside the document, or to a schema, as the gateway serves it.
func TestAsyncAPI_ReferencesLeadSomewhere(t *testing.T) {
	var document map[string]any
	require.NoError(t, yaml.Unmarshal(AsyncAPI(), &document))
	found := 0
	for _, match := range regexp.MustCompile(`"\$ref":"([^"]+)"`).FindAllSubmatch(AsyncAPI(), -1) {
		found++
		inside, isInside := strings.CutPrefix(string(match[1]), "#/")
		if !isInside {
			path := "/api/" + strings.TrimPrefix(string(match[1]), "./")
			require.True(t, slices.ContainsFunc(Schemas(), func(s SchemaID) bool { return s.Path() == path }), path)
			continue
		}
		var at any = document
		for part := range strings.SplitSeq(inside, "/") {
			members, _ := at.(map[string]any)
			at = members[part]
		}
		require.NotNil(t, at, inside)
	}
	require.Greater(t, found, 40)
}

func TestAsyncAPI_HasEveryEventOfTheCatalogueOnItsTopic(t *testing.T) {
	document := readAsyncAPI(t)
	found := map[string]string{} // from event types to addresses
	for _, channel := range document.Channels {
		require.NotEmpty(t, channel.Description, channel.Address)
		for name := range channel.Messages {
			found[name] = channel.Address
		}
	}
	for _, payload := range payloads {
		eventType := payload.EventType()
		topic := events.TopicOf(eventType)
		if eventType == (events.DeadLetter{}).EventType() {
			topic = "dead.{service}"
		}
		require.Equal(t, topic, found[eventType], "asyncapi.yaml: the channel of %s", eventType)
		delete(found, eventType)
		message := document.Components.Messages[eventType]
		require.Equal(t, eventType, message.Name)
		require.NotEmpty(t, message.Summary, eventType)
		require.Len(t, message.Payload.AllOf, 2, eventType)
		require.Equal(t, "./schemas/"+SchemaID{EnvelopeSchema, 1}.File(), message.Payload.AllOf[0].Ref)
		require.Equal(t, eventType, message.Payload.AllOf[1].Properties.Type.Const)
		require.Equal(t, "./schemas/"+SchemaID{eventType, payload.Schema()}.File(), message.Payload.AllOf[1].Properties.Data.Ref)
	}
	require.Equal(t, map[string]string{"event": "retry.{service}"}, found, "what is no event of the catalogue")
	require.Equal(t, events.Subscribers, document.Components.Parameters["subscriber"].Enum)
}

// rights are the topics that each service may publish on, or subscribe to.
type rights struct{ publish, subscribe map[string][]string }

// documentedRights are what the operations allow, without the topics of the previous release.
func documentedRights(t *testing.T) rights {
	t.Helper()
	document := readAsyncAPI(t)
	r := rights{map[string][]string{}, map[string][]string{}}
	for name, operation := range document.Operations {
		require.NotEmpty(t, operation.Summary, name)
		address := document.Channels[strings.TrimPrefix(operation.Channel.Ref, "#/channels/")].Address
		require.NotEmpty(t, address, name)
		of := map[string]map[string][]string{"send": r.publish, "receive": r.subscribe}[operation.Action]
		for _, service := range operation.Services {
			topics := []string{address}
			if prefix, _, perService := strings.Cut(address, "{service}"); perService {
				topics = []string{prefix + service}
				if service == "dead-letters" {
					topics = nil
					for _, subscriber := range events.Subscribers {
						topics = append(topics, prefix+subscriber)
					}
				}
			}
			of[service] = append(of[service], topics...)
		}
	}
	return r
}

// scopedRights are the scopes of a component.
func scopedRights(t *testing.T, path string) rights {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	var component struct {
		Spec struct {
			Metadata []struct{ Name, Value string }
		}
	}
	require.NoError(t, yaml.Unmarshal(text, &component))
	scopes := map[string]map[string][]string{}
	for _, m := range component.Spec.Metadata {
		all := map[string][]string{}
		for entry := range strings.SplitSeq(m.Value, ";") {
			service, topics, _ := strings.Cut(strings.TrimSpace(entry), "=")
			for topic := range strings.SplitSeq(topics, ",") {
				topic = strings.TrimSpace(topic)
				if topic != "" && topic != "events" && topic != events.OldDeadLetterTopic {
					all[service] = append(all[service], topic)
				}
			}
		}
		scopes[m.Name] = all
	}
	return rights{scopes["publishingScopes"], scopes["subscriptionScopes"]}
}

func TestAsyncAPI_OperationsAreTheScopesOfTheComponents(t *testing.T) {
	documented := documentedRights(t)
	for _, set := range []string{"embedded", "nats", "redis"} {
		path := filepath.Join("../../components", set, "pubsub.yaml")
		scoped := scopedRights(t, path)
		for _, c := range []struct {
			what               string
			documented, scoped map[string][]string
		}{{"publish", documented.publish, scoped.publish}, {"subscribe", documented.subscribe, scoped.subscribe}} {
			require.NotEmpty(t, c.scoped, path)
			for service, topics := range c.scoped {
				require.ElementsMatch(t, topics, c.documented[service], "asyncapi.yaml and %s: what %s may %s", path, service, c.what)
			}
			require.Len(t, c.documented, len(c.scoped), "asyncapi.yaml and %s: who may %s", path, c.what)
		}
	}
}

func TestAsyncAPI_OperationsAreTheTopicsOfTheREADME(t *testing.T) {
	documented := documentedRights(t)
	rows := regexp.MustCompile("(?m)^\\| `(events\\.[a-z]+)` \\| ([a-z]+) \\| ([a-z, -]+) \\|$").
		FindAllStringSubmatch(sources.Section(t, sources.Page(t, "README.md"), "## Topics"), -1)
	require.Len(t, rows, 6, "services/README.md, Topics")
	for _, row := range rows {
		require.Equal(t, []string{row[2]}, with(documented.publish, row[1]), "who publishes on %s", row[1])
		require.ElementsMatch(t, strings.Split(row[3], ", "), with(documented.subscribe, row[1]), "who subscribes to %s", row[1])
	}
}

// with are the services that have a topic.
func with(all map[string][]string, topic string) (services []string) {
	for service, topics := range all {
		if slices.Contains(topics, topic) {
			services = append(services, service)
		}
	}
	return services
}
