package contract

import (
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

const noteID = "0197a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"

func notes(t testing.TB) *Document {
	t.Helper()
	text, err := os.ReadFile("testdata/notes.yaml")
	require.NoError(t, err)
	document, err := Parse(text)
	require.NoError(t, err)
	return document
}

// exchange is a request with its response. Headers are written as "Name: value", the response's after its status.
type exchange struct {
	method, path, request string
	requestHeader         []string
	status                int
	response              string
	responseHeader        []string
}

func (e exchange) read(t testing.TB) Exchange {
	t.Helper()
	u, err := url.Parse("http://gateway:80" + e.path)
	require.NoError(t, err)
	x := Exchange{
		Method: e.method, URL: u, RequestBody: []byte(e.request), RequestHeader: headers("Authorization: Bearer token", "Content-Type: application/json"),
		Status: e.status, ResponseBody: []byte(e.response), ResponseHeader: headers("Content-Type: application/json", "Date: today"),
	}
	if e.status >= 400 {
		x.ResponseHeader.Set("Content-Type", "application/problem+json")
	}
	for name, values := range headers(e.requestHeader...) {
		x.RequestHeader[name] = values
	}
	for name, values := range headers(e.responseHeader...) {
		x.ResponseHeader[name] = values
	}
	return x
}

func headers(lines ...string) http.Header {
	h := http.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		h.Add(name, value)
	}
	return h
}

const note = `{"id":"` + noteID + `","text":"Buy milk"}`

func problem(code string) string {
	return `{"status":400,"errors":[{"message":"no","code":"` + code + `"}]}`
}

func TestCheck_WhatIsDescribedHasNoFinding(t *testing.T) {
	d := notes(t)
	for name, e := range map[string]exchange{
		"list":              {method: "GET", path: "/notes?limit=200", requestHeader: []string{"Authorization: "}, status: 200, response: "[" + note + "]", responseHeader: []string{"Link: </notes>"}},
		"a path with slash": {method: "GET", path: "/notes/", status: 200, response: "[]"},
		"create":            {method: "POST", path: "/notes", request: `{"text":"Buy milk","other":1}`, status: 201, response: note, responseHeader: []string{`ETag: "1"`}},
		"nested objects":    {method: "POST", path: "/notes", request: `{"text":"x"}`, status: 201, response: `{"id":"` + noteID + `","text":"x","author":{"name":"Ada"},"labels":{"a":"b"}}`, responseHeader: []string{`ETag: "1"`}},
		"JSON by suffix":    {method: "POST", path: "/notes", request: `{"text":"x"}`, requestHeader: []string{"Content-Type: Application/VND.x+JSON; charset=UTF-8"}, status: 201, response: note, responseHeader: []string{`ETag: "1"`}},
		"delete":            {method: "DELETE", path: "/notes/" + noteID, status: 204, responseHeader: []string{"X-Frame-Options: DENY"}},
		"refused":           {method: "POST", path: "/notes", request: `{"text":7}`, status: 400, response: problem("wrong_type")},
		"the bank's code":   {method: "POST", path: "/notes", request: `{"text":"x"}`, status: 402, response: problem("whatever_it_is")},
		"a literal path":    {method: "GET", path: "/notes/unread", status: 200, response: `{"unread":3}`},
		"unknown path":      {method: "GET", path: "/notes/of/others", status: 404, response: problem("not_found")},
		"a page for people": {method: "GET", path: "/shelf", status: 200, response: "<p>", responseHeader: []string{"Content-Type: text/html"}},
		"unknown method":    {method: "PUT", path: "/notes", status: 405, response: problem("method_not_allowed"), responseHeader: []string{"Allow: GET, HEAD, POST"}},
		"head":              {method: "HEAD", path: "/notes", status: 200},
		"a list in a query": {method: "GET", path: "/notes/changes?note=" + noteID + "&note=" + noteID, status: 200, responseHeader: []string{"Content-Type: text/event-stream"}},
		"an empty query":    {method: "GET", path: "/notes?mood=", status: 200, response: "[]"},
		"a file":            {method: "PUT", path: "/notes/" + noteID + "/picture", request: "\x89PNG", requestHeader: []string{"Content-Type: image/png"}, status: 204},
	} {
		_, finding := d.Check(e.read(t))
		require.Nil(t, finding, "%s: %v", name, finding)
	}
}

