package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"boxoffice/services/internal/id"
	"boxoffice/services/internal/problem"
)

func TestParseEmail(t *testing.T) {
	tests := map[string]struct {
		raw, email string
		wrong      bool
	}{
		"plain":                                {raw: "ada@example.com", email: "ada@example.com"},
		"upper case":                           {raw: "Ada@Example.COM", email: "ada@example.com"},
		"spaces around it":                     {raw: " ada@example.com\t", email: "ada@example.com"},
		"a tag":                                {raw: "ada+tickets@example.com", email: "ada+tickets@example.com"},
		"odd but allowed":                      {raw: "a/d||a.%'@x-y.example.com", email: "a/d||a.%'@x-y.example.com"},
		"the longest local part":               {raw: strings.Repeat("a", 64) + "@example.com", email: strings.Repeat("a", 64) + "@example.com"},
		"a longer local part":                  {raw: strings.Repeat("a", 65) + "@example.com", wrong: true},
		"longer than SMTP takes":               {raw: "a@" + strings.Repeat(strings.Repeat("b", 62)+".", 4) + "com", wrong: true},
		"a label of 64":                        {raw: "a@" + strings.Repeat("b", 64) + ".com", wrong: true},
		"nothing":                              {raw: "", wrong: true},
		"no at":                                {raw: "ada.example.com", wrong: true},
		"no local part":                        {raw: "@example.com", wrong: true},
		"no domain":                            {raw: "ada@", wrong: true},
		"one label":                            {raw: "ada@localhost", wrong: true},
		"an empty label":                       {raw: "ada@example..com", wrong: true},
		"a dot at the end":                     {raw: "ada@example.com.", wrong: true},
		"a label with a dash":                  {raw: "ada@-example.com", wrong: true},
		"two ats":                              {raw: "ada@b@example.com", wrong: true},
		"a space within":                       {raw: "ada lovelace@example.com", wrong: true},
		"a display name":                       {raw: "Ada <ada@example.com>", wrong: true},
		"a line break":                         {raw: "ada@example.com\nBcc: eve@example.com", wrong: true},
		"a similar letter of another alphabet": {raw: "аda@example.com", wrong: true},
		"an address":                           {raw: "ada@[127.0.0.1]", wrong: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			email, err := ParseEmail(tt.raw)
			if tt.wrong {
				require.ErrorIs(t, err, errEmail)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.email, email)
		})
	}
}

func TestCheckPassword_CountsBytes(t *testing.T) {
	tests := map[string]struct {
		password string
		err      error
	}{
		"nothing":      {"", errTooShort},
		"7 bytes":      {"1234567", errTooShort},
		"8 bytes":      {"12345678", nil},
		"8 spaces":     {strings.Repeat(" ", 8), nil},
		"72 bytes":     {strings.Repeat("x", 72), nil},
		"73 bytes":     {strings.Repeat("x", 73), errTooLong},
		"36 umlauts":   {strings.Repeat("ü", 36), nil},
		"37 umlauts":   {strings.Repeat("ü", 37), errTooLong},
		"4 characters": {"🎭🎭🎭🎭", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tt.err, CheckPassword(tt.password))
		})
	}
}

func TestUser_EventHasNoPersonalData(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	user := SignUp("7", "ada@example.com", "$2a$10$secret", "", at)

	event, err := json.Marshal(user.Event())

	require.NoError(t, err)
	require.JSONEq(t, `{"id":"7","version":1,"createdAt":"2026-01-02T03:04:05.000Z"}`, string(event))
	require.Equal(t, "user.created", user.Event().EventType())
}

func TestParseNew_ReturnsTheErrorsOfBothMembers(t *testing.T) {
	_, err := parseNew(credentials{Email: "x", Password: "y"})

	require.Equal(t, &problem.Error{Kind: problem.Invalid, Details: []problem.Detail{
		{Message: "Email must be an email address, like ada@example.com.", Field: "email", Code: "email"},
		{Message: passwordLength, Field: "password", Code: "min"},
	}}, err)
	require.Len(t, errEmail.Details, 1)
}

func TestEmailKey_EscapesWhatKeysMayNotHave(t *testing.T) {
	require.Equal(t, "email/a%2Fd%7C%7Ca@example.com", emailKey("a/d||a@example.com"))
	require.NotEqual(t, emailKey("a%2Fd@example.com"), emailKey("a/d@example.com"))
}

func TestUser_AcceptsTokensOfItsEpochAndLater(t *testing.T) {
	user := SignUp("7", "ada@example.com", "hash", "", time.Now())
	require.True(t, user.Accepts(0))

	user.SignOutEverywhere()
	require.False(t, user.Accepts(0))
	require.True(t, user.Accepts(1))
	require.Equal(t, 2, user.Version)
	require.Equal(t, 2, user.Schema, "a process of an earlier release must not change it")

	err := user.ChangePassword("another hash", "other")
	require.ErrorIs(t, err, errChanged, "the confirmed password is no longer the user's")
	require.NoError(t, user.ChangePassword("hash", "other"))
	require.False(t, user.Accepts(1))
	require.True(t, user.Accepts(2))
	require.Equal(t, "other", user.PasswordHash)
	require.Equal(t, "ada@example.com", user.Email)
}

