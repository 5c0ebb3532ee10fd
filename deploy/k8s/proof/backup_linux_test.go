package proof

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The programs of the backup, with stand-ins for PostgreSQL's: a dump is the database's name, and what is restored is
// written down. gpg is the real one.

type backups struct{ folder, bin, key, private, restored string }

func newBackups(t *testing.T) *backups {
	t.Helper()
	if _, err := exec.LookPath("gpg"); err != nil {
		t.Skip("gpg is not installed")
	}
	b := &backups{folder: t.TempDir(), bin: t.TempDir(), restored: filepath.Join(t.TempDir(), "restored")}
	b.program(t, "pg_dump", `[ "$3" != "$BROKEN" ] || { echo half; exit 1; }
[ $# -gt 3 ] && exec > "$5"
echo "dump of $3"`)
	b.program(t, "pg_restore", `for last; do :; done; cat "$last" >> `+b.restored)
	// Keys, made as in README.md.
	home, err := os.MkdirTemp("", "gpg") // short, for the sockets in it
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		_ = os.RemoveAll(home)
	})
	gpg := func(args ...string) []byte {
		out, err := exec.Command("gpg", append([]string{"--homedir", home, "--batch", "--quiet", "--passphrase", ""}, args...)...).Output()
		require.NoError(t, err)
		return out
	}
	gpg("--quick-generate-key", "boxoffice-backups", "future-default", "default", "never")
	b.key, b.private = filepath.Join(b.bin, "public.asc"), filepath.Join(b.bin, "private.asc")
	require.NoError(t, os.WriteFile(b.key, gpg("--armor", "--export", "boxoffice-backups"), 0o600))
	require.NoError(t, os.WriteFile(b.private, gpg("--armor", "--export-secret-keys", "boxoffice-backups"), 0o600))
	return b
}

func (b *backups) program(t *testing.T, name, script string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(b.bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755))
}

