package contract

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Request is a request that was generated.
type Request struct {
	Operation *Operation
	Method    string
	// Path is the path with its query.
	Path   string
	Header http.Header
	Body   []byte
	// Change is what differs from a request that follows the document, or "".
	Change string
}

// Generator generates requests from a document. It is not safe for concurrent use.
type Generator struct {
	document *Document
	chance   *rand.Rand
	value    func(o *Operation, name string) (any, bool)
}

// NewGenerator returns a generator. value returns a value for a parameter or a member of a body that the document cannot know, as the id of
// something that exists. The same chance and values give the same requests.
func NewGenerator(d *Document, chance *rand.Rand, value func(o *Operation, name string) (any, bool)) *Generator {
	return &Generator{document: d, chance: chance, value: value}
}

// Valid returns a request that follows the document, without credentials.
func (g *Generator) Valid(o *Operation) Request {
	p := g.parts(o)
	return p.request()
}

// Sample returns a request of the operation with the first example of its body, and no parameter that it does not need.
func (g *Generator) Sample(o *Operation) Request {
	p := parts{operation: o, path: map[string]string{}, query: url.Values{}, header: http.Header{}}
	for _, parameter := range o.parameters {
		if parameter.required {
			p.set(parameter, g.texts(o, parameter))
		}
	}
	g.setFile(&p)
	if described, ok := o.jsonBody(); ok {
		p.header.Set("Content-Type", "application/json")
		if p.body = clone(described.example); p.body == nil {
			p.body = g.generate(described.source, "", 0)
		}
		if members, ok := p.body.(map[string]any); ok {
			for name := range members {
				if known, ok := g.value(o, name); ok {
					members[name] = known
				}
			}
			p.body = members
		}
	}
	return p.request()
}

// AlmostValid returns a request that differs from a valid one at one place. It may still be valid.
func (g *Generator) AlmostValid(o *Operation) Request {
	p := g.parts(o)
	var changes []func(*parts) string
	if len(p.path) > 0 {
		changes = append(changes, g.changePath)
	}
	if slices.ContainsFunc(o.parameters, func(one parameter) bool { return one.in == "query" }) {
		changes = append(changes, g.changeQuery)
	}
	if p.raw != nil {
		changes = append(changes, g.changeFile, g.changeFile, g.changeMediaType)
	}
	if p.body != nil {
		changes = append(changes, g.changeMember, g.changeMember, g.changeMember, g.changeBody, g.changeMediaType)
	}
	changes = append(changes, g.changeHeader)
	change := pick(g, changes)(&p)
	r := p.request()
	r.Change = change
	return r
}

// parts are a request before it is written.
type parts struct {
	operation *Operation
	path      map[string]string
	query     url.Values
	header    http.Header
	body      any
	raw       []byte // in the place of body
}

func (p *parts) set(one parameter, texts []string) {
	switch one.in {
	case "path":
		p.path[one.name] = texts[0]
	case "query":
		p.query[one.name] = texts
	case "header":
		p.header.Set(one.name, texts[0])
	}
}

func (p *parts) request() Request {
	path := p.operation.Path
	for name, value := range p.path {
		path = strings.ReplaceAll(path, "{"+name+"}", url.PathEscape(value))
	}
	if len(p.query) > 0 {
		path += "?" + p.query.Encode()
	}
	body := p.raw
	if body == nil && p.body != nil {
		body, _ = json.Marshal(p.body)
	}
	return Request{Operation: p.operation, Method: p.operation.Method, Path: path, Header: p.header, Body: body}
}

func (o *Operation) jsonBody() (body, bool) {
	if o.body == nil {
		return body{}, false
	}
	described, ok := o.body.byType["application/json"]
	return described, ok
}

func (g *Generator) parts(o *Operation) parts {
	p := parts{operation: o, path: map[string]string{}, query: url.Values{}, header: http.Header{}}
	for _, one := range o.parameters {
		if one.required || g.chance.IntN(2) == 0 {
			p.set(one, g.texts(o, one))
		}
	}
	g.setFile(&p)
	if described, ok := o.jsonBody(); ok {
		p.header.Set("Content-Type", "application/json")
		p.body = g.generate(described.source, "", 0)
	}
	return p
}

