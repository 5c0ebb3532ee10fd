package contracts

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/invopop/jsonschema"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/events"
	"boxoffice/services/internal/id"
)

// payloads are the catalogue: one value of each type.
var payloads = []events.Payload{
	events.UserCreated{}, events.UserDeleted{},
	events.TicketCreated{}, events.TicketUpdated{}, events.TicketDeleted{},
	events.OrderCreated{}, events.OrderCompleted{}, events.OrderUpdated{}, events.OrderCancelled{},
	events.ExpirationComplete{},
	events.PaymentCreated{}, events.PaymentCaptured{}, events.PaymentVoided{}, events.PaymentRefunded{}, events.PaymentFailed{},
	events.ShowCreated{}, events.ShowUpdated{}, events.ShowCancelled{},
	events.DeadLetter{},
}

// catalogue is the source code of the package events: what reflection does not see of its types.
type catalogue struct {
	payloads []string                     // the Go types that have a method EventType
	comments map[string]string            // of types ("Order") and of fields ("Order.Ticket")
	names    map[string]map[string]string // of each type: from Go fields to members of the JSON
	embedded map[string][]string          // the types that a type embeds
	types    map[string]string            // from a Go type to its event type
	values   map[string]string            // from a constant to its value
	enums    map[string][]enumValue       // of each type, in the order of the source
}

type enumValue struct{ value, comment string }

// readCatalogue parses the Go files of a folder.
func readCatalogue(t *testing.T, folder string) *catalogue {
	t.Helper()
	c := &catalogue{
		comments: map[string]string{}, names: map[string]map[string]string{}, embedded: map[string][]string{}, types: map[string]string{},
		values: map[string]string{}, enums: map[string][]enumValue{},
	}
	paths, err := filepath.Glob(filepath.Join(folder, "*.go"))
	require.NoError(t, err)
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, declaration := range file.Decls {
			switch declaration := declaration.(type) {
			case *ast.GenDecl:
				for _, spec := range declaration.Specs {
					switch spec := spec.(type) {
					case *ast.TypeSpec:
						c.addType(spec, declaration.Doc)
					case *ast.ValueSpec:
						c.addConstant(spec)
					}
				}
			case *ast.FuncDecl:
				c.addMethod(declaration)
			}
		}
	}
	return c
}

func (c *catalogue) addType(spec *ast.TypeSpec, doc *ast.CommentGroup) {
	name := spec.Name.Name
	c.comments[name] = text(doc)
	structure, ok := spec.Type.(*ast.StructType)
	if !ok {
		return
	}
	c.names[name] = map[string]string{}
	for _, field := range structure.Fields.List {
		if len(field.Names) == 0 {
			if embedded, ok := field.Type.(*ast.Ident); ok {
				c.embedded[name] = append(c.embedded[name], embedded.Name)
			}
			continue
		}
		c.comments[name+"."+field.Names[0].Name] = text(field.Doc)
		if field.Tag != nil {
			tag, _ := strconv.Unquote(field.Tag.Value)
			member, _, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
			c.names[name][field.Names[0].Name] = member
		}
	}
}

func (c *catalogue) addConstant(spec *ast.ValueSpec) {
	kind, ok := spec.Type.(*ast.Ident)
	if !ok || len(spec.Values) != 1 {
		return
	}
	literal, ok := spec.Values[0].(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return
	}
	value, _ := strconv.Unquote(literal.Value)
	comment := text(spec.Comment)
	if comment == "" {
		comment = text(spec.Doc)
	}
	c.values[spec.Names[0].Name] = value
	c.enums[kind.Name] = append(c.enums[kind.Name], enumValue{value, comment})
}

func (c *catalogue) addMethod(method *ast.FuncDecl) {
	if method.Recv == nil || method.Name.Name != "EventType" {
		return
	}
	receiver := method.Recv.List[0].Type.(*ast.Ident).Name
	c.payloads = append(c.payloads, receiver)
	switch result := method.Body.List[0].(*ast.ReturnStmt).Results[0].(type) {
	case *ast.BasicLit:
		c.types[receiver], _ = strconv.Unquote(result.Value)
	}
}

// text is a comment as one paragraph a block.
func text(comment *ast.CommentGroup) string {
	paragraphs := strings.Split(strings.TrimSpace(comment.Text()), "\n\n")
	for i, paragraph := range paragraphs {
		paragraphs[i] = strings.Join(strings.Fields(paragraph), " ")
	}
	return strings.Join(paragraphs, "\n\n")
}

var identifier = regexp.MustCompile(`\b[A-Z][A-Za-z]+\b`)

// describe is a comment for readers of other languages: what has a name of Go has that of the JSON.
func (c *catalogue) describe(goType, comment string) string {
	return identifier.ReplaceAllStringFunc(comment, func(name string) string {
		for _, of := range append([]string{goType}, c.embedded[goType]...) {
			if member := c.names[of][name]; member != "" && member != "-" {
				return "`" + member + "`"
			}
		}
		if value, ok := c.values[name]; ok {
			return "`" + value + "`"
		}
		if eventType, ok := c.types[name]; ok {
			return "`" + eventType + "`"
		}
		return name
	})
}

// comment is what the generator finds for a type, or for a field of it.
func (c *catalogue) comment(t reflect.Type, field string) string {
	name := t.Name()
	if field != "" {
		described := c.describe(name, c.comments[name+"."+field])
		if f, ok := t.FieldByName(field); ok {
			for _, value := range c.enums[f.Type.Name()] {
				name := "`" + value.value + "`"
				described += "\n- " + name + ": " + strings.TrimPrefix(c.describe(f.Type.Name(), value.comment), name+" ")
			}
		}
		return described
	}
	described := c.describe(name, c.comments[name])
	for _, embedded := range c.embedded[name] {
		described += "\n\n" + c.describe(embedded, c.comments[embedded])
	}
	return described
}