func (b *backups) run(t *testing.T, script string, env ...string) (string, error) {
	t.Helper()
	tmp, err := os.MkdirTemp("", "gpg")
	require.NoError(t, err)
	defer func() {
		_ = exec.Command("gpgconf", "--homedir", filepath.Join(tmp, "gnupg"), "--kill", "all").Run()
		_ = os.RemoveAll(tmp)
	}()
	cmd := exec.Command("sh", filepath.Join("../infrastructure/postgres", script))
	cmd.Env = append(os.Environ(), "PATH="+b.bin+":"+os.Getenv("PATH"), "BACKUPS="+b.folder, "KEY="+b.key, "PRIVATE_KEY="+b.private, "TMPDIR="+tmp)
	cmd.Env = append(cmd.Env, env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// night puts a night's dumps of a size into the folder.
func (b *backups) night(t *testing.T, name string, age time.Duration, size int) {
	t.Helper()
	for _, database := range append([]string{"boxoffice"}, databases()...) {
		path := filepath.Join(b.folder, database+"-"+name+".dump.gpg")
		require.NoError(t, os.WriteFile(path, make([]byte, size), 0o600))
		require.NoError(t, os.Chtimes(path, time.Now().Add(-age), time.Now().Add(-age)))
	}
}

func databases() []string {
	var all []string
	for _, service := range keepers {
		all = append(all, "boxoffice_"+service)
	}
	return all
}

func (b *backups) files(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(b.folder, pattern))
	require.NoError(t, err)
	return files
}

func TestBackup_IsReadByTheHolderOfThePrivateKeyAlone(t *testing.T) {
	b := newBackups(t)
	out, err := b.run(t, "backup.sh")
	require.NoError(t, err, out)
	dumps := b.files(t, "*")
	require.Len(t, dumps, len(keepers)+1)
	for _, dump := range dumps {
		require.True(t, strings.HasSuffix(dump, "Z.dump.gpg"), dump)
		text, err := os.ReadFile(dump)
		require.NoError(t, err)
		require.NotContains(t, string(text), "dump of")
	}

	out, err = b.run(t, "restore.sh")
	require.NoError(t, err, out)
	restored, err := os.ReadFile(b.restored)
	require.NoError(t, err)
	for _, database := range databases() {
		require.Contains(t, string(restored), "dump of "+database+"\n")
	}

	// A dump of an earlier release has no database of a later service.
	require.NoError(t, os.Remove(b.restored))
	for _, later := range []string{"boxoffice_webhooks", "boxoffice_catalogue"} {
		require.NoError(t, os.Remove(b.files(t, later+"-*")[0]))
	}
	out, err = b.run(t, "restore.sh")
	require.NoError(t, err, out)
	require.Contains(t, out, "no dump of boxoffice_webhooks")
	require.Contains(t, out, "no dump of boxoffice_catalogue")
	restored, err = os.ReadFile(b.restored)
	require.NoError(t, err)
	require.Contains(t, string(restored), "dump of boxoffice_orders\n")
	require.NotContains(t, string(restored), "dump of boxoffice_catalogue\n")

	// A dump that somebody has changed is not restored, and nothing is if one is missing.
	require.NoError(t, os.Remove(b.restored))
	auth := b.files(t, "boxoffice_auth-*")[0]
	text, err := os.ReadFile(auth)
	require.NoError(t, err)
	text[len(text)-10] ^= 1
	require.NoError(t, os.WriteFile(auth, text, 0o600))
	out, err = b.run(t, "restore.sh")
	require.Error(t, err, out)
	require.NoError(t, os.Remove(auth))
	out, err = b.run(t, "restore.sh")
	require.Error(t, err)
	require.Contains(t, out, "no dump of boxoffice_auth")
	require.NoFileExists(t, b.restored)
}

func TestBackup_WithoutAKeyNothingIsDumped(t *testing.T) {
	b := newBackups(t)
	out, err := b.run(t, "backup.sh", "KEY=/nowhere")
	require.Error(t, err)
	require.Contains(t, out, "backup-key")
	require.Empty(t, b.files(t, "*"))
	out, err = b.run(t, "backup.sh", "KEY=/nowhere", "UNENCRYPTED=yes")
	require.NoError(t, err, out)
	require.Len(t, b.files(t, "*Z.dump"), len(keepers)+1)
}

func TestBackup_MakesRoomFirst(t *testing.T) {
	b := newBackups(t)
	b.night(t, "20260101T031700Z", 20*24*time.Hour, 1000)
	b.night(t, "20260114T031700Z", 3*24*time.Hour, 1000)
	b.night(t, "20260115T031700Z", 2*24*time.Hour, 1000)
	b.night(t, "20260116T031700Z", 24*time.Hour, 1000)
	require.NoError(t, os.WriteFile(filepath.Join(b.folder, "boxoffice_auth-20260115T031700Z.dump.gpg.partial"), nil, 0o600))
	// A volume on which there is room only once two of the four nights are gone.
	b.program(t, "df", `n=$(ls `+b.folder+` | sed 's/.*-//' | sort -u | wc -l)
echo Filesystem; [ "$n" -le 2 ] && echo /dev 0 0 1000000 || echo /dev 0 0 10`)
	// Room is made before the first dump, for on a full volume that fails.
	b.program(t, "pg_dump", `[ -z "$(ls `+b.folder+`/*-20260114T* 2> /dev/null)" ] || { echo "No space left on device" >&2; exit 1; }; echo "dump of $3"`)
	out, err := b.run(t, "backup.sh")
	require.NoError(t, err, out)
	require.Empty(t, b.files(t, "*-20260101T*"), "older than KEEP_DAYS")
	require.Empty(t, b.files(t, "*-20260114T*"), "the oldest night, for there was no room")
	require.Empty(t, b.files(t, "*.partial"))
	require.NotEmpty(t, b.files(t, "*-20260115T*"))
	require.Len(t, b.files(t, "*"), 3*(len(keepers)+1))

	// However full it is, the last nights stay.
	b.program(t, "df", "echo Filesystem; echo /dev 0 0 10")
	out, err = b.run(t, "backup.sh")
	require.NoError(t, err, out)
	require.NotEmpty(t, b.files(t, "*-20260116T*"))
}

func TestBackup_AFailedDumpIsNoDump(t *testing.T) {
	b := newBackups(t)
	out, err := b.run(t, "backup.sh", "BROKEN=boxoffice_orders")
	require.Error(t, err)
	require.Contains(t, out, "boxoffice_orders was not dumped")
	require.Empty(t, b.files(t, "boxoffice_orders-*Z.dump.gpg"))
}
