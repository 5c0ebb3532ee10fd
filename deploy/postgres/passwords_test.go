package main

import (
	"encoding/base64"
	"testing"
)

// RFC 7677, section 3: user "user", password "pencil"; what its server signature shows of the server key.
func TestVerifier_IsWhatRFC7677Gives(t *testing.T) {
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	if err != nil {
		t.Fatal(err)
	}
	got, err := verifierWith("pencil", salt, 4096)
	if err != nil {
		t.Fatal(err)
	}
	want := "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
	if got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
}

func TestPasswords_AllThatAreMissingAreNamed(t *testing.T) {
	_, err := passwordsFrom(func(name string) (string, bool) {
		if name == "POSTGRES_PASSWORD_AUTH" || name == "POSTGRES_PASSWORD_REPORTING" {
			return "", false
		}
		return "secret", true
	})
	want := "these variables are not set: POSTGRES_PASSWORD_AUTH, POSTGRES_PASSWORD_REPORTING. Each holds the password that its role is to have; with -keep-passwords the roles' passwords stay as they are"
	if err == nil || err.Error() != want {
		t.Fatalf("got %v", err)
	}
}
