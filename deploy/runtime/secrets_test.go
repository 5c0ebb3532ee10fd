package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dapr/components-contrib/metadata"
	"github.com/dapr/components-contrib/secretstores"
	"github.com/dapr/kit/logger"
)

func TestSecretFile_ReadsItsFileAgainWhenItHasChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secrets.json")
	moment := time.Now().Add(-time.Hour)
	write := func(text string) {
		t.Helper()
		moment = moment.Add(time.Second)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, moment, moment); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"key":"one"}`)
	store := newSecretFile(logger.NewLogger("test"))
	if err := store.Init(t.Context(), secretstores.Metadata{Base: metadata.Base{Properties: map[string]string{"secretsFile": path}}}); err != nil {
		t.Fatal(err)
	}
	is := func(want string) {
		t.Helper()
		got, err := store.GetSecret(t.Context(), secretstores.GetSecretRequest{Name: "key"})
		if err != nil || got.Data["key"] != want {
			t.Fatalf("got %v, %v; want %q", got.Data, err, want)
		}
		all, err := store.BulkGetSecret(t.Context(), secretstores.BulkGetSecretRequest{})
		if err != nil || all.Data["key"]["key"] != want {
			t.Fatalf("got %v, %v; want %q", all.Data, err, want)
		}
	}
	is("one")
	write(`{"key":"two"}`)
	is("two")
	write(`{"key":"th`)
	is("two")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	is("two")
	write(`{"key":"three"}`)
	is("three")
}
