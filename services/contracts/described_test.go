package contracts

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/sources"
)

// These tests compare openapi.yaml with the sources of the services. The end-to-end tests compare it with what they answer.

// restDocument is the document of the REST API, without types.
func restDocument(t *testing.T) map[string]any {
	t.Helper()
	var document map[string]any
	require.NoError(t, json.Unmarshal(OpenAPI(), &document))
	return document
}

// at returns the value at a path of members: at(document, "components", "schemas").
func at(t *testing.T, value any, members ...string) any {
	t.Helper()
	for _, member := range members {
		object, _ := value.(map[string]any)
		require.Contains(t, object, member)
		value = object[member]
	}
	return value
}

var (
	pathParameter = regexp.MustCompile(`\{\w+\}|:\w+`)
	routeGroup    = regexp.MustCompile(`(\w+) := app\.Group\("([^"]+)"`)
	route         = regexp.MustCompile(`(\w+)\.(Get|Post|Put|Delete|get|post|put|delete)\("(/[^"]*)"`)
	ownDocument   = regexp.MustCompile(`"(/api/(?:openapi|asyncapi|docs|schemas)[^"]*)"`)
	// publicRoute are those that the gateway lets clients call. Others are of the sidecar, or between services.
	publicRoute = regexp.MustCompile(`^(/api/|/healthz$|/readyz$|/\.well-known/(?:passes/)?jwks\.json$)`)
)

func TestOpenAPI_HasTheRoutesOfTheServices(t *testing.T) {
	described := map[string]bool{}
	for path, item := range at(t, restDocument(t), "paths").(map[string]any) {
		for method := range item.(map[string]any) {
			if method != "parameters" {
				described[strings.ToUpper(method)+" "+pathParameter.ReplaceAllString(path, "{}")] = true
			}
		}
	}

	registered := map[string]bool{}
	add := func(path string, source []byte) {
		groups := map[string]string{}
		for _, group := range routeGroup.FindAllSubmatch(source, -1) {
			groups[string(group[1])] = string(group[2])
		}
		for _, found := range route.FindAllSubmatch(source, -1) {
			if full := strings.TrimSuffix(groups[string(found[1])]+string(found[3]), "/"); publicRoute.MatchString(full) {
				registered[strings.ToUpper(string(found[2]))+" "+pathParameter.ReplaceAllString(full, "{}")] = true
			}
		}
		if strings.Contains(path, "gateway") {
			for _, found := range ownDocument.FindAllSubmatch(source, -1) {
				full := string(found[1])
				if asset, isAsset := strings.CutPrefix(full, "/api/docs/"); isAsset && asset != "events" {
					full = "/api/docs/{}"
				}
				registered["GET "+pathParameter.ReplaceAllString(full, "{}")] = true
			}
		}
	}
	sources.Each(t, "", add)
	for _, path := range typeScriptSources(t) {
		source, err := os.ReadFile(path)
		require.NoError(t, err)
		add(path, source)
	}
	registered["GET /.well-known/jwks.json"] = true // identity registers it by a constant, and the gateway the schemas by their ids
	registered["GET /api/schemas/{}/{}"] = true

	require.ElementsMatch(t, slices.Collect(maps.Keys(registered)), slices.Collect(maps.Keys(described)))
}

// typeScriptSources returns the paths of the sources of services in TypeScript, except tests.
func typeScriptSources(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(sources.Services(t), "*/src/*.ts"))
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	return paths
}

// notSent are codes that no client gets.
var notSent = map[string]string{
	"window_open": "orders handles the event again later",
}

func TestOpenAPI_HasTheCodesOfTheSources(t *testing.T) {
	described := map[string]bool{}
	for code := range at(t, restDocument(t), "x-codes").(map[string]any) {
		described[code] = true
	}

	used := map[string]bool{}
	newProblem := regexp.MustCompile(`problem\.New\(problem\.\w+, "(\w+)"`)
	rules := regexp.MustCompile(`json:"[^"]*" validate:"([^"]*)"`) // the code is the rule that a field breaks
	sources.Each(t, "", func(_ string, source []byte) {
		for _, code := range newProblem.FindAllSubmatch(source, -1) {
			used[string(code[1])] = true
		}
		for _, field := range rules.FindAllSubmatch(source, -1) {
			for rule := range strings.SplitSeq(string(field[1]), ",") {
				if code, _, _ := strings.Cut(rule, "="); code != "omitempty" {
					used[code] = true
				}
			}
		}
	})
	inTypeScript := regexp.MustCompile(`\bcode: "(\w+)"`) // its compiler compares them with the document
	for _, path := range typeScriptSources(t) {
		source, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, code := range inTypeScript.FindAllSubmatch(source, -1) {
			used[string(code[1])] = true
		}
	}
	for code := range notSent {
		require.True(t, used[code], "no source has the code %s", code)
		delete(used, code)
	}
	require.Equal(t, used, described)
}