// setFile gives the request a body that is not JSON: the value that is named for one of its media types.
func (g *Generator) setFile(p *parts) {
	if p.operation.body == nil || p.operation.TakesJSON() {
		return
	}
	var types []string
	for mediaType := range p.operation.body.byType {
		if _, known := g.value(p.operation, mediaType); known {
			types = append(types, mediaType)
		}
	}
	slices.Sort(types)
	if len(types) > 0 {
		mediaType := pick(g, types)
		file, _ := g.value(p.operation, mediaType)
		p.raw, _ = file.([]byte)
		p.header.Set("Content-Type", mediaType)
	}
}

// texts returns the values of a parameter: one, except for a list.
func (g *Generator) texts(o *Operation, p parameter) []string {
	if _, known := g.value(o, p.name); known || !p.isList() {
		return []string{g.text(o, p)}
	}
	list, _ := g.generate(p.source, p.name, 0).([]any)
	texts := []string{}
	for _, value := range list {
		texts = append(texts, fmt.Sprint(value))
	}
	return texts
}

// text returns a value of a parameter.
func (g *Generator) text(o *Operation, p parameter) string {
	if known, ok := g.value(o, p.name); ok {
		return fmt.Sprint(known)
	}
	value := g.generate(p.source, p.name, 0)
	if text, ok := value.(string); ok {
		return strings.Map(func(r rune) rune { // what a header can have
			if r < ' ' || r > '~' {
				return 'x'
			}
			return r
		}, text)
	}
	return fmt.Sprint(value)
}

// generate returns a value that matches a schema, as far as keywords allow to know: a pattern is followed by its examples alone.
func (g *Generator) generate(schema any, name string, depth int) any {
	if name != "" && g.chance.IntN(10) > 0 {
		if known, ok := g.value(nil, name); ok {
			return known
		}
	}
	flat := flattenChoice(g.document.root, schema, g.chance.IntN, 0)
	if value, ok := flat["const"]; ok {
		return value
	}
	if values, _ := flat["enum"].([]any); len(values) > 0 {
		return pick(g, values)
	}
	if examples, _ := flat["examples"].([]any); len(examples) > 0 && (flat["pattern"] != nil || g.chance.IntN(3) == 0) {
		return clone(pick(g, examples))
	}
	kind := flat["type"]
	if kinds, ok := kind.([]any); ok && len(kinds) > 0 {
		kind = pick(g, kinds)
	}
	switch kind {
	case "object":
		return g.object(flat, depth)
	case "array":
		return g.array(flat, name, depth)
	case "integer", "number":
		return g.number(flat)
	case "boolean":
		return g.chance.IntN(2) == 0
	case "null":
		return nil
	}
	return g.string(flat)
}

func (g *Generator) object(flat map[string]any, depth int) any {
	object := map[string]any{}
	required, _ := flat["required"].([]any)
	for _, name := range (node{flat["properties"], ""}).keys() {
		if slices.Contains(required, any(name)) || depth < 4 && g.chance.IntN(2) == 0 {
			object[name] = g.generate(flat["properties"].(map[string]any)[name], name, depth+1)
		}
	}
	return object
}

func (g *Generator) array(flat map[string]any, name string, depth int) any {
	least, most := bound(flat, "minItems", 0), bound(flat, "maxItems", 3)
	list := []any{}
	for range int(least) + g.chance.IntN(int(max(1, most-least+1))) {
		item := g.generate(flat["items"], "", depth+1)
		if flat["uniqueItems"] == true && slices.Contains(list, item) {
			continue
		}
		list = append(list, item)
	}
	return list
}

// bound returns a numeric keyword of a schema, or another value.
func bound(flat map[string]any, keyword string, otherwise int64) int64 {
	if number, ok := flat[keyword].(json.Number); ok {
		if value, err := number.Int64(); err == nil {
			return value
		}
	}
	return otherwise
}

