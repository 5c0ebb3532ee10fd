package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const released = `openapi: 3.1.0
info: {title: Small, version: 1.4.0}
paths:
  /seats:
    get:
      operationId: listSeats
      parameters:
        - {name: limit, in: query, schema: {type: integer, maximum: 200}}
      responses:
        '200':
          description: Seats.
          headers: {Link: {schema: {type: string}}}
          content: {application/json: {schema: {type: array, items: {$ref: '#/components/schemas/Seat'}}}}
    post:
      operationId: createSeat
      requestBody:
        content: {application/json: {schema: {$ref: '#/components/schemas/NewSeat'}}}
      responses:
        '201':
          description: A seat.
          content:
            application/json:
              schema:
                allOf:
                  - {$ref: '#/components/schemas/Seat'}
                  - {type: object, required: [secret], properties: {secret: {type: string}, hint: {type: string}}}
        '409':
          description: Refused.
          content:
            application/problem+json:
              schema:
                allOf:
                  - {$ref: '#/components/schemas/Problem'}
                  - {properties: {errors: {items: {properties: {code: {enum: [taken, sold]}}}}}}
  /seats/{id}:
    parameters: [{name: id, in: path, required: true, schema: {type: string}}]
    get:
      operationId: getSeat
      responses: {'200': {description: A seat., content: {application/json: {schema: {$ref: '#/components/schemas/Seat'}}}}}
webhooks:
  message:
    post:
      parameters: [{name: signature, in: header, required: true, schema: {type: string}}]
      requestBody: {content: {application/json: {schema: {$ref: '#/components/schemas/Seat'}}}}
      responses: {'200': {description: Received.}}
components:
  schemas:
    Seat:
      type: object
      required: [row, state]
      properties: {row: {type: integer}, state: {type: string, enum: [free, taken]}, note: {type: string}}
    NewSeat:
      type: object
      required: [row]
      properties: {row: {type: integer, maximum: 99}, kind: {type: string, enum: [chair, bench]}, note: {type: string, maxLength: 200}}
    Problem:
      type: object
      required: [errors]
      properties: {errors: {type: array, items: {type: object, required: [code], properties: {code: {type: string}}}}}
`

// changed returns the document with other text in each of the pairs' places.
func changed(t *testing.T, pairs ...string) []byte {
	t.Helper()
	document := released
	for i := 0; i < len(pairs); i += 2 {
		require.Contains(t, document, pairs[i])
		document = strings.ReplaceAll(document, pairs[i], pairs[i+1])
	}
	return []byte(document)
}

func TestCompare_FindsWhatBreaksClients(t *testing.T) {
	for name, test := range map[string]struct {
		found  string // a part of one line of what is found
		change []string
	}{
		"a required member of a response is away":    {"removed the required property `row`", []string{"required: [row, state]\n      properties: {row: {type: integer}, ", "required: [state]\n      properties: {"}},
		"an optional member of a response is away":   {"`note`", []string{"enum: [free, taken]}, note: {type: string}}", "enum: [free, taken]}}"}},
		"a member of a composed response is away":    {"`hint`", []string{", hint: {type: string}}", "}"}},
		"a member of a response may be away":         {"became optional", []string{"required: [row, state]", "required: [row]"}},
		"a member of a response has another type":    {"`type` changed", []string{"properties: {row: {type: integer}, state", "properties: {row: {type: string}, state"}},
		"a response has another value":               {"`reserved` enum value", []string{"[free, taken]", "[free, taken, reserved]"}},
		"a header of a response is away":             {"removed the header `Link`", []string{"          headers: {Link: {schema: {type: string}}}\n", ""}},
		"a path is away":                             {"GET /seats/{id}: API path removed", []string{"  /seats/{id}:", "  /chairs/{id}:"}},
		"a method is away":                           {"POST /seats: API removed", []string{"    post:\n      operationId: createSeat", "    put:\n      operationId: createSeat"}},
		"an operation has another name":              {"the operationId getSeat became readSeat", []string{"getSeat", "readSeat"}},
		"a success has another status":               {"removed the success response with the status `201`", []string{"'201'", "'202'"}},
		"a new parameter is required":                {"new required `query` request parameter `row`", []string{"      parameters:\n        - {name: limit", "      parameters:\n        - {name: row, in: query, required: true, schema: {type: integer}}\n        - {name: limit"}},
		"a parameter is away":                        {"`limit`", []string{"      parameters:\n        - {name: limit, in: query, schema: {type: integer, maximum: 200}}\n", ""}},
		"a new member of a request is required":      {"new required request property `seat`", []string{"required: [row]\n      properties: {", "required: [row, seat]\n      properties: {seat: {type: string}, "}},
		"a member of a request became required":      {"`kind` became required", []string{"required: [row]\n", "required: [row, kind]\n"}},
		"a request lacks a value":                    {"removed the enum value `bench`", []string{"[chair, bench]", "[chair]"}},
		"the greatest number of a request is less":   {"max was decreased", []string{"maximum: 99", "maximum: 50"}},
		"the greatest number of a parameter is less": {"max was decreased", []string{"maximum: 200", "maximum: 100"}},
		"a text of a request must be shorter":        {"maxLength was decreased", []string{"maxLength: 200", "maxLength: 100"}},
		"a member of a message to webhooks is away":  {"GET /webhooks/message/post: removed the required property `row`", []string{"required: [row, state]\n      properties: {row: {type: integer}, ", "required: [state]\n      properties: {"}},
		"a header of a message to webhooks is away":  {"GET /webhooks/message/post: removed the header `signature`", []string{"name: signature", "name: sign"}},
		"a caller who was not signed in must be it":  {"GET /seats", []string{"      operationId: listSeats\n", "      operationId: listSeats\n      security: [{token: []}]\n", "components:\n", "components:\n  securitySchemes: {token: {type: http, scheme: bearer}}\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := compare([]byte(released), changed(t, test.change...))
			require.NoError(t, err)
			require.Contains(t, strings.Join(found, "\n"), test.found)

			found, err = compare([]byte(released), changed(t, append(test.change, "1.4.0", "2.0.0")...))
			require.NoError(t, err)
			require.Empty(t, found, "a new major version may break clients")
		})
	}
}

