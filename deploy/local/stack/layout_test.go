package stack

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWithProgram_ReplacesTheBundleOfAnInterpreter(t *testing.T) {
	require.Equal(t, []string{"/other/orders", "flag"}, withProgram([]string{"/orders", "flag"}, "/other/orders"))
	require.Equal(t, []string{"node", "--flag", "/other/webhooks.mjs"}, withProgram([]string{"node", "--flag", "/webhooks.mjs"}, "/other/webhooks.mjs"))
}