func TestCheck_FindsWhatIsNotDescribed(t *testing.T) {
	d := notes(t)
	for name, c := range map[string]struct {
		exchange
		want string
	}{
		"status":                  {exchange{method: "POST", path: "/notes", request: `{"text":"x"}`, status: 418, response: problem("min")}, "the status 418 is not described"},
		"code":                    {exchange{method: "POST", path: "/notes", request: `{"text":"x"}`, status: 400, response: problem("other")}, "/errors/0/code: value must be one of 'min', 'max'"},
		"media type":              {exchange{method: "GET", path: "/notes", status: 200, response: "[]", responseHeader: []string{"Content-Type: text/html"}}, `the media type "text/html" is not described`},
		"no body":                 {exchange{method: "GET", path: "/notes", status: 200}, "the body is not JSON"},
		"a body":                  {exchange{method: "DELETE", path: "/notes/" + noteID, status: 204, response: "{}"}, "no body is described"},
		"missing member":          {exchange{method: "GET", path: "/notes", status: 200, response: `[{"text":"x"}]`}, "/0: missing property 'id'"},
		"member":                  {exchange{method: "GET", path: "/notes", status: 200, response: `[{"id":"` + noteID + `","text":"x","more":1}]`}, "/0/more"},
		"member of a member":      {exchange{method: "GET", path: "/notes", status: 200, response: `[{"id":"` + noteID + `","text":"x","author":{"name":"Ada","age":3}}]`}, "/0/author/age"},
		"member of a problem":     {exchange{method: "GET", path: "/notes", status: 400, response: `{"status":400,"errors":[{"message":"no","code":"min","more":1}]}`}, "/errors/0/more"},
		"format":                  {exchange{method: "GET", path: "/notes", status: 200, response: `[{"id":"7","text":"x"}]`}, "/0/id: '7' is not valid uuid"},
		"missing header":          {exchange{method: "POST", path: "/notes", request: `{"text":"x"}`, status: 201, response: note}, "the header ETag is missing"},
		"header's value":          {exchange{method: "POST", path: "/notes", request: `{"text":"x"}`, status: 201, response: note, responseHeader: []string{"ETag: 1"}}, `the header ETag is "1"`},
		"header's number":         {exchange{method: "POST", path: "/notes", request: `{"text":"x"}`, status: 201, response: note, responseHeader: []string{`ETag: "1"`, "Retry-After: 0"}}, `the header Retry-After is "0"`},
		"header":                  {exchange{method: "GET", path: "/notes", status: 200, response: "[]", responseHeader: []string{"X-Debug: 1"}}, "the header X-Debug is not described"},
		"defect":                  {exchange{method: "GET", path: "/notes", status: 500, response: problem("internal")}, "no request may lead to a 500"},
		"granted body":            {exchange{method: "POST", path: "/notes", request: `{"text":""}`, status: 201, response: note, responseHeader: []string{`ETag: "1"`}}, "it was granted: /text: minLength"},
		"granted number":          {exchange{method: "POST", path: "/notes", request: `{"text":"x","stars":3.0}`, status: 201, response: note, responseHeader: []string{`ETag: "1"`}}, "it was granted: /stars is not written in digits"},
		"granted exponent":        {exchange{method: "POST", path: "/notes", request: `{"text":"x","stars":3e0,"other":3e0}`, status: 201, response: note, responseHeader: []string{`ETag: "1"`}}, "it was granted: /stars is not written in digits"},
		"granted without a body":  {exchange{method: "POST", path: "/notes", status: 201, response: note, responseHeader: []string{`ETag: "1"`}}, "it was granted: it has no body"},
		"granted query":           {exchange{method: "GET", path: "/notes?limit=1000", status: 200, response: "[]"}, `it was granted: the query parameter limit is "1000"`},
		"granted list":            {exchange{method: "GET", path: "/notes/changes?note=7&note=" + noteID, status: 200, responseHeader: []string{"Content-Type: text/event-stream"}}, "'7' is not valid uuid"},
		"granted long list":       {exchange{method: "GET", path: "/notes/changes?note=" + strings.Join([]string{noteID, noteID, noteID}, "&note="), status: 200, responseHeader: []string{"Content-Type: text/event-stream"}}, "maxItems"},
		"granted file":            {exchange{method: "PUT", path: "/notes/" + noteID + "/picture", request: "BM", requestHeader: []string{"Content-Type: image/bmp"}, status: 204}, `it was granted: the media type "image/bmp"`},
		"granted path":            {exchange{method: "DELETE", path: "/notes/7", status: 204}, `it was granted: the path parameter noteId is "7"`},
		"granted to nobody":       {exchange{method: "DELETE", path: "/notes/" + noteID, requestHeader: []string{"Authorization: "}, status: 204}, "it was granted: it has no credentials"},
		"granted media type":      {exchange{method: "POST", path: "/notes", request: `{"text":"x"}`, requestHeader: []string{"Content-Type: text/plain"}, status: 201, response: note, responseHeader: []string{`ETag: "1"`}}, `it was granted: the media type "text/plain"`},
		"unknown path":            {exchange{method: "GET", path: "/notes/of/others", status: 200, response: "{}"}, "the status must be 404"},
		"unknown method":          {exchange{method: "PUT", path: "/notes", status: 404, response: problem("not_found")}, "the status must be 405"},
		"methods that are absent": {exchange{method: "PUT", path: "/notes", status: 405, response: problem("method_not_allowed"), responseHeader: []string{"Allow: GET"}}, "the method POST"},
		"unknown path as text":    {exchange{method: "GET", path: "/notes/of/others", status: 404, response: "no", responseHeader: []string{"Content-Type: text/plain"}}, "the media type is"},
	} {
		_, finding := d.Check(c.read(t))
		require.NotNil(t, finding, name)
		require.Contains(t, strings.Join(finding.Differences, "\n"), c.want, name)
		extra := map[string]int{"defect": 1, "code": 1} // the 500 is not described either; the code is missing in both lists
		require.Len(t, finding.Differences, 1+extra[name], name)
	}
}

