package proof

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// kubeconform is for those who check manifests without a server. Its schemas are what this server publishes of itself, Dapr's
// kinds included.
const kubeconform = "github.com/yannh/kubeconform/cmd/kubeconform@v0.7.0"

func TestConform_EveryOverlayFitsTheSchemas(t *testing.T) {
	c := sharedCluster(t)
	schemas := t.TempDir()
	var openapi struct {
		Definitions map[string]map[string]any `json:"definitions"`
	}
	require.NoError(t, json.Unmarshal([]byte(c.must(t, "", "get", "--raw", "/openapi/v2")), &openapi))
	for _, definition := range openapi.Definitions {
		strict(definition)
	}
	definitions, err := json.Marshal(map[string]any{"definitions": openapi.Definitions})
	require.NoError(t, err)
	// References within the one file become references to it.
	text := strings.ReplaceAll(string(definitions), `"$ref":"#/definitions/`, `"$ref":"_definitions.json#/definitions/`)
	require.NoError(t, os.WriteFile(filepath.Join(schemas, "_definitions.json"), []byte(strings.ReplaceAll(text, "_definitions.json#", "#")), 0o600))
	kinds := 0
	for name, definition := range openapi.Definitions {
		versions, _ := definition["x-kubernetes-group-version-kind"].([]any)
		if len(versions) != 1 {
			continue // DeleteOptions and the like, which are of every group
		}
		version := object(versions[0].(map[string]any))
		group, _, _ := strings.Cut(version.text("group"), ".")
		file := strings.ToLower(strings.ReplaceAll(version.text("kind")+"-"+group+"-"+version.text("version")+".json", "--", "-"))
		schema, err := json.Marshal(map[string]any{"$ref": "_definitions.json#/definitions/" + name})
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(schemas, file), schema, 0o600))
		kinds++
	}
	require.Greater(t, kinds, 100)

	check := func(text string) (string, error) {
		command := exec.Command("go", "run", kubeconform, "-strict", "-summary",
			"-schema-location", filepath.Join(schemas, "{{ .ResourceKind }}{{ .KindSuffix }}.json"), "-")
		command.Stdin = strings.NewReader(text)
		out, err := command.CombinedOutput()
		return string(out), err
	}
	for _, overlay := range append([]string{withRedis, withTLS}, overlays...) {
		out, err := check(render(t, overlay).text)
		require.NoError(t, err, out)
		require.Contains(t, out, "Invalid: 0, Errors: 0, Skipped: 0", overlay)
		t.Logf("%s: %s", overlay, strings.TrimSpace(out))
	}
	out, err := check(strings.Replace(render(t, "dev").text, "terminationGracePeriodSeconds: 45", "terminationGracePeriodSeconds: soon", 1))
	require.Error(t, err, out)
}

// strict makes an OpenAPI definition a JSON schema that takes no field it does not know.
func strict(schema map[string]any) {
	switch schema["format"] {
	case "int-or-string":
		delete(schema, "type")
		schema["oneOf"] = []any{map[string]any{"type": "string"}, map[string]any{"type": "integer"}}
	}
	delete(schema, "format") // int32 and byte are no formats of JSON schema
	if schema["x-kubernetes-int-or-string"] == true || schema["x-kubernetes-preserve-unknown-fields"] == true {
		delete(schema, "type")
	}
	properties, _ := schema["properties"].(map[string]any)
	if properties != nil && schema["additionalProperties"] == nil && schema["x-kubernetes-preserve-unknown-fields"] == nil {
		schema["additionalProperties"] = false
	}
	for _, property := range properties {
		if inner, ok := property.(map[string]any); ok {
			strict(inner)
		}
	}
	for _, name := range []string{"items", "additionalProperties"} {
		if inner, ok := schema[name].(map[string]any); ok {
			strict(inner)
		}
	}
}
