package signing

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Any secret either has a key that signs, or is refused with an error that has no part of the secret.
func FuzzKeys(f *testing.F) {
	t := &testing.T{}
	one, two := encode(t, newKey(t)), encodePublic(t, newKey(t), map[string]string{"Expires": "2026-01-02T03:04:05Z"})
	f.Add(one)
	f.Add(one + two)
	f.Add(two + one)
	f.Add(one[:len(one)-30])
	f.Add("")
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		k, err := parseKeys(text, at)
		if err == nil {
			require.NotNil(t, k.Private)
			return
		}
		for _, line := range strings.Split(text, "\n") {
			if len(line) > 24 {
				require.NotContains(t, err.Error(), line)
			}
		}
	})
}
