package contract

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// Exchange is a request with its response.
type Exchange struct {
	Method        string
	URL           *url.URL
	RequestHeader http.Header
	RequestBody   []byte
	// Streamed is whether the request's body is not known, because it could be read only once.
	Streamed bool

	Status         int
	ResponseHeader http.Header
	ResponseBody   []byte

	// Direct is whether a service was asked, and not the gateway: it has a part of the operations.
	Direct bool
}

// Finding is what an exchange has that the document does not describe.
type Finding struct {
	Exchange
	Operation   string // "" if the document has none for the request
	Differences []string
}

func (f Finding) String() string {
	name := f.Operation
	if name == "" {
		name = "no operation"
	}
	return fmt.Sprintf("%s (%s %s), status %d, differs from the OpenAPI document:\n  - %s\n  request: %s\n  response: %.600q",
		name, f.Method, f.URL.Path, f.Status, strings.Join(f.Differences, "\n  - "), f.Curl(), f.ResponseBody)
}

// Curl returns a command that sends the request again.
func (f Finding) Curl() string {
	quote := func(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
	line := []string{"curl -i --path-as-is -X", f.Method, quote(f.URL.String())}
	for _, name := range sortedNames(f.RequestHeader) {
		for _, value := range f.RequestHeader[name] {
			line = append(line, "-H", quote(name+": "+value))
		}
	}
	if len(f.RequestBody) > 0 {
		line = append(line, "--data-binary", quote(fmt.Sprintf("%.2000s", f.RequestBody)))
	}
	return strings.Join(line, " ")
}

func sortedNames(h http.Header) []string {
	var names []string
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// anywhere are the statuses of what refuses requests before it knows the operation: without a path or method that is described, a
// request may get one of these, too.
var anywhere = []int{400, 401, 403, 408, 413, 429, 431, 503}

// transportHeaders are the headers of any server, and those that a browser alone evaluates. The document need not describe them.
var transportHeaders = []string{
	"Connection", "Content-Encoding", "Content-Length", "Content-Type", "Date", "Keep-Alive", "Trailer", "Transfer-Encoding", "Vary",
	"Allow", "Cache-Control", "Content-Security-Policy", "Cross-Origin-Opener-Policy", "Cross-Origin-Resource-Policy", "Cross-Origin-Embedder-Policy",
	"Origin-Agent-Cluster", "Permissions-Policy", "Referrer-Policy", "Strict-Transport-Security", "X-Content-Type-Options", "X-Dns-Prefetch-Control",
	"X-Download-Options", "X-Frame-Options", "X-Permitted-Cross-Domain-Policies", "X-Xss-Protection",
}

// Check compares an exchange with the document. It returns the outcomes that it shows, and what differs.
func (d *Document) Check(x Exchange) (seen []Outcome, finding *Finding) {
	o, values, methods := d.match(x.Method, x.URL)
	if o == nil && !d.hasPrefixOf(x.URL.Path) {
		return nil, nil
	}
	if o == nil {
		if differences := d.checkUndescribed(x, methods); len(differences) > 0 {
			return nil, &Finding{Exchange: x, Differences: differences}
		}
		return nil, nil
	}
	if x.Direct && x.Status == http.StatusNotFound && slices.Equal(readCodes(x.ResponseHeader, x.ResponseBody), []string{"not_found"}) {
		return nil, nil // the service does not have this operation
	}
	var differences []string
	if x.Status == http.StatusInternalServerError {
		differences = append(differences, "a defect: no request may lead to a 500")
	}
	differences = append(differences, d.checkResponse(o, x)...)
	if x.Status/100 == 2 {
		for _, reason := range d.checkRequest(o, x, values) {
			differences = append(differences, "the document does not allow this request, and it was granted: "+reason)
		}
	}
	if r := o.responses[x.Status]; r != nil {
		seen = o.outcomes(x, r)
	}
	if len(differences) > 0 {
		finding = &Finding{Exchange: x, Operation: o.ID, Differences: differences}
	}
	return seen, finding
}

func (o *Operation) outcomes(x Exchange, r *response) (seen []Outcome) {
	if r.codes == nil {
		return []Outcome{{o.ID, x.Status, ""}}
	}
	for _, code := range readCodes(x.ResponseHeader, x.ResponseBody) {
		if slices.Equal(r.codes, []string{"*"}) {
			code = "*"
		}
		seen = append(seen, Outcome{o.ID, x.Status, code})
	}
	return seen
}

// hasPrefixOf reports whether a path begins as one of the document does. The gateway also serves pages for people, at other paths.
func (d *Document) hasPrefixOf(path string) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return slices.ContainsFunc(d.operations, func(o *Operation) bool { return o.segments[1] == first })
}

// CheckRequest returns why the document does not allow a request. Without an operation it returns nil and false.
func (d *Document) CheckRequest(x Exchange) (reasons []string, described bool) {
	o, values, _ := d.match(x.Method, x.URL)
	if o == nil {
		return nil, false
	}
	return d.checkRequest(o, x, values), true
}

// checkUndescribed checks the response to a request that has no operation. methods are those of its path.
func (d *Document) checkUndescribed(x Exchange, methods []string) (differences []string) {
	want := http.StatusNotFound
	if len(methods) > 0 {
		want = http.StatusMethodNotAllowed
	}
	switch {
	case x.Method == http.MethodHead && slices.Contains(methods, http.MethodGet):
		return nil
	case x.Direct && x.Status == http.StatusNotFound:
	case x.Status != want && !slices.Contains(anywhere, x.Status):
		return []string{fmt.Sprintf("the document has no such operation, so the status must be %d", want)}
	}
	if x.Method == http.MethodHead {
		return nil
	}
	if x.Status == http.StatusMethodNotAllowed {
		for _, method := range methods {
			if !strings.Contains(x.ResponseHeader.Get("Allow"), method) {
				differences = append(differences, fmt.Sprintf("the header Allow has %q, and not the method %s, which is described", x.ResponseHeader.Get("Allow"), method))
			}
		}
	}
	if d.problem.schema == nil {
		return differences
	}
	if mediaType, _, _ := mime.ParseMediaType(x.ResponseHeader.Get("Content-Type")); mediaType != problemType {
		return append(differences, fmt.Sprintf("the media type is %q, and not %s", mediaType, problemType))
	}
	return append(differences, d.checkClosed(d.problem, x.ResponseBody)...)
}

func (d *Document) checkResponse(o *Operation, x Exchange) (differences []string) {
	r := o.responses[x.Status]
	if r == nil {
		return []string{fmt.Sprintf("the status %d is not described (code %v)", x.Status, readCodes(x.ResponseHeader, x.ResponseBody))}
	}
	described := slices.Clone(transportHeaders)
	for _, header := range r.headers {
		name := http.CanonicalHeaderKey(header.name)
		described = append(described, name)
		values := x.ResponseHeader[name]
		if len(values) == 0 && header.required {
			differences = append(differences, fmt.Sprintf("the header %s is missing", header.name))
		}
		for _, value := range values {
			for _, reason := range header.check(value) {
				differences = append(differences, fmt.Sprintf("the header %s is %q: %s", header.name, value, reason))
			}
		}
	}
	for _, name := range sortedNames(x.ResponseHeader) {
		if !slices.Contains(described, name) {
			differences = append(differences, fmt.Sprintf("the header %s is not described", name))
		}
	}
	return append(differences, r.content.check(x.ResponseHeader, x.ResponseBody, d.checkClosed)...)
}

// check compares a body with the media types that are described.
func (c *content) check(h http.Header, text []byte, check func(body, []byte) []string) []string {
	if len(c.byType) == 0 {
		if len(text) > 0 {
			return []string{fmt.Sprintf("no body is described, and there is one: %.200q", text)}
		}
		return nil
	}
	described, ok := c.find(h.Get("Content-Type"))
	switch {
	case !ok:
		return []string{fmt.Sprintf("the media type %q is not described", h.Get("Content-Type"))}
	case described.schema == nil || !isJSON(h.Get("Content-Type")):
		return nil
	}
	return check(described, text)
}

// find returns the body that is described for a media type. A type with +json is JSON.
func (c *content) find(header string) (body, bool) {
	mediaType, parameters, err := mime.ParseMediaType(header)
	if err != nil {
		return body{}, false
	}
	if described, ok := c.byType[mediaType]; ok {
		return described, parameters["charset"] == "" || strings.EqualFold(parameters["charset"], "utf-8")
	}
	described, ok := c.byType["application/json"]
	return described, ok && strings.HasSuffix(mediaType, "+json")
}

func isJSON(header string) bool {
	mediaType, _, _ := mime.ParseMediaType(header)
	return mediaType == "application/json" || strings.HasSuffix(mediaType, "+json")
}

func (d *Document) checkRequest(o *Operation, x Exchange, values map[string]string) (reasons []string) {
	request := &http.Request{Header: x.RequestHeader}
	query := x.URL.Query()
	for _, p := range o.parameters {
		var sent []string
		switch p.in {
		case "path":
			sent = []string{values[p.name]}
		case "query":
			switch {
			case !query.Has(p.name), p.mayBeEmpty && query.Get(p.name) == "":
			case p.isList():
				if invalid := p.checkList(query[p.name]); len(invalid) > 0 {
					reasons = append(reasons, fmt.Sprintf("the query parameter %s is %q: %s", p.name, query[p.name], strings.Join(invalid, ", ")))
				}
				continue
			default: // the first one counts
				sent = []string{query.Get(p.name)}
			}
		case "header":
			sent = x.RequestHeader[http.CanonicalHeaderKey(p.name)]
		case "cookie":
			if cookie, err := request.Cookie(p.name); err == nil {
				sent = []string{cookie.Value}
			}
		}
		if len(sent) == 0 && p.required {
			reasons = append(reasons, fmt.Sprintf("the %s parameter %s is missing", p.in, p.name))
		}
		for _, value := range sent {
			for _, reason := range p.check(value) {
				reasons = append(reasons, fmt.Sprintf("the %s parameter %s is %q: %s", p.in, p.name, value, reason))
			}
		}
	}
	if !o.authenticated(request) {
		reasons = append(reasons, "it has no credentials")
	}
	switch {
	case o.body == nil || x.Streamed:
	case len(x.RequestBody) == 0 && !o.needsBody:
	case len(x.RequestBody) == 0:
		reasons = append(reasons, "it has no body")
	default:
		reasons = append(reasons, o.body.check(x.RequestHeader, x.RequestBody, d.checkOpen)...)
	}
	return reasons
}

func (o *Operation) authenticated(r *http.Request) bool {
	sent := func(c credential) bool {
		if c.in == "cookie" {
			_, err := r.Cookie(c.name)
			return err == nil
		}
		return r.Header.Get(c.name) != ""
	}
	for _, together := range o.security {
		if !slices.ContainsFunc(together, func(c credential) bool { return !sent(c) }) {
			return true
		}
	}
	return len(o.security) == 0
}

// check compares the text of a parameter or header with its schema.
func (p parameter) check(text string) []string {
	return explain(p.schema.Validate(p.value(text)))
}

// isList reports whether the parameter may be sent several times, each with one value of a list.
func (p parameter) isList() bool { return p.source["type"] == "array" }

func (p parameter) checkList(texts []string) []string {
	list := make([]any, len(texts))
	for i, text := range texts {
		list[i] = text
	}
	return explain(p.schema.Validate(list))
}

// value is what a text means in a parameter of this type.
func (p parameter) value(text string) any {
	types := fmt.Sprint(p.source["type"])
	// An integer is written in digits: as JSON, 1e2 would be one, too.
	isNumber := strings.Contains(types, "integer") && strings.Trim(strings.TrimPrefix(text, "-"), "0123456789") == "" || strings.Contains(types, "number")
	if isNumber {
		if number, err := jsonschema.UnmarshalJSON(strings.NewReader(text)); err == nil && text == strings.TrimSpace(text) {
			return number
		}
	}
	if strings.Contains(types, "boolean") && (text == "true" || text == "false") {
		return text == "true"
	}
	return text
}

// checkOpen compares a request's body with its schema. A member that is null counts as absent.
func (d *Document) checkOpen(b body, text []byte) []string {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	switch {
	case err != nil:
		return []string{fmt.Sprintf("the body is not JSON: %v", err)}
	case !utf8.Valid(text):
		return []string{"the body is not UTF-8"}
	}
	removeNull(value)
	reasons := explain(b.schema.Validate(value))
	for _, name := range d.notInDigits([]any{b.source}, value, "") {
		reasons = append(reasons, name+" is not written in digits")
	}
	return reasons
}

// removeNull removes members that are null from an object, and from the objects in it.
func removeNull(value any) {
	if members, ok := value.(map[string]any); ok {
		maps.DeleteFunc(members, func(_ string, member any) bool {
			removeNull(member)
			return member == nil
		})
	}
}

// checkClosed also finds members that the schema does not describe.
func (d *Document) checkClosed(b body, text []byte) []string {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return []string{fmt.Sprintf("the body is not JSON: %v", err)}
	}
	reasons := explain(b.schema.Validate(value))
	for _, name := range d.undescribed([]any{b.source}, value, "") {
		reasons = append(reasons, name+" is not described")
	}
	return reasons
}

// explain lists the innermost reasons of a validation error.
func explain(err error) (reasons []string) {
	var invalid *jsonschema.ValidationError
	if !errors.As(err, &invalid) {
		if err != nil {
			return []string{err.Error()}
		}
		return nil
	}
	printer := message.NewPrinter(language.English)
	var collect func(e *jsonschema.ValidationError)
	collect = func(e *jsonschema.ValidationError) {
		for _, cause := range e.Causes {
			collect(cause)
		}
		if len(e.Causes) == 0 {
			reason := e.ErrorKind.LocalizedString(printer)
			if len(e.InstanceLocation) > 0 {
				reason = "/" + strings.Join(e.InstanceLocation, "/") + ": " + reason
			}
			reasons = append(reasons, reason)
		}
	}
	collect(invalid)
	const most = 8
	return reasons[:min(most, len(reasons))]
}
