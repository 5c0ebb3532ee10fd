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

// The demo account exists on every local stack, so that the first commands need no thought.
const (
	demoEmail    = "demo@example.com"
	demoPassword = "demo-password"
)

// demoAccount signs the demo user up, if it is not there from an earlier run, and returns a line about it.
func demoAccount(ctx context.Context, gateway string) string {
	body, _ := json.Marshal(map[string]string{"email": demoEmail, "password": demoPassword})
	client := http.Client{Timeout: 10 * time.Second}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, gateway+"/api/users/signup", bytes.NewReader(body))
	if err != nil {
		return err.Error()
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return "could not be made: " + err.Error()
	}
	defer func() { _ = response.Body.Close() }()
	switch response.StatusCode {
	case http.StatusCreated, http.StatusConflict:
		return demoEmail + " / " + demoPassword
	default:
		return "could not be made: " + response.Status
	}
}

func welcome(running *stack.Stack, ready time.Duration, account string) string {
	gateway := strings.Replace(running.GatewayURL(), "127.0.0.1", "localhost", 1)
	rss, pss := memory(append(processIDs(running), os.Getpid()))
	size := fmt.Sprintf("%d MB resident", rss>>20)
	if pss > 0 {
		size = fmt.Sprintf("%d MB resident (%d MB if pages that processes share are counted once)", rss>>20, pss>>20)
	}
	open := strings.Replace(strings.Join(running.GatewayURLs(), " and "), "127.0.0.1", "localhost", -1)
	return fmt.Sprintf(`The box office is open at %[9]s
  ready in %.1[2]f s; %[3]s in %[4]d processes
  demo account: %[5]s

Try:
  curl -s -c jar -H 'Content-Type: application/json' -d '{"email":"%[6]s","password":"%[7]s"}' %[1]s/api/users/signin
  curl -s -b jar -H 'Content-Type: application/json' -d '{"title":"Front row","price":4500}' %[1]s/api/tickets
  curl -s %[1]s/api/tickets

Ctrl-C stops it; the state stays in %[8]s.`,
		gateway, ready.Seconds(), size, len(running.Processes())+1, account, demoEmail, demoPassword, stack.StateFolder, open)
}

func processIDs(running *stack.Stack) []int {
	var ids []int
	for _, name := range running.Processes() {
		ids = append(ids, running.Process(name).PID())
	}
	return ids
}

// memory sums the resident memory of processes in bytes: as it is usually counted, and with what is shared
// between them (one binary serves nine of them) counted once. The second is 0 where the system does not tell.
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

// field reads a line like "Rss:   1234 kB".
func field(text, name string) int64 {
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == name {
			kilobytes, _ := strconv.ParseInt(fields[1], 10, 64)
			return kilobytes << 10
		}
	}
	return 0
}
