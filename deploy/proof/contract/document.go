// Package contract compares requests and responses with the OpenAPI document of the box office.
//
// A Document answers three questions: is a request valid, is a response described, and which outcomes are described at all. A Validator
// asks them of everything that passes through its Transport, which belongs into client.Options.Transport, and remembers the outcomes that
// it has seen. Requests generates requests from the document.
//
// It is stricter than a client may be. A response with a member or a header that the document does not describe is a finding, although
// clients ignore what they do not know: else something could be served for years and never be described.
//
// Schemas are compiled once, by an implementation of JSON Schema 2020-12, which is the dialect of OpenAPI 3.1. (The validators for OpenAPI either
// compile a schema for each value, or bring a parser and a YAML library of their own, and neither closes the schemas of a response as
// undescribed does.)
package contract

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"
)

// Document is an OpenAPI document whose schemas are compiled. It does not change.
type Document struct {
	root       map[string]any
	operations []*Operation
	problem    body     // of a request without an operation; without a schema if no component has that name
	found      sync.Map // what references refer to
}

// Operation is one method of one path.
type Operation struct {
	ID     string
	Method string
	// Path is the template, as "/api/tickets/{id}".
	Path string
	Tags []string

	segments   []string
	parameters []parameter
	body       *content
	needsBody  bool
	security   [][]credential // one of these lists must be sent whole
	responses  map[int]*response
}

// parameter is a parameter of a request, or a header of a response.
type parameter struct {
	name       string
	in         string // path, query, header or cookie
	required   bool
	mayBeEmpty bool // of a query: then an empty one is the same as none
	schema     *jsonschema.Schema
	source     map[string]any // the schema as written
	pointer    string
}

// content is a body by media type.
type content struct {
	byType map[string]body
}

type body struct {
	schema  *jsonschema.Schema
	source  any
	example any
	events  map[string]body // of a stream, by name
}

type response struct {
	headers []parameter
	content *content
	codes   []string // the problem codes, ["*"] if they are open, nil if it is not a problem
}

// credential is where a security scheme is sent.
type credential struct{ in, name string }

// documentURL is the name of the document for the compiler.
const documentURL = "https://contract.invalid/"

// Parse reads a document, as JSON or YAML.
func Parse(text []byte) (*Document, error) {
	var anything any
	if err := yaml.Unmarshal(text, &anything); err != nil {
		return nil, fmt.Errorf("read the document: %w", err)
	}
	asJSON, err := json.Marshal(anything)
	if err != nil {
		return nil, fmt.Errorf("read the document: %w", err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		return nil, err
	}
	root, ok := document.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("the document is not an object")
	}
	p := &parser{root: root, compiler: jsonschema.NewCompiler()}
	p.compiler.DefaultDraft(jsonschema.Draft2020)
	p.compiler.AssertFormat()
	if err := p.compiler.AddResource(documentURL, document); err != nil {
		return nil, err
	}
	d := &Document{root: root}
	if err := p.parse(d); err != nil {
		return nil, err
	}
	return d, nil
}

// Operations returns all operations, by path and method.
func (d *Document) Operations() []*Operation { return d.operations }

// node is a part of the document, and where it is.
type node struct {
	value   any
	pointer string
}

func (n node) object() map[string]any {
	object, _ := n.value.(map[string]any)
	return object
}

func (n node) child(key string) node {
	return node{n.object()[key], n.pointer + "/" + escape(key)}
}

func escape(key string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
}

// keys returns the members of an object, sorted.
func (n node) keys() []string {
	var all []string
	for key := range n.object() {
		all = append(all, key)
	}
	slices.Sort(all)
	return all
}

// parser builds a Document.
type parser struct {
	root     map[string]any
	compiler *jsonschema.Compiler
}

// resolve follows a Reference Object.
func (p *parser) resolve(n node) node {
	for range 20 {
		reference, ok := n.object()["$ref"].(string)
		if !ok {
			return n
		}
		n = find(p.root, reference)
	}
	return n
}

// find returns what a reference within the document refers to.
func find(root map[string]any, reference string) node {
	n := node{root, ""}
	for key := range strings.SplitSeq(strings.TrimPrefix(reference, "#/"), "/") {
		key = strings.NewReplacer("~1", "/", "~0", "~").Replace(key)
		if list, ok := n.value.([]any); ok {
			i, err := strconv.Atoi(key)
			if err != nil || i >= len(list) {
				return node{}
			}
			n = node{list[i], n.pointer + "/" + key}
			continue
		}
		n = n.child(key)
	}
	return n
}

func (p *parser) compile(n node) (*jsonschema.Schema, error) {
	if n.value == nil {
		return nil, fmt.Errorf("there is no schema at %s", n.pointer)
	}
	fragment := (&url.URL{Fragment: n.pointer}).String()
	schema, err := p.compiler.Compile(documentURL + fragment)
	if err != nil {
		return nil, fmt.Errorf("compile the schema at %s: %w", n.pointer, err)
	}
	return schema, nil
}