func (g *Generator) number(flat map[string]any) any {
	least, most := bound(flat, "minimum", 0), bound(flat, "maximum", 1<<31)
	switch g.chance.IntN(4) {
	case 0:
		return least
	case 1:
		return most
	}
	return least + g.chance.Int64N(max(1, most-least))
}

// letters are what texts are made of: several scripts, a letter with a mark of its own, one outside of the first plane, and quotes.
var letters = []rune("abcdefghij XYZ 0123456789 äßéñ 東京 Ωж e\u0301 🎫 \"'<>&/\\%")

func (g *Generator) string(flat map[string]any) string {
	switch flat["format"] {
	case "uuid":
		return fmt.Sprintf("0197a1b2-c3d4-7%03x-8%03x-%012x", g.chance.IntN(1<<12), g.chance.IntN(1<<12), g.chance.Int64N(1<<48))
	case "email":
		return fmt.Sprintf("generated-%x@example.com", g.chance.Int64())
	case "uri":
		return fmt.Sprintf("https://receiver-%x.invalid/events", g.chance.IntN(1000))
	}
	least := bound(flat, "minLength", 0)
	most := bound(flat, "maxLength", least+30)
	length := least + g.chance.Int64N(max(1, min(most-least, 30)+1))
	if g.chance.IntN(5) == 0 {
		length = most
	}
	text := make([]rune, length)
	for i := range text {
		text[i] = pick(g, letters)
	}
	if length > 0 { // a text of spaces alone is refused in many places, and changeMember makes one
		text[0] = 'T'
		text[length-1] = 'x'
	}
	return string(text)
}

func pick[T any](g *Generator, list []T) T { return list[g.chance.IntN(len(list))] }

// odd values, each of which some program has failed at.
var (
	oddIDs = []string{
		"nonsense", "0", "-1", "null", "undefined", "00000000-0000-0000-0000-000000000000", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", "{0197a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b}",
		"0197A1B2-C3D4-7E5F-8A9B-0C1D2E3F4A5B", "0197a1b2c3d47e5f8a9b0c1d2e3f4a5b", "urn:uuid:0197a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b", "..", ".", "a/b", "%", "%00", "\x00", "\xff", " ",
		"0197a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b ", "0197a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b\n", "🎫", "'; --", "journal/registry", "ticket||1", strings.Repeat("x", 300), "*", "?", "#",
	}
	oddNumbers = []string{
		"0", "-1", "-0", "1.0", "1.5", "1e2", "1E400", "-1e400", "49", "50", "99999999", "100000000", "2147483647", "2147483648", "9007199254740993", "9223372036854775807", "9223372036854775808",
		"99999999999999999999999999999999", "0.1e1", "1e-400",
	}
	oddTexts = []string{
		"", " ", "\t", "\n", "a\nb", "\x00", "a\x00b", "\u007f", "\u0085", "\u00a0", "\u200b", "\u202e", "\u2066abc", "\ufeff", "\ufffd", "\ufffe", "e\u0301", "🎫", "👩‍👩‍👧", "İ", "ß", "ﬃ",
		"null", "true", "0", "{}", "[]", "<script>", "' OR 1=1 --", "../../etc", "${jndi:x}", "%s%n", strings.Repeat("é", 201), strings.Repeat("x", 10_000), strings.Repeat("🎫", 200),
	}
	oddQueries    = []string{"", "0", "1", "-1", "200", "201", "1000", "1.5", "1e2", "+1", " 1", "1 ", "0x10", "٣", "abc", "null", "99999999999999999999", "\x00", "\xff", "🎫", strings.Repeat("x", 257), strings.Repeat("9", 300), "e30", "AAAA", "=="}
	oddHeaders    = []string{`"1"`, "1", `W/"1"`, "*", `"1", "2"`, `""`, `"`, `"-1"`, `"0"`, `"99999999999999999999"`, "abc", "\xff\xfe", "é", "a b", strings.Repeat("k", 255), strings.Repeat("k", 256), strings.Repeat("k", 2000), "..", "a/b", "||"}
	oddMediaTypes = []string{"text/plain", "application/json; charset=utf-16", "application/json;", "application/jsonp", "json", "application/x-www-form-urlencoded", "application/json, text/plain", "multipart/form-data", "application/problem+json", "*/*", "application/json; charset=\"utf-8\"", "APPLICATION/JSON"}
)