func TestOutcomes_HaveEachCode(t *testing.T) {
	var lines []string
	for _, o := range notes(t).Outcomes() {
		lines = append(lines, o.String())
	}
	require.Equal(t, []string{
		"countUnread 200",
		"createNote 201", "createNote 400 max", "createNote 400 min", "createNote 400 not_json", "createNote 400 wrong_type", "createNote 401 not_signed_in", "createNote 402 *",
		"deleteNote 204", "deleteNote 401 not_signed_in",
		"listNotes 200", "listNotes 400 max", "listNotes 400 min", "listNotes 400 not_json", "listNotes 400 wrong_type",
		"putPicture 204", "watchNotes 200",
	}, lines)
}

func TestTransport_ReportsToTheOneWhoAsked(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `[{"text":"it has no id"}]`)
	}))
	defer server.Close()
	v := NewValidator(notes(t))
	var own, others []Finding
	host := Gateway
	transport := v.Transport(http.DefaultTransport, func(string) Host { return host }, func(f Finding) { others = append(others, f) })
	send := func(ctx func(*http.Request) *http.Request) string {
		request, err := http.NewRequest("GET", server.URL+"/notes", nil)
		require.NoError(t, err)
		response, err := (&http.Client{Transport: transport}).Do(ctx(request))
		require.NoError(t, err)
		text, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return string(text)
	}

	require.Equal(t, `[{"text":"it has no id"}]`, send(func(r *http.Request) *http.Request { return r }), "the body can still be read")
	require.Len(t, others, 1)
	require.Contains(t, others[0].String(), "listNotes (GET /notes), status 200")
	require.Contains(t, others[0].String(), "curl -i")
	send(func(r *http.Request) *http.Request {
		return r.WithContext(WithReporter(r.Context(), func(f Finding) { own = append(own, f) }))
	})
	require.Len(t, own, 1)
	require.Len(t, others, 1)
	host = Other
	send(func(r *http.Request) *http.Request { return r })
	require.Len(t, others, 1)
	require.Equal(t, 2, v.Count(Outcome{"listNotes", 200, ""}))
}

