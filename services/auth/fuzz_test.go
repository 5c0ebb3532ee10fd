package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/problem"
)

func FuzzParseEmail(f *testing.F) {
	for _, raw := range []string{
		"ada@example.com", " Ada@Example.COM\t", "a@b.c", "a@b", "@example.com", "ada@", "a@@b.c", "ada@exam ple.com", "ada@example.com\n", "ädä@example.com",
		"ada@\u212Aelvin.com", "İ@example.com", "a.b+c@sub.example.co.uk", strings.Repeat("a", 64) + "@" + strings.Repeat("b", 63) + ".com", "ada@-x.com", "\x00@b.c",
	} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		email, err := ParseEmail(raw)
		if err != nil {
			require.Equal(t, problem.Invalid, problem.KindOf(err))
			require.Empty(t, email)
			return
		}
		again, err := ParseEmail(email)
		require.NoError(t, err, "a normal form is a valid email")
		require.Equal(t, email, again, "the normal form of a normal form is the same")
		for _, spelling := range []string{strings.ToUpper(email), "  " + email + "\n"} {
			same, err := ParseEmail(spelling)
			require.NoError(t, err)
			require.Equal(t, email, same, "two spellings are one user")
		}
		require.LessOrEqual(t, len(email), longestEmail)
		require.Equal(t, 1, strings.Count(email, "@"))
		for _, r := range email {
			require.True(t, '!' <= r && r <= '~', "%q in %q", r, email)
		}
	})
}
