package browser

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestHold(t *testing.T) {
	if os.Getenv("HOLD") == "" {
		t.Skip()
	}
	keep := map[string]map[string]string{}
	for name, env := range stacks {
		if strings.Contains(os.Getenv("HOLD"), name) || os.Getenv("HOLD") == "all" {
			keep[name] = env
		}
	}
	stacks = keep
	addresses := startStacks(t)
	os.WriteFile("/tmp/browser-env", []byte("export "+strings.Join(addresses, "\nexport ")+"\n"), 0o600)
	for {
		if _, err := os.Stat("/tmp/browser-env"); err != nil {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
}
