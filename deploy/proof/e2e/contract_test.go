package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/proof/contract"
	"boxoffice/services/contracts"
)

// All responses of the API that tests receive are compared with services/contracts/openapi.yaml. A response that differs fails the test that
// asked for it. At the end of a whole run, what the document describes and no test has produced fails the run.

// validator compares with the document. It is the same for all stacks, so that it knows what the whole run has produced.
var validator = sync.OnceValue(func() *contract.Validator {
	document, err := contract.Parse(contracts.OpenAPI())
	if err != nil {
		panic(err)
	}
	return contract.NewValidator(document)
})

// notProduced is what the document describes and tests do not produce.
var notProduced = []contract.Exception{
	{Operation: "*", Status: 500, Code: "internal", Reason: "it would be a defect"},
	{Operation: "*", Status: 503, Code: "timeout", Reason: "each call to a sidecar or a server has a shorter time than the request; the tests of services/internal/rest produce it"},
	{Operation: "*", Status: 409, Code: "conflict", Reason: "a decision is made again many times before; the tests of services/internal/state produce it"},
	{Operation: "*", Status: 503, Code: "outcome_unknown", Reason: "a store must end during a commit, which is chance; the tests of services/internal/state produce it"},
	{Operation: "*", Status: 503, Code: "overloaded", Once: true, Reason: "one place makes it for all operations with a password"},
	{Operation: "changePassword", Status: 409, Code: "account_changed", Reason: "two changes of an account must meet; the tests of services/auth produce it"},
	{Operation: "createPayment", Status: 409, Code: "order_complete", Reason: "an order is completed by its payment, which is then answered; the tests of services/payments produce it"},
	{Operation: "receiveStripeEvent", Status: 503, Code: "processor_unavailable", Reason: "Stripe alone gets it"},
	{Operation: "receiveStripeEvent", Status: 503, Code: "unavailable", Reason: "Stripe alone gets it"},
	{Operation: "searchShows", Status: 503, Code: "unavailable", Reason: "the catalogue answers from memory, and is not ready before it has all"},
	{Operation: "getCatalogueShow", Status: 503, Code: "unavailable", Reason: "as searchShows"},
	{Operation: "listTicketsOfShow", Status: 503, Code: "unavailable", Reason: "as searchShows"},
	{Operation: "watchShows", Status: 503, Code: "unavailable", Reason: "it is for the moment in which the service starts or stops"},
	{Operation: "getCurrentUser", Status: 503, Code: "unavailable", Reason: "a process that has started answers from what it knows"},
}

// contractTransport returns the transport of a stack's client. Its findings fail the test that owns the stack, or the run.
func (s *testStack) contractTransport(next http.RoundTripper) http.RoundTripper {
	hosts := map[string]contract.Host{}
	for _, id := range append(services(), "webhooks") {
		kind := contract.Service
		if id == "gateway" {
			kind = contract.Gateway
		}
		for _, name := range s.Replicas(id) {
			hosts[strings.TrimPrefix(s.URL(name), "http://")] = kind
		}
	}
	return firstEvent{validator().Transport(next, func(host string) contract.Host { return hosts[host] }, func(f contract.Finding) {
		if owner := s.owner.Load(); owner != nil {
			reportTo(*owner)(f)
			return
		}
		findings.add(f)
	})}
}

// firstEvent is a transport that ends a stream after its first event, unless the request asks for a stream. So each operation can be called in
// the same way.
type firstEvent struct{ next http.RoundTripper }

func (f firstEvent) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := f.next.RoundTrip(request)
	const stream = "text/event-stream"
	if err != nil || request.Method == http.MethodHead || request.Header.Get("Accept") == stream || response.Header.Get("Content-Type") != stream {
		return response, err
	}
	var text bytes.Buffer
	lines := bufio.NewReader(io.TeeReader(response.Body, &text))
	for hasData := false; err == nil; {
		var line string
		if line, err = lines.ReadString('\n'); line == "\n" && hasData {
			break
		}
		hasData = hasData || strings.HasPrefix(line, "data:")
	}
	if closed := response.Body.Close(); err == nil {
		err = closed
	}
	response.Body = io.NopCloser(&text)
	return response, err
}

func (f firstEvent) CloseIdleConnections() {
	if closer, ok := f.next.(interface{ CloseIdleConnections() }); ok {
		closer.CloseIdleConnections()
	}
}

// runsEarlierRelease reports whether a stack may run programs of an earlier release, which the document does not describe.
func runsEarlierRelease(opts stack.Options) bool { return opts.RunFile != "" || len(opts.Programs) > 0 }

// owner is the test that a stack belongs to at the moment, or nil.
type owner = atomic.Pointer[testing.TB]

// reportTo returns a function that fails a test with a finding.
func reportTo(t testing.TB) func(contract.Finding) {
	return func(f contract.Finding) {
		t.Helper()
		t.Errorf("%s", findings.describe(f))
	}
}

// findingList has the findings of requests that belong to no test.
type findingList struct {
	mu    sync.Mutex
	count map[string]int // by what differs
	errs  []error
}

var findings = &findingList{count: map[string]int{}}

// describe returns a finding's text: whole for the first ones of a kind, so that a load does not print thousands.
func (l *findingList) describe(f contract.Finding) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	kind := fmt.Sprint(f.Operation, f.Status, f.Differences[0])
	l.count[kind]++
	const whole = 2
	if l.count[kind] > whole {
		return fmt.Sprintf("%s, status %d, differs from the OpenAPI document as before: %s", f.Operation, f.Status, f.Differences[0])
	}
	return f.String()
}

func (l *findingList) add(f contract.Finding) {
	text := l.describe(f)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errs = append(l.errs, errors.New(text))
}

// err returns the findings that no test has reported.
func (l *findingList) err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.errs...)
}

// reportContract returns the findings of the run. After a whole run on the set embedded it also returns what no test has produced.
func reportContract(failed bool) error {
	exchanges, spent := validator().Cost()
	if exchanges == 0 {
		return nil
	}
	fmt.Fprintf(os.Stderr, "%d responses were compared with the OpenAPI document, in %s\n", exchanges, spent.Round(time.Millisecond))
	err := findings.err()
	set := os.Getenv("INFRA")
	if os.Getenv("CONTRACT_REPORT") != "" { // of a part of the tests, or of one that failed
		fmt.Fprintln(os.Stderr, validator().Report(withoutWebhooks(notProduced)))
		return err
	}
	if flag.Lookup("test.run").Value.String() != "" || flag.Lookup("test.skip").Value.String() != "" || failed || set != "" && set != stack.SetEmbedded {
		return err
	}
	if missing := validator().Report(withoutWebhooks(notProduced)); missing != "" {
		err = errors.Join(err, errors.New(missing))
	}
	return err
}

// withoutWebhooks adds the operations of webhooks to exceptions, if Node was not there to run the service.
func withoutWebhooks(exceptions []contract.Exception) []contract.Exception {
	if sharedComplete.reusableStack == nil || sharedComplete.hasWebhooks() {
		return exceptions
	}
	for _, o := range validator().Document().Operations() {
		if slices.Contains(o.Tags, "webhooks") {
			exceptions = append(slices.Clone(exceptions), contract.Exception{Operation: o.ID, Code: "*", Reason: "Node is not installed"})
		}
	}
	return exceptions
}
