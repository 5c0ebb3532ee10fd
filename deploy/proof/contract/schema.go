package contract

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// undescribed lists the members of a value that none of its schemas describes. JSON Schema's unevaluatedProperties does not do: in a
// response that is a Problem with the codes of its operation, an item of errors is described by two schemas in different parts of an allOf, and
// neither knows the members of the other.
func (d *Document) undescribed(schemas []any, value any, at string) (names []string) {
	switch value := value.(type) {
	case map[string]any:
		parts := d.expand(schemas)
		if !slices.ContainsFunc(parts, restrictsMembers) {
			return nil
		}
		for name, member := range value {
			described := membersNamed(parts, name)
			if len(described) == 0 {
				names = append(names, at+"/"+name)
				continue
			}
			names = append(names, d.undescribed(described, member, at+"/"+name)...)
		}
	case []any:
		parts := d.expand(schemas)
		for i, item := range value {
			names = append(names, d.undescribed(itemsOf(parts), item, fmt.Sprintf("%s/%d", at, i))...)
		}
	}
	return names
}

// notInDigits lists the integers of a value that are not written in digits. To JSON Schema 4500.0 and 1e3 are integers, too.
func (d *Document) notInDigits(schemas []any, value any, at string) (names []string) {
	parts := d.expand(schemas)
	switch value := value.(type) {
	case json.Number:
		isInteger := slices.ContainsFunc(parts, func(part map[string]any) bool { return part["type"] == "integer" })
		if isInteger && strings.ContainsAny(value.String(), ".eE") {
			return []string{at}
		}
	case map[string]any:
		for name, member := range value {
			names = append(names, d.notInDigits(membersNamed(parts, name), member, at+"/"+name)...)
		}
	case []any:
		for i, item := range value {
			names = append(names, d.notInDigits(itemsOf(parts), item, fmt.Sprintf("%s/%d", at, i))...)
		}
	}
	return names
}

// expand returns schemas with what they refer to, and with all parts of their allOf, anyOf and oneOf.
func (d *Document) expand(schemas []any) (parts []map[string]any) {
	for _, schema := range schemas {
		object, ok := schema.(map[string]any)
		if !ok {
			continue
		}
		parts = append(parts, object)
		if reference, ok := object["$ref"].(string); ok {
			parts = append(parts, d.expand([]any{d.find(reference)})...)
		}
		for _, keyword := range []string{"allOf", "anyOf", "oneOf"} {
			if more, ok := object[keyword].([]any); ok {
				parts = append(parts, d.expand(more)...)
			}
		}
		for _, keyword := range []string{"then", "else"} {
			if more, ok := object[keyword]; ok {
				parts = append(parts, d.expand([]any{more})...)
			}
		}
	}
	return parts
}

// find returns what a reference refers to. It remembers it, because each response has many.
func (d *Document) find(reference string) any {
	if known, ok := d.found.Load(reference); ok {
		return known
	}
	value := find(d.root, reference).value
	d.found.Store(reference, value)
	return value
}

// restrictsMembers reports whether a schema describes the members of an object. One that asks only for an object allows any.
func restrictsMembers(schema map[string]any) bool {
	_, members := schema["properties"]
	_, others := schema["additionalProperties"]
	return members || others
}

// membersNamed returns the schemas of a member.
func membersNamed(parts []map[string]any, name string) (schemas []any) {
	for _, part := range parts {
		members, _ := part["properties"].(map[string]any)
		if schema, ok := members[name]; ok {
			schemas = append(schemas, schema)
		} else if others, ok := part["additionalProperties"]; ok && others != false {
			schemas = append(schemas, others)
		}
	}
	return schemas
}

// itemsOf returns the schemas of the items of a list.
func itemsOf(parts []map[string]any) (schemas []any) {
	for _, part := range parts {
		if items, ok := part["items"]; ok {
			schemas = append(schemas, items)
		}
	}
	return schemas
}

