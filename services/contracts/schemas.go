package contracts

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

//go:embed asyncapi.yaml
var asyncAPI []byte

// AsyncAPIYAML returns the document of the topics as it is written.
func AsyncAPIYAML() []byte { return bytes.Clone(asyncAPI) }

// AsyncAPI returns the document of the topics as JSON. Its references to schemas are those of the gateway, relative to the document's
// own address, /api/asyncapi.json.
func AsyncAPI() []byte { return bytes.Clone(asyncAPIJSON()) }

var asyncAPIJSON = sync.OnceValue(func() []byte {
	return schemaFile.ReplaceAll(mustConvert("asyncapi.yaml", asyncAPI), []byte(`"./schemas/$1/$2"`))
})

// schemaFile is a reference to a file in schemas.
var schemaFile = regexp.MustCompile(`"\./schemas/([a-z.]+)\.(\d+)\.json"`)

// files has the JSON Schemas of all events, TYPE.NUMBER.json, and that of their envelope.
//
//go:embed schemas/*.json
var files embed.FS

// EnvelopeSchema is the name under which Schema has the schema of the envelope that all events share. Its number is 1.
const EnvelopeSchema = "envelope"

// SchemaID names a schema: an event type, for example "order.created", and the number of its format.
type SchemaID struct {
	Type   string
	Number int
}

// Path is where the gateway serves the schema: /api/schemas/order.created/1.
func (s SchemaID) Path() string { return "/api/schemas/" + s.Type + "/" + strconv.Itoa(s.Number) }

// File is the name of the schema's file: order.created.1.json.
func (s SchemaID) File() string { return s.Type + "." + strconv.Itoa(s.Number) + ".json" }

// Schema returns a JSON Schema (2020-12), if there is one of that type and number.
func Schema(id SchemaID) (schema []byte, found bool) {
	schema, err := files.ReadFile("schemas/" + id.File())
	return schema, err == nil
}

// Schemas are all schemas, by type and number.
func Schemas() []SchemaID {
	entries, err := fs.ReadDir(files, "schemas")
	if err != nil {
		panic(err) // the folder is embedded
	}
	all := make([]SchemaID, len(entries))
	for i, entry := range entries {
		if all[i], err = parseFile(entry.Name()); err != nil {
			panic(err) // a test reads the same files
		}
	}
	slices.SortFunc(all, func(a, b SchemaID) int {
		if a.Type != b.Type {
			return strings.Compare(a.Type, b.Type)
		}
		return a.Number - b.Number
	})
	return all
}

// parseFile reads what File writes.
func parseFile(name string) (SchemaID, error) {
	stem, isJSON := strings.CutSuffix(name, ".json")
	dot := strings.LastIndexByte(stem, '.')
	if !isJSON || dot < 0 {
		return SchemaID{}, fmt.Errorf("%s is not named TYPE.NUMBER.json", name)
	}
	number, err := strconv.Atoi(stem[dot+1:])
	id := SchemaID{stem[:dot], number}
	if err != nil || number < 1 || id.File() != name {
		return SchemaID{}, fmt.Errorf("%s is not named TYPE.NUMBER.json", name)
	}
	return id, nil
}
