package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"boxoffice/deploy/local/stack"
)

// The demo account exists on every local stack, so that the first commands work as they are.
const (
	demoEmail    = "demo@example.com"
	demoPassword = "demo-password"
)

// demoAccount makes sure that the demo user exists, and returns a line about it. The first start signs it up and makes the file made;
// later ones sign in.
func demoAccount(ctx context.Context, gateway, made string) string {
	const account = demoEmail + " / " + demoPassword
	if _, err := os.Stat(made); err == nil {
		if status, err := postDemo(ctx, gateway+"/api/users/signin"); err == nil && status == http.StatusOK {
			return account
		}
	}
	switch status, err := postDemo(ctx, gateway+"/api/users/signup"); {
	case err != nil:
		return "could not be made: " + err.Error()
	case status == http.StatusCreated, status == http.StatusConflict:
		_ = os.WriteFile(made, nil, 0o600) // without it the next start signs up again, which is refused
		return account
	default:
		return fmt.Sprintf("could not be made: status %d", status)
	}
}

func postDemo(ctx context.Context, url string) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	body, _ := json.Marshal(map[string]string{"email": demoEmail, "password": demoPassword}) // never fails
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	return response.StatusCode, response.Body.Close()
}

// welcome is what the launcher prints when all is ready. The line about the sample programme may be empty.
func welcome(running *stack.Stack, ready time.Duration, account, programme string) string {
	gateway := strings.Replace(running.GatewayURL(), "127.0.0.1", "localhost", 1)
	rss, pss := memory(append(processIDs(running), os.Getpid()))
	size := fmt.Sprintf("%d MB resident", rss>>20)
	if pss > 0 {
		size = fmt.Sprintf("%d MB resident (%d MB if pages that processes share are counted once)", rss>>20, pss>>20)
	}
	if programme != "" {
		programme = "  " + programme + "\n"
	}
	return fmt.Sprintf(`The box office is open at %[9]s
  ready in %.1[2]f s; %[3]s in %[4]d processes
  demo account: %[5]s
%[10]s
Try, in another terminal:
  api() { curl -s -w '\n' -H 'Content-Type: application/json' "$@"; }
  api -c jar -d '{"email":"%[6]s","password":"%[7]s"}' %[1]s/api/users/signin
  api -b jar -d '{"title":"Front row","price":4500}' %[1]s/api/tickets
  api %[1]s/api/tickets

Ctrl-C stops it; the state stays in %[8]s.`,
		gateway, ready.Seconds(), size, len(running.Processes())+1, account, demoEmail, demoPassword, stack.StateFolder, addresses(running), programme)
}

// addresses are those of the gateway, for people.
func addresses(running *stack.Stack) string {
	return strings.ReplaceAll(strings.Join(running.GatewayURLs(), " and "), "127.0.0.1", "localhost")
}

func processIDs(running *stack.Stack) []int {
	var ids []int
	for _, name := range running.Processes() {
		ids = append(ids, running.Process(name).PID())
	}
	return ids
}

// memory is the resident memory of processes in bytes: the usual sum, and the sum with shared pages counted once (nine processes run
// one binary). The second is 0 on systems that do not show it.
func memory(ids []int) (rss, pss int64) {
	for _, id := range ids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", id))
		if err != nil {
			out, _ := exec.Command("ps", "-o", "rss=", "-p", strconv.Itoa(id)).Output()
			kilobytes, _ := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
			rss += kilobytes << 10
			continue
		}
		rss += field(string(text), "Rss:")
		pss += field(string(text), "Pss:")
	}
	return rss, pss
}

// field is the value, in bytes, of a line like "Rss:   1234 kB".
func field(text, name string) int64 {
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == name {
			kilobytes, _ := strconv.ParseInt(fields[1], 10, 64)
			return kilobytes << 10
		}
	}
	return 0
}
