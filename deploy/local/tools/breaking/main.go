// Breaking compares two versions of an OpenAPI document: breaking RELEASED CURRENT. It lists what a client of the first may not bear in
// the second, and fails if there is something and the major version is not higher.
package main

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/oasdiff/oasdiff/checker"
	"github.com/oasdiff/oasdiff/diff"
	"github.com/oasdiff/oasdiff/load"
	"go.yaml.in/yaml/v3"
)

// accepted are differences, as this program prints them, that this release makes on purpose, with the reason. It is empty after a release.
var accepted = map[string]string{}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: breaking RELEASED CURRENT")
		os.Exit(2)
	}
	found, err := compareFiles(os.Args[1], os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, "breaking:", err)
		os.Exit(2)
	}
	breaking, unused := without(found, accepted)
	for _, change := range breaking {
		fmt.Println(change)
	}
	for _, change := range unused {
		fmt.Println("accepted, and no difference any more:", change)
	}
	if len(breaking) > 0 {
		fmt.Printf("%d breaking changes since %s: take them back, or raise the major of info.version in %s\n", len(breaking), os.Args[1], os.Args[2])
	}
	if len(breaking)+len(unused) > 0 {
		os.Exit(1)
	}
}

// without returns the differences that are not accepted, and what is accepted without being a difference.
func without(found []string, accepted map[string]string) (breaking, unused []string) {
	for _, change := range found {
		if accepted[change] == "" {
			breaking = append(breaking, change)
		}
	}
	for change := range accepted {
		if !slices.Contains(found, change) {
			unused = append(unused, change)
		}
	}
	slices.Sort(unused)
	return breaking, unused
}

func compareFiles(released, current string) ([]string, error) {
	before, err := os.ReadFile(released)
	if err != nil {
		return nil, err
	}
	after, err := os.ReadFile(current)
	if err != nil {
		return nil, err
	}
	return compare(before, after)
}

// compare returns the breaking changes, sorted, or none if the major version is higher.
func compare(released, current []byte) ([]string, error) {
	before, err := parse(released)
	if err != nil {
		return nil, fmt.Errorf("the released document: %w", err)
	}
	after, err := parse(current)
	if err != nil {
		return nil, fmt.Errorf("the current document: %w", err)
	}
	majorBefore, err := major(before.Spec)
	if err != nil {
		return nil, err
	}
	majorAfter, err := major(after.Spec)
	if err != nil {
		return nil, err
	}
	if majorAfter > majorBefore {
		return nil, nil
	}

	differences, origins, err := diff.GetWithOperationsSourcesMap(diff.NewConfig(), before, after)
	if err != nil {
		return nil, err
	}
	var found []string
	// To oasdiff, a client does not rely on a member that may be absent anyway.
	config := checker.NewConfig(checker.GetAllChecks(), checker.WithSeverityLevels(map[string]checker.Level{checker.ResponseOptionalPropertyRemovedId: checker.ERR}))
	for _, change := range checker.CheckBackwardCompatibility(config, differences, origins) {
		if change.GetLevel() < checker.WARN || isNewCode(change) {
			continue
		}
		found = append(found, fmt.Sprintf("%s %s: %s", change.GetOperation(), change.GetPath(), change.GetUncolorizedText(checker.NewDefaultLocalizer())))
	}
	found = append(found, removedFromResponses(before.Spec, after.Spec)...)
	slices.Sort(found)
	return slices.Compact(found), nil
}

// isNewCode: clients treat a code that they do not know as its status demands, so a new one breaks nothing.
func isNewCode(change checker.Change) bool {
	return slices.Contains([]string{"response-property-enum-value-added", "response-property-any-of-added"}, change.GetId()) &&
		strings.Contains(change.GetUncolorizedText(checker.NewDefaultLocalizer()), "errors/items/code")
}

// parse reads a document. What the system sends to webhooks becomes a response of a path, because its readers bear what readers of a
// response bear: a member more, and not a member less.
func parse(document []byte) (*load.SpecInfo, error) {
	var root map[string]any
	if err := yaml.Unmarshal(document, &root); err != nil {
		return nil, err
	}
	paths, _ := root["paths"].(map[string]any)
	webhooks, _ := root["webhooks"].(map[string]any)
	for name, item := range webhooks {
		for method, operation := range item.(map[string]any) {
			sent := operation.(map[string]any)
			body, _ := sent["requestBody"].(map[string]any)
			headers := map[string]any{}
			parameters, _ := sent["parameters"].([]any)
			for _, parameter := range parameters {
				parameter := parameter.(map[string]any)
				headers[parameter["name"].(string)] = map[string]any{"schema": parameter["schema"]}
			}
			paths["/webhooks/"+name+"/"+method] = map[string]any{"get": map[string]any{
				"responses": map[string]any{"200": map[string]any{"description": "sent", "headers": headers, "content": body["content"]}},
			}}
		}
	}
	delete(root, "webhooks")
	changed, err := yaml.Marshal(root)
	if err != nil {
		return nil, err
	}
	return load.NewSpecInfoFromData(openapi3.NewLoader(), changed, "openapi.yaml", load.WithFlattenAllOf())
}

func major(document *openapi3.T) (int, error) {
	text, _, _ := strings.Cut(document.Info.Version, ".")
	number, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("info.version %q is not MAJOR.MINOR.PATCH", document.Info.Version)
	}
	return number, nil
}

// removedFromResponses returns what oasdiff does not report: operations of another name, which generated clients call, and headers that
// responses lack now.
func removedFromResponses(before, after *openapi3.T) (found []string) {
	for path, item := range before.Paths.Map() {
		now := after.Paths.Value(path)
		if now == nil {
			continue
		}
		for method, operation := range item.Operations() {
			operationNow := now.GetOperation(method)
			if operationNow == nil {
				continue
			}
			if operation.OperationID != operationNow.OperationID {
				found = append(found, fmt.Sprintf("%s %s: the operationId %s became %s", method, path, operation.OperationID, cmp.Or(operationNow.OperationID, "none")))
			}
			for status, response := range operation.Responses.Map() {
				responseNow := operationNow.Responses.Value(status)
				if responseNow == nil {
					continue
				}
				for name := range response.Value.Headers {
					if responseNow.Value.Headers[name] == nil {
						found = append(found, fmt.Sprintf("%s %s: removed the header `%s` from the response with the `%s` status", method, path, name, status))
					}
				}
			}
		}
	}
	return found
}