func TestUser_ASignUpIsRepeatedForADay(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	user := SignUp("7", "ada@example.com", "hash", signUpKey("k1"), at)
	require.True(t, user.WasMadeWith(signUpKey("k1"), at))
	require.True(t, user.WasMadeWith(signUpKey("k1"), at.Add(24*time.Hour-1)))
	require.False(t, user.WasMadeWith(signUpKey("k1"), at.Add(24*time.Hour)))
	require.False(t, user.WasMadeWith(signUpKey("k2"), at))
	require.False(t, user.WasMadeWith("", at))
	keyless := SignUp("7", "ada@example.com", "hash", signUpKey(""), at)
	require.False(t, keyless.WasMadeWith(signUpKey(""), at))
	stored, err := json.Marshal(user)
	require.NoError(t, err)
	require.NotContains(t, string(stored), "k1")
	user.Delete(at)
	require.Empty(t, user.SignUpKey)
}

func TestUser_DeleteRemovesPersonalData(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	user := SignUp("7", "ada@example.com", "hash", "", at)
	user.Delete(at.Add(time.Hour))

	require.True(t, user.IsDeleted())
	require.False(t, user.Accepts(1), "of no epoch")
	document, err := json.Marshal(user)
	require.NoError(t, err)
	require.JSONEq(t, `{"schema":2,"id":"7","epoch":1,"version":2,"createdAt":"2026-01-02T03:04:05Z","deletedAt":"2026-01-02T04:04:05Z"}`, string(document))
	event, err := json.Marshal(user.Event())
	require.NoError(t, err)
	require.JSONEq(t, `{"id":"7","version":2,"createdAt":"2026-01-02T03:04:05.000Z"}`, string(event))
	require.Equal(t, "user.deleted", user.Event().EventType())
}

func TestSession_OnlyItsLastRefreshTokenIsCurrent(t *testing.T) {
	at := time.Now()
	user := SignUp("7", "ada@example.com", "hash", "", at)
	user.SignOutEverywhere()
	session, first := newSession(user, at, time.Hour)
	require.Equal(t, user.Epoch, session.Epoch)
	require.Equal(t, at.Add(time.Hour), session.ExpiresAt)
	require.True(t, session.IsCurrent(first))

	next := session
	second := next.Rotate()
	require.True(t, next.IsCurrent(second))
	require.False(t, next.IsCurrent(first))
	require.Equal(t, session.ExpiresAt, next.ExpiresAt, "a refresh does not prolong it")

	document, err := json.Marshal(next)
	require.NoError(t, err)
	_, secret, _ := strings.Cut(second.String(), ".")
	require.NotContains(t, string(document), secret)
}

func TestSession_IsActiveUntilItExpiresOrItsUserSignsOutEverywhere(t *testing.T) {
	at := time.Now()
	user := SignUp("7", "ada@example.com", "hash", "", at)
	session, _ := newSession(user, at, time.Hour)

	require.True(t, session.IsActive(user, at.Add(time.Hour-1)))
	require.False(t, session.IsActive(user, at.Add(time.Hour)))
	signedOut, deleted := user, user
	signedOut.SignOutEverywhere()
	require.False(t, session.IsActive(signedOut, at))
	deleted.Delete(at)
	require.False(t, session.IsActive(deleted, at))
}

func TestParseRefreshToken(t *testing.T) {
	_, token := newSession(User{}, time.Now(), time.Hour)
	got, err := parseRefreshToken(token.String())
	require.NoError(t, err)
	require.Equal(t, token, got)

	id, secret, _ := strings.Cut(token.String(), ".")
	for name, text := range map[string]string{
		"nothing":          "",
		"no secret":        id,
		"an empty secret":  id + ".",
		"no id":            "." + secret,
		"a short secret":   id + "." + secret[1:],
		"a long secret":    id + "." + secret + "AAAA",
		"an id with a key": "../user/7." + secret,
		"upper case":       strings.ToUpper(id) + "X." + secret,
		"braces":           "{" + id + "}." + secret,
	} {
		_, err := parseRefreshToken(text)
		require.ErrorIs(t, err, errSession, name)
	}
}

func TestRevokedPart_RemovesRevocationsOfExpiredTokens(t *testing.T) {
	at := time.Now()
	part := revokedPart{
		Users:    map[id.User]revokedUser{"past": {1, at.Add(-time.Second)}, "now": {2, at.Add(time.Second)}},
		Sessions: map[string]time.Time{"past": at.Add(-time.Second), "now": at.Add(time.Second)},
	}

	part.removeExpired(at)

	require.Len(t, part.Users, 1)
	require.Contains(t, part.Users, id.User("now"))
	require.Len(t, part.Sessions, 1)
	require.Contains(t, part.Sessions, "now")
}