// codesOf returns the values that a schema allows at a path of members ("[]" is an item), or nil if it allows any.
func codesOf(root map[string]any, schema any, path ...string) []string {
	object, ok := schema.(map[string]any)
	if !ok {
		return nil
	}
	var allowed []string
	restrict := func(more []string) {
		switch {
		case more == nil:
		case allowed == nil:
			allowed = more
		default:
			allowed = slices.DeleteFunc(slices.Clone(allowed), func(value string) bool { return !slices.Contains(more, value) })
		}
	}
	if reference, ok := object["$ref"].(string); ok {
		restrict(codesOf(root, find(root, reference).value, path...))
	}
	parts, _ := object["allOf"].([]any)
	for _, part := range parts {
		restrict(codesOf(root, part, path...))
	}
	for _, keyword := range []string{"oneOf", "anyOf"} {
		parts, ok := object[keyword].([]any)
		if !ok {
			continue
		}
		var either []string
		open := false
		for _, part := range parts {
			one := codesOf(root, part, path...)
			open = open || one == nil
			either = append(either, one...)
		}
		if !open {
			slices.Sort(either)
			restrict(slices.Compact(either))
		}
	}
	if len(path) == 0 {
		values, _ := object["enum"].([]any)
		if value, ok := object["const"]; ok {
			values = []any{value}
		}
		var texts []string
		for _, value := range values {
			if text, ok := value.(string); ok {
				texts = append(texts, text)
			}
		}
		restrict(texts)
		return allowed
	}
	next := object["items"]
	if path[0] != "[]" {
		members, _ := object["properties"].(map[string]any)
		next = members[path[0]]
	}
	restrict(codesOf(root, next, path[1:]...))
	return allowed
}

// flatten returns a schema with what it refers to: $ref and allOf are merged into it, and of oneOf and anyOf the first part is taken.
func flatten(root map[string]any, schema any) map[string]any {
	return flattenChoice(root, schema, func(int) int { return 0 }, 0)
}

// flattenChoice is flatten with a choice among the parts of oneOf and anyOf.
func flattenChoice(root map[string]any, schema any, choose func(n int) int, depth int) map[string]any {
	flat := map[string]any{}
	object, ok := schema.(map[string]any)
	if !ok || depth > 20 {
		return flat
	}
	merge := func(part any) {
		for key, value := range flattenChoice(root, part, choose, depth+1) {
			switch key {
			case "properties":
				members, _ := flat[key].(map[string]any)
				merged := map[string]any{}
				for name, member := range members {
					merged[name] = member
				}
				for name, member := range value.(map[string]any) {
					if other, ok := merged[name]; ok {
						member = map[string]any{"allOf": []any{other, member}}
					}
					merged[name] = member
				}
				flat[key] = merged
			case "required":
				all, _ := flat[key].([]any)
				flat[key] = append(slices.Clone(all), value.([]any)...)
			default:
				flat[key] = value
			}
		}
	}
	if reference, ok := object["$ref"].(string); ok {
		merge(find(root, reference).value)
	}
	parts, _ := object["allOf"].([]any)
	for _, part := range parts {
		merge(part)
	}
	for _, keyword := range []string{"oneOf", "anyOf"} {
		if parts, _ := object[keyword].([]any); len(parts) > 0 {
			merge(parts[choose(len(parts))])
		}
	}
	own := map[string]any{}
	for key, value := range object {
		if !strings.HasPrefix(key, "$") && key != "allOf" && key != "oneOf" && key != "anyOf" {
			own[key] = value
		}
	}
	if len(object) == len(own) && len(flat) == 0 {
		return own
	}
	// The schema's own keywords come last, so that they replace those of its parts.
	for key, value := range own {
		if key == "properties" || key == "required" {
			merge(map[string]any{key: value})
			continue
		}
		flat[key] = value
	}
	return flat
}
