package main

import (
	"bytes"
	"encoding/json"
)

// eventID is the id of a CloudEvent in JSON, or "" if the text has none. Sidecars write events with the members in the
// order of their names, so that the id comes after the data: to decode all of it for the id alone would cost more than
// anything else that a publication does here. So what comes before the id is stepped over, and only an event that is
// written in an unusual way is decoded.
func eventID(event []byte) string {
	id, ok := findID(event)
	if ok {
		return id
	}
	var decoded struct {
		ID string `json:"id"`
	}
	if json.Unmarshal(event, &decoded) != nil {
		return ""
	}
	return decoded.ID
}

// findID reads the member "id" of an object. It gives up (ok is false) where it is not sure: at anything that is not
// well-formed, and at a name or an id with an escape sequence.
func findID(text []byte) (id string, ok bool) {
	text = skipSpace(text)
	if len(text) == 0 || text[0] != '{' {
		return "", false
	}
	for text = text[1:]; ; text = text[1:] {
		name, rest := plainString(skipSpace(text))
		rest = skipSpace(rest)
		if name == nil || len(rest) == 0 || rest[0] != ':' {
			return "", false
		}
		value := skipSpace(rest[1:])
		if string(name) == "id" {
			found, _ := plainString(value)
			return string(found), found != nil
		}
		if text = skipSpace(skipValue(value)); len(text) == 0 || text[0] != ',' {
			return "", false
		}
	}
}

func skipSpace(text []byte) []byte {
	for len(text) > 0 && (text[0] == ' ' || text[0] == '\t' || text[0] == '\r' || text[0] == '\n') {
		text = text[1:]
	}
	return text
}

// plainString is the string that text begins with, if it has no escape sequence, and what follows it; nil if there is none.
func plainString(text []byte) (content, rest []byte) {
	if len(text) == 0 || text[0] != '"' {
		return nil, nil
	}
	end := bytes.IndexByte(text[1:], '"') + 1
	if end == 0 || bytes.IndexByte(text[1:end], '\\') >= 0 {
		return nil, nil
	}
	return text[1:end:end], text[end+1:]
}

// skipValue is what follows the value that text begins with; nothing if the value does not end.
func skipValue(text []byte) []byte {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			for i++; i < len(text) && text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return text[i:]
			}
			depth--
		case ',':
			if depth == 0 {
				return text[i:]
			}
		}
	}
	return nil
}
