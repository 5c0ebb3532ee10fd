// Package contracts has the documents that other languages need: the REST API (OpenAPI), the topics (AsyncAPI) and the data of events
// (JSON Schema). The gateway serves them.
//
// openapi.yaml is written by hand, before the code that does what it describes. Prose, examples and what a client does about an error cannot be generated from
// handlers; tests compare the rest with the code.
package contracts

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"sync"

	"gopkg.in/yaml.v3"
)

//go:embed openapi.yaml
var openAPI []byte

// OpenAPIYAML returns the document of the REST API as it is written.
func OpenAPIYAML() []byte { return bytes.Clone(openAPI) }

// OpenAPI returns the document of the REST API as JSON, in the order in which it is written.
func OpenAPI() []byte { return bytes.Clone(openAPIJSON()) }

var openAPIJSON = sync.OnceValue(func() []byte { return mustConvert("openapi.yaml", openAPI) })

// mustConvert panics if an embedded document is not YAML, which the tests of this package would find.
func mustConvert(name string, document []byte) []byte {
	converted, err := toJSON(document)
	if err != nil {
		panic(fmt.Sprintf("contracts: %s: %v", name, err))
	}
	return converted
}

// toJSON converts YAML to JSON. It keeps the order of members, which pages show.
func toJSON(document []byte) ([]byte, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(document, &root); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := writeNode(&out, &root); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func writeNode(out *bytes.Buffer, node *yaml.Node) error {
	switch node.Kind {
	case yaml.DocumentNode:
		return writeNode(out, node.Content[0])
	case yaml.AliasNode:
		return writeNode(out, node.Alias)
	case yaml.MappingNode:
		return writeMembers(out, node)
	case yaml.SequenceNode:
		out.WriteByte('[')
		for i, entry := range node.Content {
			if i > 0 {
				out.WriteByte(',')
			}
			if err := writeNode(out, entry); err != nil {
				return err
			}
		}
		out.WriteByte(']')
		return nil
	}
	var value any
	if err := node.Decode(&value); err != nil {
		return err
	}
	return writeValue(out, value)
}

func writeMembers(out *bytes.Buffer, node *yaml.Node) error {
	out.WriteByte('{')
	for i := 0; i < len(node.Content); i += 2 {
		if i > 0 {
			out.WriteByte(',')
		}
		if err := writeValue(out, node.Content[i].Value); err != nil {
			return err
		}
		out.WriteByte(':')
		if err := writeNode(out, node.Content[i+1]); err != nil {
			return err
		}
	}
	out.WriteByte('}')
	return nil
}

// writeValue writes a scalar without escaping the characters of HTML.
func writeValue(out *bytes.Buffer, value any) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return err
	}
	out.Truncate(out.Len() - 1) // the line end
	return nil
}
