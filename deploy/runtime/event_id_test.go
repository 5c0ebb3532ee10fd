package main

import (
	"encoding/json"
	"testing"
	"testing/quick"
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

func TestEventID_IsFoundWhateverStandsBeforeIt(t *testing.T) {
	find := func(data map[string]string, list []string, id string) bool {
		event, err := json.Marshal(map[string]any{"data": map[string]any{"list": list, "map": data, "id": "inner"}, "a": id, "id": id, "z": data})
		return err == nil && eventID(event) == decodedID(event)
	}
	if err := quick.Check(find, &quick.Config{MaxCount: 2000}); err != nil {
		t.Error(err)
	}
}

func BenchmarkEventID(b *testing.B) {
	event := []byte(eventTexts[1])
	for b.Loop() {
		eventID(event)
	}
}
