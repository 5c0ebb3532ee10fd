package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Any text is either refused, or read as the refresh token that has exactly this text.
func FuzzRefreshToken(f *testing.F) {
	_, token := newSession(User{}, time.Now(), time.Hour)
	f.Add(token.String())
	f.Add(strings.ToUpper(token.String()))
	f.Add(token.String() + "=")
	f.Add("user/7." + strings.Repeat("A", 43))
	f.Add(".")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := parseRefreshToken(text)
		if err != nil {
			require.ErrorIs(t, err, errSession)
			return
		}
		require.Equal(t, text, token.String())
		require.NotContains(t, token.session, "/")
		require.Len(t, token.secret, secretBytes)
	})
}
