package main

import (
	"encoding/json"
	"testing"
)

// decodedID is what eventID must agree with.
func decodedID(event []byte) string {
	var decoded struct {
		ID string `json:"id"`
	}
	if json.Unmarshal(event, &decoded) != nil {
		return ""
	}
	return decoded.ID
}

var eventTexts = []string{
	`{"specversion":"1.0","id":"order.created:1:1","type":"order.created","data":{"id":"1"}}`,
	`{"data":{"id":"inner","list":[{"id":"x"},"}","\"id\":"],"text":"a \\\" { ["},"datacontenttype":"application/json","id":"outer","type":"x"}`,
	"{ \"data\" : null ,\n\t\"id\" : \"spaced\" }", `{"a":1,"b":true,"id":"after numbers"}`,
	`{"id":"escaped \u0041"}`, `{"\u0069d":"escaped name"}`, `{"data":"ends with a backslash \\","id":"x"}`,
	`{"id":7}`, `{"id":null}`, `{"id":""}`, `{}`, `{"data":{}}`, `[]`, `"id"`, ``, `null`, `neither JSON`, `{"id":"open`, `{"data":"open`,
}

func TestEventID_IsWhatDecodingFinds(t *testing.T) {
	for _, text := range eventTexts {
		if got, want := eventID([]byte(text)), decodedID([]byte(text)); got != want {
			t.Errorf("%s: %q, not %q", text, got, want)
		}
	}
}

func FuzzEventID(f *testing.F) {
	for _, text := range eventTexts {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got := eventID(text)
		var members map[string]any
		if json.Unmarshal(text, &members) != nil {
			return // no event: whatever is found does no harm
		}
		if id, isText := members["id"].(string); isText && json.Valid(text) && got == "" && id != "" {
			t.Errorf("%q: the id %q was not found", text, id)
		}
	})
}

func BenchmarkEventID(b *testing.B) {
	event := []byte(eventTexts[1])
	for b.Loop() {
		eventID(event)
	}
}
