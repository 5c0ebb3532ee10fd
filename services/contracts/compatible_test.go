package contracts

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// acceptedBreaks are differences from the previous release that this release makes on purpose, with the reason. It is empty after a release.
var acceptedBreaks = map[string]string{}

// The rule: within a number, an event may only get further optional members. Readers of the previous release refuse a number that they
// do not know, and they run beside this release during an update; so a number keeps its meaning, and stays served.
func TestCompatibility_ANumberOnlyGetsOptionalMembers(t *testing.T) {
	released, err := filepath.Glob("released/schemas/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, released)
	found := map[string]bool{}
	for _, path := range released {
		name, err := parseFile(filepath.Base(path))
		require.NoError(t, err)
		before, err := os.ReadFile(path)
		require.NoError(t, err)
		now, err := os.ReadFile(filepath.Join("schemas", name.File()))
		require.NoError(t, err, "the previous release published this number: readers may need its schema")
		for _, difference := range breaks(t, before, now) {
			difference = fmt.Sprintf("%s.%d: %s", name.Type, name.Number, difference)
			found[difference] = true
			require.Contains(t, acceptedBreaks, difference,
				"this needs a new number of %s: raise Schema() in services/internal/events/catalogue.go, and keep %s", name.Type, name.File())
		}
	}
	for difference := range acceptedBreaks {
		require.True(t, found[difference], "acceptedBreaks: %s is no difference any more", difference)
	}
}

// breaks returns the differences between two schemas of one number that a reader of the first may not bear.
func breaks(t *testing.T, before, now []byte) []string {
	t.Helper()
	var a, b any
	require.NoError(t, json.Unmarshal(before, &a))
	require.NoError(t, json.Unmarshal(now, &b))
	return compare("", a, b)
}

// restrictions are keywords that a schema may get, because the publisher then sends less than it might have. A change of one that is there
// is a break.
var restrictions = []string{"format", "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "contentEncoding"}

func compare(path string, before, now any) (found []string) {
	at := func(text string) string {
		if path == "" {
			return text
		}
		return path + ": " + text
	}
	a, isObject := before.(map[string]any)
	if !isObject { // true: anything
		a = map[string]any{}
	}
	b, _ := now.(map[string]any)
	for _, keyword := range []string{"type", "const"} {
		if a[keyword] != nil && !reflect.DeepEqual(a[keyword], b[keyword]) {
			found = append(found, at(fmt.Sprintf("%s was %v and is %v", keyword, a[keyword], b[keyword])))
		}
	}
	for _, keyword := range restrictions {
		if a[keyword] != nil && !reflect.DeepEqual(a[keyword], b[keyword]) {
			found = append(found, at(fmt.Sprintf("%s was %v and is %v", keyword, a[keyword], b[keyword])))
		}
	}
	if values, closed := a["enum"].([]any); closed {
		further, stillClosed := b["enum"].([]any)
		if !stillClosed {
			found = append(found, at("enum was removed"))
		}
		for _, value := range further {
			if !slices.Contains(values, value) {
				found = append(found, at(fmt.Sprintf("the value %v is new", value)))
			}
		}
	}
	required := func(schema map[string]any, member string) bool {
		all, _ := schema["required"].([]any)
		return slices.Contains(all, any(member))
	}
	membersBefore, _ := a["properties"].(map[string]any)
	membersNow, _ := b["properties"].(map[string]any)
	for _, member := range slices.Sorted(maps.Keys(membersBefore)) {
		inner := member
		if path != "" {
			inner = path + "." + member
		}
		of, exists := membersNow[member]
		switch {
		case !exists:
			found = append(found, inner+" was removed")
			continue
		case required(a, member) && !required(b, member):
			found = append(found, inner+" was required and is optional")
		case !required(a, member) && required(b, member):
			found = append(found, inner+" was optional and is required")
		}
		found = append(found, compare(inner, membersBefore[member], of)...)
	}
	for _, member := range slices.Sorted(maps.Keys(membersNow)) {
		if _, existed := membersBefore[member]; !existed && required(b, member) {
			found = append(found, at("the new member "+member+" is required"))
		}
	}
	if a["items"] != nil {
		found = append(found, compare(path+"[]", a["items"], b["items"])...)
	}
	if b["additionalProperties"] == false && a["additionalProperties"] != false {
		found = append(found, at("further members were allowed, and are not"))
	}
	return found
}

func TestCompatibility_FindsEveryKindOfBreak(t *testing.T) {
	const before = `{"type":"object","required":["id","status"],"properties":{
		"id":{"type":"string","format":"uuid"},
		"status":{"type":"string","enum":["created","complete"]},
		"note":{"type":"string"},
		"at":{"type":"string","pattern":"Z$"},
		"ticket":{"type":"object","required":["price"],"properties":{"price":{"type":"integer","minimum":0}}},
		"orders":{"type":"array","items":{"type":"object","required":["id"],"properties":{"id":{"type":"string"}}}}}}`
	for _, c := range []struct {
		name   string
		change func(s map[string]any)
		want   []string
	}{
		{"nothing", func(map[string]any) {}, nil},
		{"a new optional member", func(s map[string]any) { members(s)["more"] = map[string]any{"type": "string"} }, nil},
		{"a description", func(s map[string]any) { member(s, "id")["description"] = "An id." }, nil},
		{"a restriction where there was none", func(s map[string]any) { member(s, "note")["pattern"] = "^a" }, nil},
		{"a value less", func(s map[string]any) { member(s, "status")["enum"] = []any{"created"} }, nil},
		{"a member less", func(s map[string]any) { delete(members(s), "note") }, []string{"note was removed"}},
		{"another name", func(s map[string]any) { members(s)["text"] = members(s)["note"]; delete(members(s), "note") }, []string{"note was removed"}},
		{"another type", func(s map[string]any) { member(s, "note")["type"] = "integer" }, []string{"note: type was string and is integer"}},
		{"another format", func(s map[string]any) { member(s, "id")["format"] = "uri" }, []string{"id: format was uuid and is uri"}},
		{"a wider format", func(s map[string]any) { delete(member(s, "at"), "pattern") }, []string{"at: pattern was Z$ and is <nil>"}},
		{"optional", func(s map[string]any) { s["required"] = []any{"id"} }, []string{"status was required and is optional"}},
		{"required", func(s map[string]any) { s["required"] = []any{"id", "status", "note"} }, []string{"note was optional and is required"}},
		{"a new required member", func(s map[string]any) {
			members(s)["more"] = map[string]any{"type": "string"}
			s["required"] = []any{"id", "status", "more"}
		}, []string{"the new member more is required"}},
		{"a new value", func(s map[string]any) { member(s, "status")["enum"] = []any{"created", "complete", "lost"} }, []string{"status: the value lost is new"}},
		{"any value", func(s map[string]any) { delete(member(s, "status"), "enum") }, []string{"status: enum was removed"}},
		{"inside of a member", func(s map[string]any) { member(member(s, "ticket"), "price")["type"] = "string" }, []string{"ticket.price: type was integer and is string"}},
		{"inside of a list", func(s map[string]any) { delete(members(member(s, "orders")["items"].(map[string]any)), "id") }, []string{"orders[].id was removed"}},
		{"no further members", func(s map[string]any) { s["additionalProperties"] = false }, []string{"further members were allowed, and are not"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var changed map[string]any
			require.NoError(t, json.Unmarshal([]byte(before), &changed))
			c.change(changed)
			now, err := json.Marshal(changed)
			require.NoError(t, err)
			require.Equal(t, c.want, breaks(t, []byte(before), now))
		})
	}
}

func members(schema map[string]any) map[string]any { return schema["properties"].(map[string]any) }

func member(schema map[string]any, name string) map[string]any {
	return members(schema)[name].(map[string]any)
}
