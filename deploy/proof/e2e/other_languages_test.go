package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack/stacktest"
	"boxoffice/deploy/proof/client"
)

// The examples and the client package of services/contracts do what they promise. Newcomers begin with them.

// The client package has tests of its own, which need a stack. Its example is one of them.
func TestTypeScriptClient_OnAStack(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	folder := filepath.Join(root(t), "services/contracts/typescript")
	stacktest.RequireNode(t)
	if _, err := os.Stat(filepath.Join(folder, "node_modules/.bin/vitest")); err != nil {
		const reason = "first: make test-typescript, which installs the packages"
		if os.Getenv("CI_REQUIRE_TYPESCRIPT") != "" {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}

	runProgram(t, folder, []string{"NO_COLOR=1", "BOXOFFICE_URL=" + s.GatewayURL()}, "npm", "run", "--silent", "test:stack")
}

func TestPythonClient_SellsATicket(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("there is no python3")
	}

	output := runProgram(t, filepath.Join(root(t), "services/contracts"), nil, "python3", "client.py", s.GatewayURL())

	require.Contains(t, output, "found: Globe with 1 left, from 4500")
	require.Contains(t, output, "live: reserved with 0 left")
	require.Contains(t, output, "declined: generic_decline")
	require.Contains(t, output, "order: complete")
	require.Contains(t, output, "checked in: 7")
	require.Contains(t, output, "refused: already_used")
}

// verify_pass.py knows a pass from its code and the key set alone, and a token is none.
func TestVerifyPass_KnowsARealPassWithoutTheNetwork(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	for _, program := range []string{"python3", "openssl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("there is no " + program)
		}
	}
	owner, holder := s.signUp(t), s.signUp(t)
	show := owner.announce(t, newShow(inDays(30)))
	pass := holder.buyPass(t, owner.listPlace(t, client.Offer{ShowID: show.ID, Price: 5000}).ID)
	keys := s.call(t, client.ReadPassKeys())
	requireStatus(t, 200, keys)
	keyFile, codes := filepath.Join(t.TempDir(), "keys.json"), filepath.Join(t.TempDir(), "codes.txt")
	require.NoError(t, os.WriteFile(keyFile, keys.Body, 0o600))
	require.NoError(t, os.WriteFile(codes, []byte(pass.Code+"\n"+pass.Code+"\n"+holder.token+"\n"), 0o600))

	output := runProgram(t, filepath.Join(root(t), "services/contracts"), nil, "sh", "-c", fmt.Sprintf("python3 verify_pass.py %s %s < %s", keyFile, show.ID, codes))

	require.Equal(t, fmt.Sprintf("valid %s\nrefused: it was used\nrefused: it is another kind of token\n", pass.OrderID), output)
}

// runProgram runs a program to its end, and returns what it printed. If it fails, so does the test.
func runProgram(t *testing.T, folder string, env []string, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	program := exec.CommandContext(ctx, name, args...)
	program.Dir, program.Env = folder, append(os.Environ(), env...)
	output, err := program.CombinedOutput()
	require.NoError(t, err, "%s", output)
	return string(output)
}

// The requests of services/contracts/boxoffice.http are answered as their titles have it, from the first to the last.
func TestHTTPFile_RequestsAreAnsweredAsInTheirTitles(t *testing.T) {
	t.Parallel()
	s := sharedStack(t)
	content, err := os.ReadFile(filepath.Join(root(t), "services/contracts/boxoffice.http"))
	require.NoError(t, err)
	requests, variables := parseHTTPFile(t, string(content))
	require.NotEmpty(t, requests)
	variables["url"] = s.GatewayURL() + "/api" // in the place of the address of make run
	variables["$timestamp"] = strconv.FormatInt(time.Now().UnixNano(), 10)

	for _, r := range requests {
		request := client.Request{
			Method: r.method, Path: replaceVariables(t, variables, r.url), Body: replaceVariables(t, variables, r.body),
		}
		if r.body == "" {
			request.Body = nil
		}
		for name, value := range r.headers {
			request = request.With(name, replaceVariables(t, variables, value))
		}
		var response client.Response
		// What depends on events comes a moment later. A person would send the request again, too.
		answered := waitUntil(waitLimit, func() bool {
			response, err = s.api.Do(t.Context(), request)
			return err == nil && response.Status == r.status && strings.Contains(string(response.Body), r.part)
		})
		require.NoError(t, err)
		require.True(t, answered, "%s\n%s %s\nanswered %d: %s", r.title, request.Method, request.Path, response.Status, response.Body)
		if r.name != "" {
			members, err := client.Decode[map[string]any](response, nil)
			require.NoError(t, err)
			for member, value := range members {
				variables[fmt.Sprintf("%s.response.body.%s", r.name, member)] = fmt.Sprint(value)
			}
		}
	}
}

// httpFileRequest is a request of a file in the format of REST Client.
type httpFileRequest struct {
	title   string
	status  int    // at the end of the title
	part    string // of the body, behind it
	name    string // others use its response under this name
	method  string
	url     string
	headers map[string]string
	body    string
}

var (
	httpFileTitle    = regexp.MustCompile(`(?m)^### (.*): (\d{3})(?: (".*))?$`)
	httpFileVariable = regexp.MustCompile(`^@(\w+) = (.*)$`)
	httpFileName     = regexp.MustCompile(`^# @name (\w+)$`)
	httpFileHeader   = regexp.MustCompile(`^([\w-]+): (.*)$`)
	httpFileUse      = regexp.MustCompile(`\{\{([^}]+)\}\}`)
)

// parseHTTPFile returns the file's requests and variables. A variable may use others.
func parseHTTPFile(t *testing.T, content string) (requests []httpFileRequest, variables map[string]string) {
	t.Helper()
	variables = map[string]string{}
	parts := strings.Split(content, "\n### ")
	for line := range strings.Lines(parts[0]) {
		if variable := httpFileVariable.FindStringSubmatch(strings.TrimSpace(line)); variable != nil {
			variables[variable[1]] = variable[2]
		}
	}
	for _, part := range parts[1:] {
		head, body, _ := strings.Cut(strings.TrimSpace(part), "\n\n")
		lines := strings.Split(head, "\n")
		title := httpFileTitle.FindStringSubmatch("### " + lines[0])
		require.NotNil(t, title, "the title does not end with a status: %s", lines[0])
		request := httpFileRequest{title: title[1], part: title[3], body: body, headers: map[string]string{}}
		request.status, _ = strconv.Atoi(title[2])
		for _, line := range lines[1:] {
			if variable := httpFileVariable.FindStringSubmatch(line); variable != nil {
				variables[variable[1]] = variable[2]
			} else if name := httpFileName.FindStringSubmatch(line); name != nil {
				request.name = name[1]
			} else if request.method == "" {
				method, url, found := strings.Cut(line, " ")
				require.True(t, found, "%s: no request: %s", title[1], line)
				request.method, request.url = method, url
			} else {
				header := httpFileHeader.FindStringSubmatch(line)
				require.NotNil(t, header, "%s: no header: %s", title[1], line)
				request.headers[header[1]] = header[2]
			}
		}
		requests = append(requests, request)
	}
	return requests, variables
}

// replaceVariables returns the text with the values of the variables in it.
func replaceVariables(t *testing.T, variables map[string]string, text string) string {
	t.Helper()
	return httpFileUse.ReplaceAllStringFunc(text, func(use string) string {
		name := httpFileUse.FindStringSubmatch(use)[1]
		value, found := variables[name]
		require.True(t, found, "nothing has set %s", name)
		return replaceVariables(t, variables, value)
	})
}