func TestTransport_ChecksEachEventOfAStream(t *testing.T) {
	parts := make(chan string)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for part := range parts {
			_, _ = io.WriteString(w, part)
			_ = http.NewResponseController(w).Flush()
		}
	}))
	defer server.Close()
	end := sync.OnceFunc(func() { close(parts) })
	defer end()
	v := NewValidator(notes(t))
	var found []Finding
	client := &http.Client{Transport: v.Transport(http.DefaultTransport, func(string) Host { return Gateway }, func(f Finding) { found = append(found, f) })}
	go func() { parts <- "" }() // the headers are sent
	response, err := client.Get(server.URL + "/notes/changes?note=" + noteID)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	require.Equal(t, 1, v.Count(Outcome{"watchNotes", 200, ""}), "a stream is an outcome before it ends")
	read := func(part string) string {
		t.Helper()
		go func() { parts <- part }()
		found = nil
		text := make([]byte, len(part))
		_, err := io.ReadFull(response.Body, text)
		require.NoError(t, err)
		require.Equal(t, part, string(text))
		var all []string
		for _, f := range found {
			all = append(all, strings.Join(f.Differences, "\n"))
		}
		return strings.Join(all, "\n")
	}
	read("retry: 1\n\n: a comment\n\n")
	require.Empty(t, read("id: 7\r\nevent: note\r\ndata: "+note+"\r\n\r\n"))
	require.Empty(t, read("event: note\ndata: {\"id\":\n"))
	require.Empty(t, read("data: \""+noteID+"\",\"text\":\"in two lines\"}\n\n"))
	require.Contains(t, read("event: note\ndata: {\"text\":\"x\"}\n\n"), "missing property 'id'")
	require.Contains(t, read("event: note\ndata: "+strings.TrimSuffix(note, "}")+",\"more\":1}\n\n"), "/more is not described")
	require.Contains(t, read("event: other\ndata: {}\n\n"), `the event "other" is not described`)
	require.Contains(t, read("data: {}\n\n"), `the event "" is not described`)
	require.Contains(t, read("event: end\n\n"), "it has no data")
	require.Contains(t, read("events: end\n\n"), `no field "events"`)
	end()
	_, err = response.Body.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
}

func TestGenerator_SendsFilesAndLists(t *testing.T) {
	d := notes(t)
	g := NewGenerator(d, rand.New(rand.NewPCG(1, 1)), func(_ *Operation, name string) (any, bool) {
		value, known := map[string]any{"noteId": noteID, "image/png": []byte("\x89PNG")}[name]
		return value, known
	})
	changed := map[string]bool{}
	for _, o := range d.Operations() {
		switch o.ID {
		case "putPicture":
			for range 100 {
				changed[g.AlmostValid(o).Change] = true
			}
			sample := g.Sample(o)
			require.Equal(t, "\x89PNG", string(sample.Body))
			require.Equal(t, "image/png", sample.Header.Get("Content-Type"))
		case "watchNotes":
			query, err := url.Parse(g.Valid(o).Path)
			require.NoError(t, err)
			require.NotEmpty(t, query.Query()["note"])
		}
	}
	require.Subset(t, slices.Collect(maps.Keys(changed)), []string{"the body is empty", "the body is a changed one"})
}

func TestReport_ListsWhatNoTestHasProduced(t *testing.T) {
	v := NewValidator(notes(t))
	for _, o := range v.Document().Outcomes() {
		if o.Operation != "createNote" || o.Status != 400 {
			v.seen[o]++
		}
	}
	require.Equal(t, "described, and produced by no test: createNote 400 max\ndescribed, and produced by no test: createNote 400 min",
		v.Report([]Exception{{Operation: "*", Status: 400, Code: "not_json", Once: true, Reason: "listNotes has had it"}, {Operation: "createNote", Code: "wrong_type", Reason: "the test does not send it"}}))
	require.Equal(t, "an exception that is not needed: deleteNote 401 not_signed_in",
		v.Report([]Exception{{Operation: "createNote", Status: 400, Code: "*", Reason: "the test does not send it"}, {Operation: "deleteNote", Status: 401, Code: "not_signed_in", Reason: "it is sent"}}))
	require.Contains(t, v.Report([]Exception{{Operation: "createNote", Status: 400, Code: "*", Once: true, Reason: "none was produced"}}), "createNote 400 min")
}
