package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"reflect"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/go-playground/validator/v10"
	"github.com/gofiber/fiber/v2"

	"boxoffice/services/internal/problem"
)

// Decode decodes the request's JSON body into a T, a struct, and checks its `validate` tags. Members that T does not have are
// ignored. The problem is of kind UnsupportedMedia if the body is not declared as JSON, and otherwise Invalid, with one detail
// for each wrong member.
func Decode[T any](c *fiber.Ctx) (T, error) {
	var body T
	if err := contentTypeIsJSON(c); err != nil {
		return body, err
	}
	if err := unmarshal(c.BodyRaw(), &body); err != nil {
		return body, err
	}
	if err := validate().Struct(body); err != nil {
		return body, invalid(err, reflect.TypeFor[T]())
	}
	return body, nil
}

func contentTypeIsJSON(c *fiber.Ctx) error {
	if encoding := c.Get(fiber.HeaderContentEncoding); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return problem.New(problem.UnsupportedMedia, "unsupported_encoding", "The body must be sent without compression.").
			WithField("Content-Encoding")
	}
	mediaType, params, err := mime.ParseMediaType(c.Get(fiber.HeaderContentType))
	charset, named := params["charset"]
	isJSON := mediaType == fiber.MIMEApplicationJSON || strings.HasPrefix(mediaType, "application/") && strings.HasSuffix(mediaType, "+json")
	if err != nil || !isJSON || named && !strings.EqualFold(charset, "utf-8") {
		return problem.New(problem.UnsupportedMedia, "unsupported_media_type", "The body must be JSON: send it with the header Content-Type: application/json.").
			WithField("Content-Type")
	}
	return nil
}

func unmarshal(raw []byte, into any) error {
	switch {
	case len(bytes.TrimSpace(raw)) == 0:
		return problem.New(problem.Invalid, "not_json", "The body is empty. Send a JSON object.")
	case !utf8.Valid(raw):
		return problem.New(problem.Invalid, "not_json", "The body is not UTF-8.")
	case holdsNUL(raw):
		// Some stores cannot store it.
		return problem.New(problem.Invalid, "not_text", "The body must not hold the character U+0000.")
	case bytes.TrimSpace(raw)[0] != '{' && json.Valid(raw):
		return problem.New(problem.Invalid, "wrong_type", "The body must be a JSON object.")
	}
	err := json.Unmarshal(raw, into)
	if err == nil {
		return nil
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		field := withoutEmbedded(reflect.TypeOf(into).Elem(), wrong.Field)
		return problem.New(problem.Invalid, "wrong_type", "%s must be %s.", label(field), article(wrong)).
			WithField(field).Because(err)
	}
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return problem.New(problem.Invalid, "not_json", "The body is not valid JSON; the fault is near byte %d.", syntax.Offset).Because(err)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return problem.New(problem.Invalid, "not_json", "The body is not valid JSON: it ends too early.").Because(err)
	}
	// A type with its own decoder, like time.Time, refused its text.
	return problem.New(problem.Invalid, "wrong_type", "The body holds a value that cannot be read.").Because(err)
}

// withoutEmbedded removes the names of t's embedded structs from the path to a member, because the JSON does not have them.
func withoutEmbedded(t reflect.Type, path string) string {
	first, rest, more := strings.Cut(path, ".")
	for t.Kind() == reflect.Struct && more {
		field, found := t.FieldByName(first)
		if !found || !field.Anonymous || field.Tag.Get("json") != "" {
			break
		}
		t, path = field.Type, rest
		first, rest, more = strings.Cut(path, ".")
	}
	return path
}