func TestCompare_BearsWhatClientsBear(t *testing.T) {
	for name, change := range map[string][]string{
		"nothing has changed":                  {"Seats.", "Seats."},
		"a response has another member":        {"properties: {row: {type: integer}, state", "properties: {seat: {type: string}, row: {type: integer}, state"},
		"a response has another header":        {"headers: {", "headers: {ETag: {schema: {type: string}}, "},
		"a request may have another member":    {"kind: {type: string", "seat: {type: string}, kind: {type: string"},
		"a request may have another value":     {"[chair, bench]", "[chair, bench, stool]"},
		"a limit of a request is wider":        {"maxLength: 200", "maxLength: 300"},
		"an error has another code":            {"[taken, sold]", "[taken, sold, withdrawn]"},
		"an operation has another error":       {"        '409':", "        '429': {description: Too many.}\n        '409':"},
		"a path is new":                        {"  /seats/{id}:", "  /rows: {get: {operationId: listRows, responses: {'200': {description: Rows.}}}}\n  /seats/{id}:"},
		"a description has other words":        {"description: A seat.", "description: One seat."},
		"the version of the document is minor": {"1.4.0", "1.5.0"},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := compare([]byte(released), changed(t, change...))
			require.NoError(t, err)
			require.Empty(t, found)
		})
	}
}

func TestCompare_RefusesWhatItCannotRead(t *testing.T) {
	_, err := compare([]byte(released), []byte("openapi: ["))
	require.ErrorContains(t, err, "the current document")
	_, err = compare([]byte(released), changed(t, "1.4.0", "next"))
	require.ErrorContains(t, err, "MAJOR.MINOR.PATCH")
}

func TestWithout_AnAcceptedDifferenceIsAWholeOneAtItsPath(t *testing.T) {
	const removed = "GET /seats: removed the required property `row` from the response with the `200` status"
	breaking, unused := without([]string{removed}, map[string]string{removed: "nobody reads it"})
	require.Empty(t, breaking)
	require.Empty(t, unused)

	for name, other := range map[string]string{
		"a part of it":     "removed the required property `row`",
		"of another path":  "GET /chairs: removed the required property `row` from the response with the `200` status",
		"of another value": "GET /seats: removed the required property `state` from the response with the `200` status",
	} {
		breaking, unused = without([]string{removed}, map[string]string{other: "nobody reads it"})
		require.Equal(t, []string{removed}, breaking, name)
		require.Equal(t, []string{other}, unused, name)
	}

	breaking, _ = without([]string{removed}, map[string]string{removed: ""})
	require.Equal(t, []string{removed}, breaking, "without a reason")
}

func TestAccepted_HasAReasonForEach(t *testing.T) {
	for change, reason := range accepted {
		require.NotEmpty(t, reason, change)
	}
}