func (p *parser) parse(d *Document) error {
	root := node{p.root, ""}
	if problem := root.child("components").child("schemas").child("Problem"); problem.value != nil {
		schema, err := p.compile(problem)
		if err != nil {
			return err
		}
		d.problem = body{schema: schema, source: problem.value}
	}
	paths := root.child("paths")
	for _, path := range paths.keys() {
		item := p.resolve(paths.child(path))
		for _, method := range item.keys() {
			if !slices.Contains([]string{"get", "put", "post", "delete", "options", "head", "patch", "trace"}, method) {
				continue
			}
			operation, err := p.operation(path, method, item)
			if err != nil {
				return fmt.Errorf("%s %s: %w", strings.ToUpper(method), path, err)
			}
			d.operations = append(d.operations, operation)
		}
	}
	if len(d.operations) == 0 {
		return fmt.Errorf("the document describes no operation")
	}
	return nil
}

func (p *parser) operation(path, method string, item node) (*Operation, error) {
	source := item.child(method)
	id, _ := source.object()["operationId"].(string)
	o := &Operation{ID: id, Method: strings.ToUpper(method), Path: path, segments: strings.Split(path, "/"), responses: map[int]*response{}}
	if id == "" {
		return nil, fmt.Errorf("it has no operationId")
	}
	tags, _ := source.object()["tags"].([]any)
	for _, tag := range tags {
		o.Tags = append(o.Tags, fmt.Sprint(tag))
	}
	var err error
	for _, list := range []node{item.child("parameters"), source.child("parameters")} {
		all, _ := list.value.([]any)
		for i := range all {
			n := p.resolve(node{all[i], fmt.Sprintf("%s/%d", list.pointer, i)})
			name, _ := n.object()["name"].(string)
			in, _ := n.object()["in"].(string)
			one, err := p.parameter(name, in, n)
			if err != nil {
				return nil, err
			}
			o.parameters = slices.DeleteFunc(o.parameters, func(other parameter) bool { return other.name == name && other.in == in })
			o.parameters = append(o.parameters, one)
		}
	}
	if requestBody := p.resolve(source.child("requestBody")); requestBody.value != nil {
		o.needsBody, _ = requestBody.object()["required"].(bool)
		if o.body, err = p.content(requestBody.child("content")); err != nil {
			return nil, err
		}
	}
	responses := source.child("responses")
	for _, status := range responses.keys() {
		number, err := strconv.Atoi(status)
		if err != nil {
			return nil, fmt.Errorf("a response is described for %q, and not for one status", status)
		}
		if o.responses[number], err = p.response(p.resolve(responses.child(status))); err != nil {
			return nil, err
		}
	}
	o.security = p.security(source)
	return o, nil
}

func (p *parser) parameter(name, in string, n node) (parameter, error) {
	schema := n.child("schema")
	compiled, err := p.compile(schema)
	if err != nil {
		return parameter{}, err
	}
	required, _ := n.object()["required"].(bool)
	mayBeEmpty, _ := n.object()["allowEmptyValue"].(bool)
	return parameter{name: name, in: in, required: required, mayBeEmpty: mayBeEmpty, schema: compiled, source: flatten(p.root, schema.value), pointer: schema.pointer}, nil
}

func (p *parser) content(n node) (*content, error) {
	c := &content{byType: map[string]body{}}
	for _, mediaType := range n.keys() {
		medium := n.child(mediaType)
		if medium.object()["schema"] == nil {
			c.byType[mediaType] = body{}
			continue
		}
		schema, err := p.compile(medium.child("schema"))
		if err != nil {
			return nil, err
		}
		described := body{schema: schema, source: medium.child("schema").value, example: p.example(medium), events: map[string]body{}}
		for _, name := range medium.child("x-events").keys() {
			event := medium.child("x-events").child(name)
			if schema, err = p.compile(event); err != nil {
				return nil, err
			}
			described.events[name] = body{schema: schema, source: event.value}
		}
		c.byType[mediaType] = described
	}
	return c, nil
}

// example is a body's first example, or nil.
func (p *parser) example(medium node) any {
	if example, ok := medium.object()["example"]; ok {
		return example
	}
	examples := medium.child("examples")
	for _, name := range examples.keys() {
		return p.resolve(examples.child(name)).object()["value"]
	}
	return nil
}

func (p *parser) response(n node) (*response, error) {
	r := &response{}
	headers := n.child("headers")
	for _, name := range headers.keys() {
		header, err := p.parameter(name, "header", p.resolve(headers.child(name)))
		if err != nil {
			return nil, err
		}
		r.headers = append(r.headers, header)
	}
	var err error
	if r.content, err = p.content(n.child("content")); err != nil {
		return nil, err
	}
	if problem, ok := r.content.byType[problemType]; ok {
		r.codes = []string{"*"}
		if codes := codesOf(p.root, problem.source, "errors", "[]", "code"); codes != nil {
			r.codes = slices.Sorted(slices.Values(codes))
		}
	}
	return r, nil
}