// isoTime is a time with three digits of a second, in UTC, as clock.Timestamp writes it.
const isoTime = `^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$`

// schemaOf is the schema of a type, as the files have it.
func (c *catalogue) schemaOf(goType reflect.Type, name SchemaID, example json.RawMessage) *jsonschema.Schema {
	reflector := jsonschema.Reflector{
		Anonymous: true, AllowAdditionalProperties: true, DoNotReference: true, ExpandedStruct: true,
		LookupComment: c.comment,
		Mapper: func(t reflect.Type) *jsonschema.Schema {
			switch {
			case t == reflect.TypeFor[clock.Timestamp]():
				return &jsonschema.Schema{Type: "string", Format: "date-time", Pattern: isoTime}
			case t == reflect.TypeFor[time.Time]():
				return &jsonschema.Schema{Type: "string", Format: "date-time"}
			case t.PkgPath() == reflect.TypeFor[id.User]().PkgPath():
				return &jsonschema.Schema{Type: "string", Format: "uuid"}
			case t.Kind() == reflect.String && len(c.enums[t.Name()]) > 0:
				enum := &jsonschema.Schema{Type: "string"}
				for _, value := range c.enums[t.Name()] {
					enum.Enum = append(enum.Enum, value.value)
				}
				return enum
			}
			return nil
		},
	}
	schema := reflector.ReflectFromType(goType)
	schema.ID = jsonschema.ID("urn:boxoffice:" + name.Type + ":" + strconv.Itoa(name.Number))
	schema.Title = goType.Name()
	if example != nil {
		schema.Examples = []any{example}
	}
	return schema
}

// emptyOrID is for members that have no id in some events.
const emptyOrID = `^$|^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`

// generate returns all schemas that follow from the code, by name.
func generate(t *testing.T) map[SchemaID][]byte {
	t.Helper()
	source := readCatalogue(t, "../internal/events")
	var listed []string
	for _, payload := range payloads {
		listed = append(listed, reflect.TypeOf(payload).Name())
	}
	slices.Sort(listed)
	slices.Sort(source.payloads)
	require.Equal(t, source.payloads, listed, "add the type to payloads")

	all := map[SchemaID][]byte{}
	for _, payload := range payloads {
		name := SchemaID{payload.EventType(), payload.Schema()}
		schema := source.schemaOf(reflect.TypeOf(payload), name, example(t, name).Data)
		if _, ok := payload.(events.OrderCancelled); ok {
			ticket, _ := schema.Properties.Get("ticket")
			for _, of := range []struct {
				object *jsonschema.Schema
				member string
			}{{schema, "userId"}, {ticket, "id"}} {
				member, _ := of.object.Properties.Get(of.member)
				member.Format, member.Pattern = "", emptyOrID
				member.Description += " It may be \"\" if `reason` is `unknown`."
			}
		}
		all[name] = encode(t, schema)
	}
	name := SchemaID{EnvelopeSchema, 1}
	whole, err := json.Marshal(example(t, SchemaID{"order.created", 1}))
	require.NoError(t, err)
	envelope := source.schemaOf(reflect.TypeFor[events.Event](), name, whole)
	envelope.Title = "Envelope"
	all[name] = encode(t, envelope)
	return all
}

// encode is the schema as a file, with its members in an order for readers.
func encode(t *testing.T, schema *jsonschema.Schema) []byte {
	t.Helper()
	ordered := inOrder(t, schema)
	plain, err := json.Marshal(schema)
	require.NoError(t, err)
	require.JSONEq(t, string(plain), string(ordered), "inOrder does not know a keyword")
	var out bytes.Buffer
	require.NoError(t, json.Indent(&out, ordered, "", "  "))
	out.WriteByte('\n')
	return out.Bytes()
}

func inOrder(t *testing.T, s *jsonschema.Schema) json.RawMessage {
	t.Helper()
	var out bytes.Buffer
	add := func(keyword string, value any) {
		if v := reflect.ValueOf(value); !v.IsValid() || v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0 {
			return
		}
		if out.Len() > 0 {
			out.WriteByte(',')
		}
		out.WriteString(strconv.Quote(keyword) + ":")
		encoder := json.NewEncoder(&out)
		encoder.SetEscapeHTML(false)
		require.NoError(t, encoder.Encode(value))
	}
	add("$schema", s.Version)
	add("$id", string(s.ID))
	add("title", s.Title)
	add("description", s.Description)
	add("type", s.Type)
	add("enum", s.Enum)
	add("format", s.Format)
	add("pattern", s.Pattern)
	add("contentEncoding", s.ContentEncoding)
	add("minLength", s.MinLength)
	add("minimum", s.Minimum)
	add("minItems", s.MinItems)
	if s.Items != nil {
		add("items", inOrder(t, s.Items))
	}
	add("required", s.Required)
	if s.Properties.Len() > 0 {
		var properties bytes.Buffer
		for property := s.Properties.Oldest(); property != nil; property = property.Next() {
			if properties.Len() > 0 {
				properties.WriteByte(',')
			}
			properties.WriteString(strconv.Quote(property.Key) + ":")
			properties.Write(inOrder(t, property.Value))
		}
		add("properties", json.RawMessage("{"+properties.String()+"}"))
	}
	add("examples", s.Examples)
	return json.RawMessage("{" + out.String() + "}")
}

// example is an event that was published in a test of the whole system.
func example(t *testing.T, name SchemaID) events.Event {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("examples", name.File()))
	require.NoError(t, err, "each event needs an example: an event that was published, in services/contracts/examples")
	var event events.Event
	require.NoError(t, json.Unmarshal(text, &event), name)
	return event
}
