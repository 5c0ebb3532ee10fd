package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/proof/client"
	"boxoffice/deploy/proof/contract"
)

const (
	// generatedRequests is how many requests are generated, unless REQUESTS is set.
	generatedRequests = 600
	// requestsPerUser is after how many requests they are sent by another user. Some of them change the password or end the session.
	requestsPerUser = 40
	// longestBody is how many bytes a body of JSON may have.
	longestBody = 65_536
)

// statedInProse are the codes of rules that the document states in words, because a schema cannot state them.
var statedInProse = []string{"printable", "notblank", "email", "min", "max", "url_not_allowed", "signature_invalid", "invalid", "not_text", "image_invalid", "pass_invalid", "resale_fixed"}

// Requests are generated from the document. None of them leads to a 500 or to a response that is not described; one that the document
// allows is not refused by a rule that the document does not state; one that it does not allow is refused.
func TestGenerated_RequestsLeadToWhatIsDescribed(t *testing.T) {
	t.Parallel()
	s := sharedCompleteStack(t)
	// Always the same requests, unless REQUESTS or SEED asks for others: so a change of the code alone makes the test fail.
	count, seed := generatedRequests, uint64(1)
	if text := os.Getenv("REQUESTS"); text != "" {
		var err error
		seed = uint64(time.Now().UnixNano())
		count, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	if text := os.Getenv("SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("%d requests; SEED=%d generates them again", count, seed)

	statuses := map[int]int{}
requests:
	for n := 0; n < count; {
		sam := s.newSampler(t, seed+uint64(n))
		chance := rand.New(rand.NewPCG(seed, uint64(n)))
		for range requestsPerUser {
			n++
			var all []*contract.Operation
			sam.each(func(o *contract.Operation) bool { return o.ID != "receiveStripeEvent" }, // only Stripe can sign it
				func(o *contract.Operation) { all = append(all, o) })
			o := all[chance.IntN(len(all))]
			generated := sam.generator.Valid(o)
			if chance.IntN(4) > 0 {
				generated = sam.generator.AlmostValid(o)
			}
			statuses[sam.send(t, generated)]++
			if t.Failed() && n > 50 && count > generatedRequests {
				break requests
			}
		}
	}
	t.Logf("responses by status: %v", statuses)
	require.NotZero(t, statuses[200], "some requests are granted")
	require.NotZero(t, statuses[400], "some requests are refused")
}

// send sends a generated request and returns the status. The transport compares the response; here is what it cannot know.
func (sam *sampler) send(t *testing.T, generated contract.Request) int {
	t.Helper()
	request := sam.signed(generated)
	r, err := sam.stack.try(contract.WithReporter(t.Context(), func(f contract.Finding) {
		t.Errorf("%s\n  change: %s", findings.describe(f), generated.Change)
	}), request)
	if err != nil {
		t.Errorf("%s %s (%s): there is no response: %v", request.Method, request.Path, generated.Change, err)
		return 0
	}
	where, err := url.Parse(sam.stack.GatewayURL() + request.Path)
	require.NoError(t, err)
	sent := request.Header
	if sent == nil {
		sent = http.Header{}
	}
	x := contract.Exchange{Method: request.Method, URL: where, RequestHeader: sent, RequestBody: generated.Body, Status: r.Status, ResponseHeader: r.Header, ResponseBody: r.Body}
	reasons, described := validator().Document().CheckRequest(x)
	problem := ""
	switch {
	case described && len(reasons) == 0 && slices.Contains([]int{400, 413, 415, 431}, r.Status) && !sam.refusedByProse(generated, r):
		problem = "the document allows this request, and it was refused"
	case r.Status == 503 && !slices.Contains([]string{"not_yet_known", "overloaded"}, r.Code()):
		problem = "nothing is away, and the response is 503"
	}
	if problem != "" {
		f := contract.Finding{Exchange: x, Operation: generated.Operation.ID, Differences: []string{problem + fmt.Sprintf(" (%s)", generated.Change)}}
		t.Errorf("%s", findings.describe(f))
	}
	return r.Status
}

// refusedByProse reports whether a refusal has only reasons that a schema cannot state.
func (sam *sampler) refusedByProse(generated contract.Request, r client.Response) bool {
	p, err := r.Problem()
	if err != nil {
		return false
	}
	if slices.ContainsFunc([]string{"Content-Encoding", "Content-Type"}, func(name string) bool { return strings.Contains(generated.Change, name) }) {
		return true // media types of requests are compared without their encoding
	}
	if generated.Operation.ID == "createPayment" {
		return true // Stripe's codes
	}
	if r.Status == http.StatusRequestEntityTooLarge {
		return len(generated.Body) > longestBody
	}
	return !slices.ContainsFunc(p.Errors, func(e client.ProblemDetail) bool {
		if generated.Operation.ID == "updateTicket" && e.Field == "title" && e.Code == "required" {
			return false // the ticket has no show
		}
		return !slices.Contains(statedInProse, e.Code)
	})
}