// security returns where the credentials of an operation are sent. It is nil if it needs none.
func (p *parser) security(operation node) [][]credential {
	requirements, ok := operation.object()["security"].([]any)
	if !ok {
		requirements, _ = p.root["security"].([]any)
	}
	schemes := node{p.root, ""}.child("components").child("securitySchemes")
	var all [][]credential
	for _, requirement := range requirements {
		var together []credential
		for _, name := range (node{requirement, ""}).keys() {
			scheme := p.resolve(schemes.child(name)).object()
			if scheme["type"] == "apiKey" {
				in, _ := scheme["in"].(string)
				key, _ := scheme["name"].(string)
				together = append(together, credential{in, key})
			} else {
				together = append(together, credential{"header", "Authorization"})
			}
		}
		all = append(all, together)
	}
	return all
}

// Describes reports whether an outcome of the operation is described. Code "" is any outcome with this status.
func (o *Operation) Describes(status int, code string) bool {
	r, ok := o.responses[status]
	return ok && (code == "" || slices.Contains(r.codes, code))
}

// NeedsCredentials reports whether nobody may call the operation without credentials.
func (o *Operation) NeedsCredentials() bool {
	return len(o.security) > 0 && !slices.ContainsFunc(o.security, func(together []credential) bool { return len(together) == 0 })
}

// TakesJSON reports whether requests of the operation have a body that is JSON.
func (o *Operation) TakesJSON() bool {
	_, ok := o.jsonBody()
	return ok
}

// Takes reports whether the operation has a parameter of that name.
func (o *Operation) Takes(name string) bool {
	return slices.ContainsFunc(o.parameters, func(p parameter) bool { return p.name == name })
}

// match returns the operation for a request. Without one, it returns the methods that are described for the path.
func (d *Document) match(method string, u *url.URL) (o *Operation, values map[string]string, methods []string) {
	parts := strings.Split(strings.TrimSuffix(u.EscapedPath(), "/"), "/")
	templated := -1
	for _, candidate := range d.operations {
		found, templates, ok := candidate.matches(parts)
		switch {
		case !ok || templated >= 0 && templates > templated:
			continue
		case templated < 0 || templates < templated: // a literal path comes before a template
			templated, o, methods = templates, nil, nil
		}
		methods = append(methods, candidate.Method)
		if candidate.Method == method {
			o, values = candidate, found
		}
	}
	return o, values, methods
}

func (o *Operation) matches(parts []string) (values map[string]string, templates int, ok bool) {
	if len(parts) != len(o.segments) {
		return nil, 0, false
	}
	values = map[string]string{}
	for i, segment := range o.segments {
		if name, found := strings.CutPrefix(segment, "{"); found {
			value, err := url.PathUnescape(parts[i])
			if err != nil || value == "" {
				return nil, 0, false
			}
			values[strings.TrimSuffix(name, "}")] = value
			templates++
			continue
		}
		if segment != parts[i] {
			return nil, 0, false
		}
	}
	return values, templates, true
}

// Outcome is what an operation can lead to.
type Outcome struct {
	Operation string
	Status    int
	// Code is the code of a problem, "*" for any of a list that the document does not close, or "" for what is no problem.
	Code string
}

func (o Outcome) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s %d %s", o.Operation, o.Status, o.Code))
}

func compareOutcomes(a, b Outcome) int {
	if c := strings.Compare(a.Operation, b.Operation); c != 0 {
		return c
	}
	if a.Status != b.Status {
		return a.Status - b.Status
	}
	return strings.Compare(a.Code, b.Code)
}

// Outcomes returns all outcomes that the document describes, sorted.
func (d *Document) Outcomes() []Outcome {
	var all []Outcome
	for _, o := range d.operations {
		for status, r := range o.responses {
			if r.codes == nil {
				all = append(all, Outcome{o.ID, status, ""})
			}
			for _, code := range r.codes {
				all = append(all, Outcome{o.ID, status, code})
			}
		}
	}
	slices.SortFunc(all, compareOutcomes)
	return all
}

// problemType is the media type of refusals.
const problemType = "application/problem+json"

// readCodes returns the codes of a problem's errors.
func readCodes(h http.Header, text []byte) (codes []string) {
	if !strings.HasPrefix(h.Get("Content-Type"), problemType) {
		return nil
	}
	var p struct {
		Errors []struct {
			Code string `json:"code"`
		} `json:"errors"`
	}
	if json.Unmarshal(text, &p) != nil {
		return nil
	}
	for _, e := range p.Errors {
		codes = append(codes, e.Code)
	}
	return codes
}
