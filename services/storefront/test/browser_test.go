// Package browser tests the storefront in a real browser: it starts stacks, and runs Playwright's tests of this folder on them.
package browser

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"boxoffice/deploy/local/samples"
	"boxoffice/deploy/local/stack"
	"boxoffice/deploy/local/stack/stacktest"
)

// limit is how long all tests in the browser may take. They take a third of it.
const limit = 8 * time.Minute

// withSamples is the stack that has the sample programme, for pictures.
const withSamples = "BOXOFFICE_HASTY_URL"

// The stacks, by the variable that gives Playwright the address of each (stacks.ts).
var stacks = map[string]map[string]string{
	"BOXOFFICE_URL":        nil,
	"BOXOFFICE_HASTY_URL":  {"RESERVATION_WINDOW": "8s"},
	"BOXOFFICE_STRIPE_URL": {"STRIPE_PUBLISHABLE_KEY": "pk_test_storefront"},
}

// One test of Go is all of the browser's: they share the stacks, and Playwright runs them at the same time. RUN=a pattern of titles
// runs some of them, UPDATE=1 writes the pictures anew.
func TestBrowser(t *testing.T) {
	stacktest.SkipIfShort(t)
	stacktest.RequireNode(t)
	requireBrowser(t)

	addresses := startStacks(t)

	args := []string{"run", "--silent", "test:browser", "--"}
	if pattern := os.Getenv("RUN"); pattern != "" {
		args = append(args, "--grep", pattern)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	playwright := exec.CommandContext(ctx, "npm", args...)
	playwright.Dir, playwright.Env = "..", append(os.Environ(), addresses...)
	playwright.WaitDelay = time.Second
	output, err := playwright.CombinedOutput()
	t.Logf("%s", output)
	require.NoError(t, err)
}

// requireBrowser skips the test if Chromium or the packages of package.json are not installed. With CI_REQUIRE_BROWSER it fails instead.
func requireBrowser(t *testing.T) {
	t.Helper()
	skip := t.Skip
	if os.Getenv("CI_REQUIRE_BROWSER") != "" {
		skip = t.Fatal
	}
	chromium := os.Getenv("CHROMIUM")
	if chromium == "" {
		chromium = "/usr/bin/chromium"
	}
	if _, err := exec.LookPath(chromium); err != nil {
		skip("it needs Chromium, for example: apt-get install chromium (or CHROMIUM=a path)")
	}
	if _, err := os.Stat("../node_modules/.bin/playwright"); errors.Is(err, fs.ErrNotExist) {
		skip("first: make test-typescript, which installs the packages")
	}
}

// startStacks starts all stacks at the same time. It returns the variables with their addresses.
func startStacks(t *testing.T) []string {
	t.Helper()
	var group errgroup.Group
	addresses := make(chan string, len(stacks))
	started := make(chan *stack.Stack, len(stacks))
	for variable, settings := range stacks {
		folder := filepath.Join(t.TempDir(), variable)
		group.Go(func() error {
			env := stack.WithoutLimits()
			maps.Copy(env, map[string]string{"BCRYPT_COST": "4", "SWEEP_PERIOD": "1s", "AUTH_PERIOD": "1s", "KEYS_PERIOD": "1s"})
			maps.Copy(env, settings)
			running, err := stacktest.Open(t.Context(), stack.Options{Folder: folder, Env: env, Set: os.Getenv("INFRA")})
			if err != nil {
				return fmt.Errorf("start the stack of %s: %w", variable, err)
			}
			started <- running
			addresses <- variable + "=" + running.GatewayURL()
			if variable == withSamples {
				_, err = samples.Fill(t.Context(), samples.Options{
					URL: running.GatewayURL(), Email: samples.Email, Password: samples.Password, Now: time.Now(), Rate: 1000,
				})
			}
			return err
		})
	}
	err := group.Wait()
	close(started)
	close(addresses)
	for running := range started {
		t.Cleanup(func() {
			if err := running.Stop(); err != nil {
				t.Errorf("stop a stack: %v", err)
			}
			for _, name := range running.Processes() {
				for _, line := range running.Process(name).Log() {
					if strings.Contains(line, "level=ERROR") {
						t.Errorf("%s logged an error: %s", name, line)
					}
				}
			}
		})
	}
	require.NoError(t, err)
	var variables []string
	for address := range addresses {
		variables = append(variables, address)
	}
	return variables
}
