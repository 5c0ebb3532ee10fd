package overlay

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// clockReader prints, for each line that it reads, the time and how long it has been running by the monotonic clock.
const clockReader = `package main

import (
	"bufio"
	"fmt"
	"os"
	"time"
)

func main() {
	begin := time.Now()
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		now := time.Now()
		fmt.Println(now.Unix(), int(now.Sub(begin).Seconds()), int(time.Since(begin).Seconds()))
	}
}
`

func TestClock_MovesTheWallClockAlone(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the standard library")
	}
	folder := t.TempDir()
	rules, err := clockRules(t.Context(), folder)
	require.NoError(t, err)
	text, err := json.Marshal(map[string]any{"Replace": rules})
	require.NoError(t, err)
	overlayFile, source, program := filepath.Join(folder, "rules"), filepath.Join(folder, "main.go"), filepath.Join(folder, "program")
	require.NoError(t, os.WriteFile(overlayFile, text, 0o600))
	require.NoError(t, os.WriteFile(source, []byte(clockReader), 0o600))
	output, err := exec.CommandContext(t.Context(), "go", "build", "-overlay", overlayFile, "-o", program, source).CombinedOutput()
	require.NoError(t, err, "%s", output)

	clock, err := NewClock(filepath.Join(folder, "clock"))
	require.NoError(t, err)
	command := exec.CommandContext(t.Context(), program)
	for name, value := range clock.Env() {
		command.Env = append(os.Environ(), name+"="+value)
	}
	in, err := command.StdinPipe()
	require.NoError(t, err)
	out, err := command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	lines := bufio.NewScanner(out)
	for _, offset := range []time.Duration{0, 10 * time.Minute, -10 * time.Minute, 0} {
		require.NoError(t, clock.Set(offset))
		_, err := in.Write([]byte("\n"))
		require.NoError(t, err)
		require.True(t, lines.Scan())
		fields := strings.Fields(lines.Text())
		require.Len(t, fields, 3)
		unix, err := strconv.ParseInt(fields[0], 10, 64)
		require.NoError(t, err)
		require.InDelta(t, time.Now().Add(offset).Unix(), unix, 5)
		for _, passed := range fields[1:] {
			seconds, err := strconv.Atoi(passed)
			require.NoError(t, err)
			require.InDelta(t, 0, seconds, 60, "the monotonic clock")
		}
	}
	require.NoError(t, in.Close())
	require.NoError(t, command.Wait())
}