func (g *Generator) changePath(p *parts) string {
	name := pick(g, (node{anyMap(p.path), ""}).keys())
	p.path[name] = pick(g, oddIDs)
	return fmt.Sprintf("the path parameter %s is %.40q", name, p.path[name])
}

func anyMap(texts map[string]string) map[string]any {
	all := map[string]any{}
	for name, text := range texts {
		all[name] = text
	}
	return all
}

func (g *Generator) changeQuery(p *parts) string {
	var names []string
	for _, one := range p.operation.parameters {
		if one.in == "query" {
			names = append(names, one.name)
		}
	}
	name := pick(g, names)
	if g.chance.IntN(8) == 0 {
		p.query.Del(name)
		return "no query parameter " + name
	}
	p.query.Set(name, pick(g, oddQueries))
	return fmt.Sprintf("the query parameter %s is %.40q", name, p.query.Get(name))
}

func (g *Generator) changeHeader(p *parts) string {
	names := []string{"Authorization", "Cookie", "Accept", "Accept-Encoding", "Content-Encoding", "Range", "If-Match", "If-None-Match", "Idempotency-Key", "X-Request-Id", "Traceparent", "X-Forwarded-For", "Origin", "Sec-Fetch-Site", "X-HTTP-Method-Override"}
	for _, one := range p.operation.parameters {
		if one.in == "header" {
			names = append(names, one.name, one.name)
		}
	}
	name := pick(g, names)
	value := pick(g, oddHeaders)
	switch name {
	case "Authorization":
		value = pick(g, []string{"Bearer", "Bearer ", "Bearer nonsense", "Bearer a.b.c", "Basic dTpw", "bearer", "Bearer " + strings.Repeat("x", 4000), "Bearer eyJhbGciOiJub25lIn0.e30."})
	case "Cookie":
		value = pick(g, []string{"jwt=", "jwt=nonsense", "refresh=", "refresh=nonsense.nonsense", "refresh=" + strings.Repeat("x", 3000), "=", ";;;", "jwt"})
	case "Content-Encoding":
		value = pick(g, []string{"gzip", "br", "identity", "gzip, gzip", "nonsense"})
	case "Sec-Fetch-Site":
		value = pick(g, []string{"same-origin", "none", "same-site", "cross-site", "nonsense"})
	case "Traceparent":
		value = pick(g, []string{"00-00000000000000000000000000000000-0000000000000000-01", "nonsense"})
	}
	p.header.Set(name, value)
	return fmt.Sprintf("the header %s is %.40q", name, value)
}

func (g *Generator) changeMediaType(p *parts) string {
	p.header.Set("Content-Type", pick(g, oddMediaTypes))
	return "the media type is " + p.header.Get("Content-Type")
}