// Each code of an operation stands in x-codes with the operation's status, and each in x-codes is one of an operation.
func TestOpenAPI_ExplainsEachCodeOfItsOperations(t *testing.T) {
	document := restDocument(t)
	used := map[string]map[string]bool{}
	use := func(status string, codes []string) {
		for _, code := range codes {
			if used[code] == nil {
				used[code] = map[string]bool{}
			}
			used[code][status] = true
		}
	}
	for path, item := range at(t, document, "paths").(map[string]any) {
		for method, operation := range item.(map[string]any) {
			if method == "parameters" {
				continue
			}
			for status, response := range at(t, operation, "responses").(map[string]any) {
				if status[0] < '4' {
					continue
				}
				codes := codesIn(t, document, response)
				if status == "402" {
					require.Empty(t, codes, "the bank's codes are an open list")
					continue
				}
				require.NotEmpty(t, codes, "%s %s %s has no codes", method, path, status)
				use(status, codes)
			}
		}
	}
	for status, response := range document["x-unrouted"].(map[string]any) {
		use(status, codesIn(t, document, response))
	}

	explained := map[string]map[string]bool{}
	for code, entry := range at(t, document, "x-codes").(map[string]any) {
		require.NotEmpty(t, at(t, entry, "means"), code)
		require.NotEmpty(t, at(t, entry, "do"), code)
		explained[code] = map[string]bool{}
		for _, status := range at(t, entry, "status").([]any) {
			explained[code][strconv.Itoa(int(status.(float64)))] = true
		}
	}
	require.Equal(t, explained, used)
}

// referenced returns what a reference such as "#/components/schemas/Order" names.
func referenced(t *testing.T, document map[string]any, reference string) any {
	t.Helper()
	return at(t, document, strings.Split(strings.TrimPrefix(reference, "#/"), "/")...)
}

// codesIn returns the values of the enumerations of errors[].code in a response.
func codesIn(t *testing.T, document map[string]any, value any) (codes []string) {
	t.Helper()
	switch value := value.(type) {
	case map[string]any:
		if reference, found := value["$ref"].(string); found {
			return codesIn(t, document, referenced(t, document, reference))
		}
		if properties, found := value["properties"].(map[string]any); found {
			if code, found := properties["code"]; found {
				return enumerated(t, document, code)
			}
		}
		for _, member := range value {
			codes = append(codes, codesIn(t, document, member)...)
		}
	case []any:
		for _, entry := range value {
			codes = append(codes, codesIn(t, document, entry)...)
		}
	}
	return codes
}

// enumerated returns the values of all enumerations in a schema.
func enumerated(t *testing.T, document map[string]any, schema any) (values []string) {
	t.Helper()
	switch schema := schema.(type) {
	case map[string]any:
		if reference, found := schema["$ref"].(string); found {
			return enumerated(t, document, referenced(t, document, reference))
		}
		for keyword, member := range schema {
			if keyword == "enum" {
				for _, value := range member.([]any) {
					values = append(values, value.(string))
				}
				continue
			}
			values = append(values, enumerated(t, document, member)...)
		}
	case []any:
		for _, entry := range schema {
			values = append(values, enumerated(t, document, entry)...)
		}
	}
	return values
}

