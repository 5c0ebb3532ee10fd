package event

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"boxoffice/services/contracts"
)

// NamesSchema reports whether an event names its schema by a URL, as this release does. The previous release, and the events of New,
// have a URN.
func (e Event) NamesSchema() bool {
	return strings.HasPrefix(e.DataSchema, "http://") || strings.HasPrefix(e.DataSchema, "https://")
}

// Validate compares an event that names its schema with the published schemas: the envelope, and the data. It is stricter than a subscriber
// may be: a member that no schema describes is an error.
func Validate(text []byte) error {
	e, err := Read(text)
	if err != nil {
		return err
	}
	fail := func(err error) error { return fmt.Errorf("%s (%s): %w", e.ID, e.DataSchema, err) }
	name, err := schemaOf(e)
	if err != nil {
		return fail(err)
	}
	// Dapr adds members to the envelope of a dead letter.
	envelope := compiled{contracts.SchemaID{Type: contracts.EnvelopeSchema, Number: 1}, e.Type != deadLetter}
	if err := envelope.validate(text); err != nil {
		return fail(err)
	}
	if err := (compiled{name, true}).validate(e.Data); err != nil {
		return fail(err)
	}
	return nil
}

const deadLetter = "event.dead"

// schemaOf reads the schema's name from its URL.
func schemaOf(e Event) (contracts.SchemaID, error) {
	address, err := url.Parse(e.DataSchema)
	if err != nil {
		return contracts.SchemaID{}, err
	}
	_, last, _ := strings.Cut(address.Path, e.Type+"/")
	number, err := strconv.Atoi(last)
	name := contracts.SchemaID{Type: e.Type, Number: number}
	if err != nil || name.Path() != address.Path {
		return contracts.SchemaID{}, fmt.Errorf("the path is not that of a schema of %s", e.Type)
	}
	return name, nil
}

// compiled is a schema. A strict one describes all members.
type compiled struct {
	name   contracts.SchemaID
	strict bool
}

// cache has the schemas that were compiled.
var cache sync.Map // of func() (*jsonschema.Schema, error), by compiled

func (c compiled) validate(text []byte) error {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	cached, _ := cache.LoadOrStore(c, sync.OnceValues(c.compile))
	schema, err := cached.(func() (*jsonschema.Schema, error))()
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

func (c compiled) compile() (*jsonschema.Schema, error) {
	text, found := contracts.Schema(c.name)
	if !found {
		return nil, fmt.Errorf("there is no schema %s", c.name.File())
	}
	var schema map[string]any
	if err := json.Unmarshal(text, &schema); err != nil {
		return nil, err
	}
	if c.strict {
		closeObjects(schema)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource(c.name.File(), schema); err != nil {
		return nil, err
	}
	return compiler.Compile(c.name.File())
}

// closeObjects allows only described members.
func closeObjects(schema map[string]any) {
	properties, isObject := schema["properties"].(map[string]any)
	if isObject {
		schema["additionalProperties"] = false
	}
	for _, property := range properties {
		if inner, ok := property.(map[string]any); ok {
			closeObjects(inner)
		}
	}
	if items, ok := schema["items"].(map[string]any); ok {
		closeObjects(items)
	}
}
