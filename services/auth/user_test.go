package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseEmail(t *testing.T) {
	tests := map[string]struct {
		raw, email string
		wrong      bool
	}{
		"plain":                  {raw: "ada@example.com", email: "ada@example.com"},
		"upper case":             {raw: "Ada@Example.COM", email: "ada@example.com"},
		"spaces around it":       {raw: " ada@example.com\t", email: "ada@example.com"},
		"a tag":                  {raw: "ada+tickets@example.com", email: "ada+tickets@example.com"},
		"odd but allowed":        {raw: "a/d||a.%'@x-y.example.com", email: "a/d||a.%'@x-y.example.com"},
		"the longest local part": {raw: strings.Repeat("a", 64) + "@example.com", email: strings.Repeat("a", 64) + "@example.com"},
		"a longer local part":    {raw: strings.Repeat("a", 65) + "@example.com", wrong: true},
		"longer than SMTP takes": {raw: "a@" + strings.Repeat(strings.Repeat("b", 62)+".", 4) + "com", wrong: true},
		"a label of 64":          {raw: "a@" + strings.Repeat("b", 64) + ".com", wrong: true},
		"nothing":                {raw: "", wrong: true},
		"no at":                  {raw: "ada.example.com", wrong: true},
		"no local part":          {raw: "@example.com", wrong: true},
		"no domain":              {raw: "ada@", wrong: true},
		"one label":              {raw: "ada@localhost", wrong: true},
		"an empty label":         {raw: "ada@example..com", wrong: true},
		"a dot at the end":       {raw: "ada@example.com.", wrong: true},
		"a label with a dash":    {raw: "ada@-example.com", wrong: true},
		"two ats":                {raw: "ada@b@example.com", wrong: true},
		"a space within":         {raw: "ada lovelace@example.com", wrong: true},
		"a display name":         {raw: "Ada <ada@example.com>", wrong: true},
		"a line break":           {raw: "ada@example.com\nBcc: eve@example.com", wrong: true},
		"look-alike letters":     {raw: "аda@example.com", wrong: true},
		"an address":             {raw: "ada@[127.0.0.1]", wrong: true},
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

func TestUser_CreatedTellsNothingOfThePassword(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	user := SignUp("7", "ada@example.com", "$2a$10$secret", at)

	told, err := json.Marshal(user.Created())

	require.NoError(t, err)
	require.JSONEq(t, `{"id":"7","email":"ada@example.com","version":1,"createdAt":"2026-01-02T03:04:05Z"}`, string(told))
	require.Equal(t, "user.created", user.Created().EventType())
}

func TestValid_TellsAllThatIsWrongAtOnce(t *testing.T) {
	_, err := valid(credentials{Email: "x", Password: "y"})

	encoded, marshalErr := json.Marshal(err)
	require.NoError(t, marshalErr)
	require.JSONEq(t, `{"Kind":1,"RetryAfter":0,"Details":[
		{"message":"Email must be an email address, like ada@example.com.","field":"email","code":"email"},
		{"message":"Password must be at least 8 characters long.","field":"password","code":"min"}]}`, string(encoded))
	require.Len(t, errEmail.Details, 1)
}

func TestEmailKey_HoldsNothingThatKeysMayNot(t *testing.T) {
	require.Equal(t, "email/a%2Fd%7C%7Ca@example.com", emailKey("a/d||a@example.com"))
	require.NotEqual(t, emailKey("a%2Fd@example.com"), emailKey("a/d@example.com"))
}