// Bounds that clients rely on are those of the sources.
func TestOpenAPI_HasTheBoundsOfTheSources(t *testing.T) {
	document := restDocument(t)
	schema := func(name string, members ...string) any {
		return at(t, document, append([]string{"components", "schemas", name}, members...)...)
	}
	parameter := func(name, keyword string) any {
		return at(t, document, "components", "parameters", name, "schema", keyword)
	}
	for _, bound := range []struct {
		described any
		file      string
		source    string // with one number
	}{
		{parameter("Limit", "default"), "internal/rest/paging.go", `defaultLimit += (\d+)`},
		{parameter("Limit", "maximum"), "internal/rest/paging.go", `maxLimit += (\d+)`},
		{parameter("Cursor", "maxLength"), "internal/rest/paging.go", `longestCursor = (\d+)`},
		{parameter("IdempotencyKey", "maxLength"), "internal/idempotency/idempotency.go", `maxKeyLength = (\d+)`},
		{parameter("Limit", "default"), "webhooks/src/decode.ts", `defaultLimit = (\d+)`},
		{parameter("Limit", "maximum"), "webhooks/src/decode.ts", `maxLimit = (\d+)`},
		{parameter("Cursor", "maxLength"), "webhooks/src/decode.ts", `longestCursor = (\d+)`},
		{parameter("IdempotencyKey", "maxLength"), "webhooks/src/decode.ts", `longestKey = (\d+)`},
		{schema("NewTicket", "properties", "title", "maxLength"), "tickets/api.go", `json:"title" validate:".*max=(\d+)"`},
		{schema("NewTicket", "properties", "price", "minimum"), "tickets/main.go", `"MIN_PRICE" envDefault:"(\d+)"`},
		{schema("NewTicket", "properties", "price", "maximum"), "tickets/main.go", `"MIN_PRICE" .*max=(\d+)"`},
		{schema("NewTicket", "properties", "faceValue", "maximum"), "tickets/api.go", `json:"faceValue" validate:".*max=(\d+)"`},
		{schema("Place", "properties", "number", "maxLength"), "tickets/api.go", `json:"number" validate:".*max=(\d+)"`},
		{schema("NewShow", "properties", "name", "maxLength"), "catalogue/api.go", `json:"name" validate:".*max=(\d+)"`},
		{schema("NewShow", "properties", "city", "maxLength"), "catalogue/api.go", `json:"city" validate:".*max=(\d+)"`},
		{schema("NewShow", "properties", "maxMarkup", "maximum"), "catalogue/api.go", `json:"maxMarkup" validate:".*max=(\d+)"`},
		{schema("NewShow", "properties", "description", "maxLength"), "catalogue/show.go", `longestDescription = (\d+)`},
		{schema("NewShow", "properties", "timeZone", "maxLength"), "catalogue/show.go", `longestTimeZone = (\d+)`},
		{parameter("CatalogueLimit", "default"), "catalogue/pages.go", `defaultPage, longestPage = (\d+), `},
		{parameter("CatalogueLimit", "maximum"), "catalogue/pages.go", `defaultPage, longestPage = \d+, (\d+)`},
		{parameter("Query", "maxLength"), "catalogue/pages.go", `longestQuery, longestCity, longestSection = (\d+)`},
		{parameter("LiveShows", "maxItems"), "catalogue/live/api.go", `maxShows = (\d+)`},
		{schema("NewAccount", "properties", "password", "maxLength"), "auth/user.go", `longestPassword += (\d+)`},
		{schema("NewPayment", "properties", "paymentMethod", "maxLength"), "payments/api.go", `json:"paymentMethod" .*max=(\d+)"`},
		{schema("NewPayment", "properties", "token", "maxLength"), "payments/api.go", `json:"token" .*max=(\d+)"`},
		{schema("NewPayment", "properties", "returnUrl", "maxLength"), "payments/api.go", `json:"returnUrl" .*max=(\d+)"`},
		{schema("NewWebhook", "properties", "description", "maxLength"), "webhooks/src/decode.ts", `longestDescription = (\d+)`},
		{schema("NewWebhook", "properties", "url", "maxLength"), "webhooks/src/network.ts", `longestUrl = (\d+)`},
	} {
		text, err := os.ReadFile(filepath.Join(sources.Services(t), bound.file))
		require.NoError(t, err)
		found := regexp.MustCompile(bound.source).FindSubmatch(text)
		require.NotNil(t, found, "%s has no %s", bound.file, bound.source)
		require.EqualValues(t, string(found[1]), strconv.Itoa(int(bound.described.(float64))), "%s: %s", bound.file, bound.source)
	}
	description := at(t, document, "info", "description").(string)
	for file, setting := range map[string]string{
		"internal/service/config.go": `"BODY_LIMIT" envDefault:"65536"`,
		"auth/main.go":               `"TOKEN_LIFETIME" envDefault:"1h"`,
		"orders/main.go":             `"RESERVATION_WINDOW" envDefault:"15m"`,
		"gateway/main.go":            `"UPSTREAM_TIMEOUT" envDefault:"20s"`,
		"catalogue/image.go":         `maxUpload = 2_000_000`,
		"catalogue/live/frame.go":    `retry: 2000`,
	} {
		text, err := os.ReadFile(filepath.Join(sources.Services(t), file))
		require.NoError(t, err)
		require.Contains(t, string(text), setting, "the document names this default, too")
	}
	for _, words := range []string{"65,536 bytes", "images: 2,000,000", "for 30 days", "gateway waits 20 s"} {
		require.Contains(t, description, words)
	}
}

