package contracts

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/events"
)

const updateSchemas = "UPDATE=1 go test ./services/contracts -run TestSchemas"

// The schemas of the numbers that are published now follow from the catalogue. Those of lower numbers do not change any more.
func TestSchemas_FollowFromTheCatalogue(t *testing.T) {
	generated := generate(t)
	if os.Getenv("UPDATE") != "" {
		for name, schema := range generated {
			require.NoError(t, os.WriteFile(filepath.Join("schemas", name.File()), schema, 0o644))
		}
	}
	paths, err := filepath.Glob("schemas/*")
	require.NoError(t, err)
	numbers := map[string]int{}
	for name := range generated {
		numbers[name.Type] = name.Number
		require.FileExists(t, filepath.Join("schemas", name.File()), updateSchemas)
	}
	for _, path := range paths {
		name, err := parseFile(filepath.Base(path))
		require.NoError(t, err)
		file, err := os.ReadFile(path)
		require.NoError(t, err)
		if schema, isCurrent := generated[name]; isCurrent {
			require.Equal(t, string(schema), string(file), "%s: %s", path, updateSchemas)
			continue
		}
		require.Less(t, name.Number, numbers[name.Type], "%s is the schema of no event", path)
	}
}

// compile returns a schema, with formats checked.
func compile(t *testing.T, schema []byte) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	require.NoError(t, err)
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	require.NoError(t, compiler.AddResource("schema.json", document))
	compiled, err := compiler.Compile("schema.json")
	require.NoError(t, err)
	return compiled
}

func validate(t *testing.T, schema, document []byte) error {
	t.Helper()
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
	require.NoError(t, err)
	return compile(t, schema).Validate(value)
}

// Each example is an event as the services publish it, so it is written again as it was, and its schema describes all of it.
func TestSchemas_DescribeTheirExamples(t *testing.T) {
	if os.Getenv("UPDATE") != "" {
		t.Skip("this program has the files that were there before")
	}
	envelope, found := Schema(SchemaID{EnvelopeSchema, 1})
	require.True(t, found)
	for _, name := range Schemas() {
		if name.Type == EnvelopeSchema {
			continue
		}
		t.Run(name.File(), func(t *testing.T) {
			schema, found := Schema(name)
			require.True(t, found)
			var described struct {
				Description string
				Properties  map[string]struct{ Description string }
				Examples    []json.RawMessage
			}
			require.NoError(t, json.Unmarshal(schema, &described))
			require.NotEmpty(t, described.Description)
			require.Len(t, described.Examples, 1)
			require.NoError(t, validate(t, schema, described.Examples[0]))
			for member, of := range described.Properties {
				require.NotEmpty(t, of.Description, member)
			}
			var members map[string]any
			require.NoError(t, json.Unmarshal(described.Examples[0], &members))
			for member := range members {
				require.Contains(t, described.Properties, member)
			}

			i := slices.IndexFunc(payloads, func(p events.Payload) bool { return name == SchemaID{p.EventType(), p.Schema()} })
			if i < 0 {
				return
			}
			event := example(t, name)
			require.Equal(t, name.Type, event.Type)
			whole, err := json.Marshal(event)
			require.NoError(t, err)
			require.NoError(t, validate(t, envelope, whole))
			payload := reflect.New(reflect.TypeOf(payloads[i]))
			require.NoError(t, json.Unmarshal(event.Data, payload.Interface()))
			again, err := json.Marshal(payload.Interface())
			require.NoError(t, err)
			require.JSONEq(t, string(event.Data), string(again), "the example is not as the services publish it now")
		})
	}
}
