package stack_test

import (
	"crypto/tls"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"boxoffice/deploy/local/stack"
)

func TestMakeCertificates_AreForTheHostsAndMadeOnce(t *testing.T) {
	folder := t.TempDir()
	files, err := stack.MakeCertificates(folder)
	require.NoError(t, err)
	first, err := tls.LoadX509KeyPair(files.Server, files.ServerKey)
	require.NoError(t, err)
	for _, host := range []string{"localhost", "127.0.0.1", "::1"} {
		require.NoError(t, first.Leaf.VerifyHostname(host))
	}
	require.Error(t, first.Leaf.VerifyHostname("db.example.com"))
	info, err := os.Stat(files.ServerKey)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
	entries, err := os.ReadDir(files.Trusted)
	require.NoError(t, err)
	require.Len(t, entries, 1, "a program that trusts the folder trusts only the authority")

	_, err = stack.MakeCertificates(folder)
	require.NoError(t, err)
	second, err := tls.LoadX509KeyPair(files.Server, files.ServerKey)
	require.NoError(t, err)
	require.Equal(t, first.Certificate, second.Certificate)

	_, err = stack.MakeCertificates(folder, "db.example.com", "10.0.0.7")
	require.NoError(t, err)
	third, err := tls.LoadX509KeyPair(files.Server, files.ServerKey)
	require.NoError(t, err)
	for _, host := range []string{"localhost", "db.example.com", "10.0.0.7"} {
		require.NoError(t, third.Leaf.VerifyHostname(host))
	}
}

func TestStart_NamesTheSets(t *testing.T) {
	_, err := stack.Start(t.Context(), stack.Options{Folder: t.TempDir(), Set: "oracle"})
	require.ErrorContains(t, err, `there is no set of components called "oracle"`)
	require.ErrorContains(t, err, "embedded, nats, redis")
}

func TestInstalled_ExplainsHowToInstall(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	require.NoError(t, stack.Installed(stack.SetEmbedded))
	err := stack.Installed(stack.SetRedis)
	require.ErrorContains(t, err, "Redis (redis-server)")
	require.ErrorContains(t, err, "apt-get install")
}