// holdsNUL reports whether the JSON has the escape \u0000 with a backslash that is not itself escaped.
func holdsNUL(raw []byte) bool {
	for rest := raw; ; {
		i := bytes.Index(rest, []byte(`\u0000`))
		if i < 0 {
			return false
		}
		before := rest[:i]
		if slashes := len(before) - len(bytes.TrimRight(before, `\`)); slashes%2 == 0 {
			return true
		}
		rest = rest[i+len(`\u0000`):]
	}
}

// article returns the expected JSON type, as the end of a sentence after "must be".
func article(wrong *json.UnmarshalTypeError) string {
	switch wrong.Type.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		switch number, isNumber := strings.CutPrefix(wrong.Value, "number "); {
		case isNumber && strings.ContainsAny(number, ".eE"):
			return "a whole number, written in digits"
		case isNumber:
			return "a whole number in the range of 64 bits"
		}
		return "a whole number"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.String:
		return "a text"
	case reflect.Slice, reflect.Array:
		return "a list"
	}
	return "an object"
}

// embedded is the name of an embedded struct in the validator's paths, until it is removed.
const embedded = "~"

// validate returns the validator, of which there is one because it caches types. It has two rules besides the library's: "notblank",
// a text that is more than spaces, and "printable" (see Printable).
var validate = sync.OnceValue(func() *validator.Validate {
	v := validator.New(validator.WithRequiredStructEnabled())
	v.RegisterTagNameFunc(func(field reflect.StructField) string {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case name == "" && field.Anonymous:
			return embedded
		case name == "" || name == "-":
			return field.Name
		}
		return name
	})
	err := errors.Join(
		v.RegisterValidation("notblank", func(f validator.FieldLevel) bool {
			return strings.TrimSpace(f.Field().String()) != ""
		}),
		v.RegisterValidation("printable", func(f validator.FieldLevel) bool { return Printable(f.Field().String()) }),
	)
	if err != nil {
		panic(fmt.Sprintf("rest: a rule is not a rule: %v", err))
	}
	return v
})

// Printable reports whether a text is displayed as it is written: it has no control characters, no line ends, and none of the
// characters that change the direction of the following text (U+202A to U+202E, U+2066 to U+2069), with which a text can be
// displayed as another one. Right-to-left scripts do not need those: their letters have a direction.
func Printable(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool {
		return unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp) || '\u202A' <= r && r <= '\u202E' || '\u2066' <= r && r <= '\u2069'
	})
}

// invalid converts the validator's errors about a value of type t to a problem.
func invalid(err error, t reflect.Type) error {
	findings, ok := errors.AsType[validator.ValidationErrors](err)
	if !ok {
		return fmt.Errorf("validate a request: %w", err)
	}
	p := &problem.Error{Kind: problem.Invalid}
	for _, f := range findings {
		// The namespace begins with the name of the Go type, which clients need not see.
		_, field, _ := strings.Cut(f.Namespace(), ".")
		field = strings.ReplaceAll(field, embedded+".", "")
		p.Details = append(p.Details, problem.Detail{
			Message: label(field) + " " + demand(f, boundsOf(t, f)) + ".",
			Field:   field,
			Code:    f.Tag(),
		})
	}
	return p
}

// boundsOf returns "50 to 99999999" for a member whose rules have both a least and a greatest value, and "" otherwise.
func boundsOf(t reflect.Type, f validator.FieldError) string {
	_, path, _ := strings.Cut(f.StructNamespace(), ".") // without the name of t
	var rules string
	for name := range strings.SplitSeq(path, ".") {
		name, element, isElement := strings.Cut(name, "[")
		field, found := t.FieldByName(name)
		if !found {
			return ""
		}
		t, rules = field.Type, field.Tag.Get("validate")
		for range strings.Count(element, "]") {
			t = t.Elem()
			_, rules, _ = strings.Cut(rules, "dive,")
		}
		if !isElement {
			rules, _, _ = strings.Cut(rules, ",dive")
		}
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
	}
	var least, greatest string
	for rule := range strings.SplitSeq(rules, ",") {
		switch name, value, _ := strings.Cut(rule, "="); name {
		case "min":
			least = value
		case "max":
			greatest = value
		}
	}
	if least == "" || greatest == "" {
		return ""
	}
	return least + " to " + greatest
}

// demand returns the end of a sentence that begins with the field's name: what the rule requires. bounds are those of boundsOf.
func demand(f validator.FieldError, bounds string) string {
	counted := ""
	switch f.Kind() {
	case reflect.String:
		counted = " characters long"
	case reflect.Slice, reflect.Map, reflect.Array:
		counted = " entries long"
	}
	if tag := f.Tag(); bounds != "" && (tag == "min" || tag == "max") {
		return "must be from " + bounds + counted
	}
	switch f.Tag() {
	case "required", "required_without", "required_with", "required_if":
		return "is required"
	case "notblank":
		return "must not be blank"
	case "printable":
		return "must not have control characters, line ends or characters that change the direction of text"
	case "email":
		return "must be an email address"
	case "uuid", "uuid7":
		return "must be a UUID"
	case "url", "http_url":
		return "must be a URL"
	case "oneof":
		return "must be one of " + strings.Join(strings.Fields(f.Param()), ", ")
	case "len":
		return "must be exactly " + f.Param() + counted
	case "min", "gte":
		return "must be at least " + f.Param() + counted
	case "max", "lte":
		return "must be at most " + f.Param() + counted
	case "gt":
		return "must be more than " + f.Param() + counted
	case "lt":
		return "must be less than " + f.Param() + counted
	}
	return "is not valid"
}

// label converts a JSON name to words: "ticketId" to "Ticket id".
func label(field string) string {
	if field == "" {
		return "The body"
	}
	var words strings.Builder
	for i, r := range field {
		switch {
		case i == 0:
			words.WriteRune(unicode.ToUpper(r))
		case unicode.IsUpper(r):
			words.WriteByte(' ')
			words.WriteRune(unicode.ToLower(r))
		default:
			words.WriteRune(r)
		}
	}
	return words.String()
}
