package stack

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLockState_NamesTheProcessThatHasTheLock(t *testing.T) {
	folder := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(folder, StateFolder), 0o700))
	lock, err := LockState(folder)
	require.NoError(t, err)

	_, err = LockState(folder)
	require.ErrorIs(t, err, ErrRunning)
	require.Regexp(t, `^another stack runs here, in .*, since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d; stop it with Ctrl-C in its terminal, or with: kill `+strconv.Itoa(os.Getpid())+`$`, err.Error())

	require.NoError(t, os.WriteFile(lock.Name(), nil, 0o600))
	_, err = LockState(folder)
	require.EqualError(t, err, "another stack runs here, in "+folder, "the lock of an earlier release is empty")

	require.NoError(t, lock.Close())
	lock, err = LockState(folder)
	require.NoError(t, err)
	require.NoError(t, lock.Close())
}

func TestTakenError_NamesThreePortsAndTheNumberOfTheOthers(t *testing.T) {
	few := &TakenError{Taken: []string{"port 1", "port 2", "port 3"}}
	require.EqualError(t, few, "taken already:\n  port 1\n  port 2\n  port 3")
	many := &TakenError{Taken: make([]string, 46)}
	require.ErrorContains(t, many, "and 43 more ports. Probably another stack runs")
}