// A page that shows the document would otherwise make up a body, or take the example of another error.
func TestOpenAPI_EachErrorAndEachBodyHasAnExample(t *testing.T) {
	document := restDocument(t)
	resolved := func(value any) any {
		if reference, found := value.(map[string]any)["$ref"].(string); found {
			return referenced(t, document, reference)
		}
		return value
	}
	shown := map[string]bool{}
	for path, item := range at(t, document, "paths").(map[string]any) {
		for method, operation := range item.(map[string]any) {
			if method == "parameters" {
				continue
			}
			name := method + " " + path
			for status, response := range at(t, operation, "responses").(map[string]any) {
				if status[0] < '4' {
					continue
				}
				problems := examplesOf(at(t, resolved(response), "content", "application/problem+json"))
				require.NotEmpty(t, problems, "%s %s", name, status)
				for _, example := range problems {
					example := at(t, resolved(example), "value")
					require.Equal(t, status, fmt.Sprint(at(t, example, "status")), name)
					for _, detail := range at(t, example, "errors").([]any) {
						shown[at(t, detail, "code").(string)] = true
					}
				}
			}
			body, found := operation.(map[string]any)["requestBody"]
			if !found || path == "/api/payments/webhook" { // its body is Stripe's
				continue
			}
			if medium, found := at(t, body, "content").(map[string]any)["application/json"]; found {
				ofSchema := resolved(at(t, medium, "schema")).(map[string]any)["examples"]
				require.True(t, len(examplesOf(medium)) > 0 || ofSchema != nil, name)
			}
		}
	}
	for code := range at(t, document, "x-codes").(map[string]any) {
		if code != "method_not_allowed" { // no operation has it
			require.True(t, shown[code], "no example has the code %s", code)
		}
	}
}

// examplesOf returns the examples of a media type, as Example Objects.
func examplesOf(medium any) (examples []any) {
	object := medium.(map[string]any)
	if example, found := object["example"]; found {
		examples = append(examples, map[string]any{"value": example})
	}
	named, _ := object["examples"].(map[string]any)
	for _, example := range named {
		examples = append(examples, example)
	}
	return examples
}

// Every example fits its schema: those of schemas, parameters, headers and bodies.
func TestOpenAPI_ExamplesFitTheirSchemas(t *testing.T) {
	document := restDocument(t)
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	compiler.AssertFormat()
	require.NoError(t, compiler.AddResource("openapi.json", document))
	checked := 0
	check := func(pointer string, examples ...any) {
		schema, err := compiler.Compile("openapi.json#" + pointer)
		require.NoError(t, err, pointer)
		for _, example := range examples {
			checked++
			require.NoError(t, schema.Validate(example), "the example at %s", pointer)
		}
	}
	var walk func(pointer string, value any)
	walk = func(pointer string, value any) {
		switch value := value.(type) {
		case map[string]any:
			if examples, found := value["examples"].([]any); found {
				check(pointer, examples...)
			}
			if _, found := value["schema"]; found {
				if example, found := value["example"]; found {
					check(pointer+"/schema", example)
				}
				if examples, found := value["examples"].(map[string]any); found {
					for _, example := range examples {
						if reference, found := example.(map[string]any)["$ref"].(string); found {
							example = referenced(t, document, reference)
						}
						check(pointer+"/schema", at(t, example, "value"))
					}
				}
			}
			for name, member := range value {
				if name == "examples" || name == "example" {
					continue
				}
				walk(pointer+"/"+strings.NewReplacer("~", "~0", "/", "~1").Replace(name), member)
			}
		case []any:
			for i, entry := range value {
				walk(pointer+"/"+strconv.Itoa(i), entry)
			}
		}
	}
	walk("", document)
	require.Greater(t, checked, 30)
}