// changeMember changes a member of the body, at any depth.
func (g *Generator) changeMember(p *parts) string {
	object, ok := p.body.(map[string]any)
	if !ok {
		return g.changeBody(p)
	}
	at := ""
	for {
		names := (node{object, ""}).keys()
		if len(names) == 0 {
			object["extra"] = true
			return at + " has another member"
		}
		name := pick(g, names)
		inner, nested := object[name].(map[string]any)
		if nested && g.chance.IntN(2) == 0 {
			object, at = inner, at+"/"+name
			continue
		}
		at += "/" + name
		switch g.chance.IntN(8) {
		case 0:
			delete(object, name)
			return at + " is absent"
		case 1:
			object[name] = nil
			return at + " is null"
		case 2:
			object["extra"] = pick(g, oddTexts)
			return "another member"
		case 3:
			object[name] = pick(g, []any{true, []any{}, map[string]any{}, []any{object[name]}, map[string]any{"a": object[name]}})
			return at + " has another type"
		case 4, 5:
			number := pick(g, oddNumbers)
			if g.chance.IntN(4) == 0 {
				object[name] = number
				return fmt.Sprintf("%s is the text %q", at, number)
			}
			object[name] = json.RawMessage(number)
			return fmt.Sprintf("%s is %s", at, number)
		}
		text := pick(g, oddTexts)
		if list, ok := object[name].([]any); ok && g.chance.IntN(2) == 0 {
			object[name] = append(list, text)
			return fmt.Sprintf("%s also has %.40q", at, text)
		}
		object[name] = text
		return fmt.Sprintf("%s is %.40q", at, text)
	}
}

// changeBody replaces the body, or breaks its text.
func (g *Generator) changeBody(p *parts) string {
	text, _ := json.Marshal(p.body)
	bodies := map[string][]byte{
		"a list":             []byte("[" + string(text) + "]"),
		"an empty list":      []byte("[]"),
		"null":               []byte("null"),
		"a number":           []byte("7"),
		"a text":             []byte(`"text"`),
		"an empty object":    []byte("{}"),
		"no body":            {},
		"spaces":             []byte("  "),
		"cut off":            text[:len(text)-1],
		"twice":              append(slices.Clone(text), text...),
		"a byte order mark":  append([]byte("\xef\xbb\xbf"), text...),
		"spaces around it":   append(append([]byte("\r\n\t "), text...), ' ', '\n'),
		"not UTF-8":          bytes.ReplaceAll(text, []byte(`":"`), []byte("\":\"\xff")),
		"half a surrogate":   bytes.ReplaceAll(text, []byte(`":"`), []byte(`":"\ud800`)),
		"deep":               []byte(`{"a":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "}"),
		"a member twice":     []byte("{" + strings.TrimSuffix(string(text[1:]), "}") + "," + string(text[1:])),
		"single quotes":      bytes.ReplaceAll(text, []byte(`"`), []byte("'")),
		"with a comma":       append(slices.Clone(text[:len(text)-1]), ",}"...),
		"with a comment":     append(slices.Clone(text), "// comment"...),
		"U+0000":             bytes.ReplaceAll(text, []byte(`":"`), []byte(`":"\u0000`)),
		"as a form":          []byte("title=x&price=" + strconv.Itoa(g.chance.IntN(100))),
		"longer than it may": []byte(`{"a":"` + strings.Repeat("x", 70_000) + `"}`),
	}
	var names []string
	for name := range bodies {
		names = append(names, name)
	}
	slices.Sort(names)
	name := pick(g, names)
	p.raw = bodies[name]
	if len(text) < 3 || !utf8.Valid(text) {
		p.raw = []byte("{}")
	}
	return "the body is " + name
}

// changeFile replaces a body that is not JSON, or breaks it.
func (g *Generator) changeFile(p *parts) string {
	file := p.raw
	flipped := slices.Clone(file)
	flipped[g.chance.IntN(len(flipped))] ^= byte(1 + g.chance.IntN(255))
	files := map[string][]byte{
		"empty":         {},
		"one byte":      {0},
		"cut off":       file[:g.chance.IntN(len(file))],
		"a changed one": flipped,
		"twice":         append(slices.Clone(file), file...),
		"text":          []byte("<svg onload=alert(1)>"),
		"zeros":         make([]byte, 100_000),
	}
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	name := pick(g, names)
	p.raw = files[name]
	return "the body is " + name
}

// clone copies a value of the document, which is shared, so that it can be changed.
func clone(value any) any {
	switch value := value.(type) {
	case map[string]any:
		members := map[string]any{}
		for name, member := range value {
			members[name] = clone(member)
		}
		return members
	case []any:
		list := make([]any, len(value))
		for i, item := range value {
			list[i] = clone(item)
		}
		return list
	}
	return value
}
