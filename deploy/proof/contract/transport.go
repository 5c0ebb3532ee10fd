package contract

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Validator checks what passes through its transports, and remembers which outcomes it has seen. It is safe for concurrent use.
type Validator struct {
	document *Document

	mu    sync.Mutex
	seen  map[Outcome]int
	count int
	spent time.Duration
}

// NewValidator returns a validator of a document.
func NewValidator(d *Document) *Validator {
	return &Validator{document: d, seen: map[Outcome]int{}}
}

// Document is what the validator compares with.
func (v *Validator) Document() *Document { return v.document }

// Host is what answers at an address.
type Host int

const (
	// Other is not described by the document: a sidecar, the sandbox, metrics.
	Other Host = iota
	// Gateway has all operations.
	Gateway
	// Service is a service without the gateway. It has some of the operations.
	Service
)

// Transport checks the exchanges that pass through it.
type Transport struct {
	validator *Validator
	next      http.RoundTripper
	hosts     func(host string) Host
	report    func(Finding)
}

// Transport returns a transport that sends requests by next. hosts returns what answers at an address with port. report gets the findings
// of requests whose context has no reporter; it may be called from any goroutine.
func (v *Validator) Transport(next http.RoundTripper, hosts func(host string) Host, report func(Finding)) *Transport {
	return &Transport{validator: v, next: next, hosts: hosts, report: report}
}

type reporterKey struct{}

// WithReporter returns a context for requests whose findings are given to report.
func WithReporter(ctx context.Context, report func(Finding)) context.Context {
	return context.WithValue(ctx, reporterKey{}, report)
}

// RoundTrip implements http.RoundTripper. It reads the response's body, except that of a stream, whose events are checked while they are read.
func (t *Transport) RoundTrip(request *http.Request) (*http.Response, error) {
	host := t.hosts(request.URL.Host)
	if host == Other {
		return t.next.RoundTrip(request)
	}
	x := Exchange{Method: request.Method, URL: request.URL, RequestHeader: request.Header.Clone(), Direct: host == Service}
	x.RequestBody, x.Streamed = bodyOf(request)
	response, err := t.next.RoundTrip(request)
	if err != nil {
		return response, err
	}
	report, ok := request.Context().Value(reporterKey{}).(func(Finding))
	if !ok {
		report = t.report
	}
	x.Status, x.ResponseHeader = response.StatusCode, response.Header
	if isStream(response.Header) {
		if finding := t.validator.check(x); finding != nil {
			report(*finding)
		}
		response.Body = t.follow(x, response.Body, report)
		return response, nil
	}
	text, err := io.ReadAll(response.Body)
	err = errors.Join(err, response.Body.Close())
	response.Body = io.NopCloser(io.MultiReader(bytes.NewReader(text), failing{err}))
	if err != nil {
		return response, nil // there is no whole response to check
	}
	x.ResponseBody = text
	if finding := t.validator.check(x); finding != nil {
		report(*finding)
	}
	return response, nil
}

// CloseIdleConnections lets http.Client.CloseIdleConnections reach the transport below.
func (t *Transport) CloseIdleConnections() {
	if closer, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		closer.CloseIdleConnections()
	}
}

// bodyOf returns a copy of a request's body, if it can be read again.
func bodyOf(request *http.Request) (text []byte, streamed bool) {
	if request.Body == nil || request.Body == http.NoBody {
		return nil, false
	}
	if request.GetBody == nil {
		return nil, true
	}
	body, err := request.GetBody()
	if err != nil {
		return nil, true
	}
	defer func() { _ = body.Close() }()
	text, err = io.ReadAll(body)
	return text, err != nil
}

// failing is the end of a body that could not be read whole.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) {
	if f.err == nil {
		return 0, io.EOF
	}
	return 0, f.err
}

func (v *Validator) check(x Exchange) *Finding {
	began := time.Now()
	outcomes, finding := v.document.Check(x)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.count++
	v.spent += time.Since(began)
	for _, outcome := range outcomes {
		v.seen[outcome]++
	}
	return finding
}

// Cost returns how many exchanges were checked, and how long that took in all.
func (v *Validator) Cost() (exchanges int, spent time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.count, v.spent
}

// Count returns how often an outcome was seen.
func (v *Validator) Count(o Outcome) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.seen[o]
}

// Missing returns the outcomes that the document describes and that no exchange has shown, sorted.
func (v *Validator) Missing() []Outcome {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.DeleteFunc(v.document.Outcomes(), func(o Outcome) bool { return v.seen[o] > 0 })
}

// Exception is a group of outcomes that tests need not produce.
type Exception struct {
	// Operation and Code may be "*", and Status 0, for any.
	Operation string
	Status    int
	Code      string
	// Once is whether one outcome of the group must be produced, because all are made at one place in the code.
	Once   bool
	Reason string
}

// Covers reports whether an outcome belongs to the group.
func (e Exception) Covers(o Outcome) bool {
	return (e.Operation == "*" || e.Operation == o.Operation) && (e.Status == 0 || e.Status == o.Status) && (e.Code == "*" || e.Code == o.Code)
}

// Report writes the missing outcomes that no exception covers, one a line, and which exceptions cover nothing that is missing. It is empty
// if all is as it should be.
func (v *Validator) Report(exceptions []Exception) string {
	var lines []string
	used, produced := make([]bool, len(exceptions)), make([]bool, len(exceptions))
	for _, o := range v.document.Outcomes() {
		for i, e := range exceptions {
			produced[i] = produced[i] || !e.Once || e.Covers(o) && v.Count(o) > 0
		}
	}
	for _, o := range v.Missing() {
		covered := false
		for i, e := range exceptions {
			if e.Covers(o) && produced[i] {
				covered, used[i] = true, true
			}
		}
		if !covered {
			lines = append(lines, "described, and produced by no test: "+o.String())
		}
	}
	for i, e := range exceptions {
		if !used[i] {
			lines = append(lines, "an exception that is not needed: "+Outcome{e.Operation, e.Status, e.Code}.String())
		}
	}
	return strings.Join(lines, "\n")
}
