package docker

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// The scripts that pin images, with programs in place of docker and gh: there are no registries in a test.

// checkout copies what the scripts read and write, and returns the copy's folder.
func checkout(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	for _, path := range []string{"docker-compose.yaml", "deploy/docker", "deploy/k8s"} {
		to := filepath.Join(folder, path)
		require.NoError(t, os.MkdirAll(filepath.Dir(to), 0o755))
		out, err := exec.Command("cp", "-R", filepath.Join("../..", path), to).CombinedOutput()
		require.NoError(t, err, string(out))
	}
	return folder
}

// program puts a shell script into the folder of programs that run finds first.
func program(t *testing.T, folder, name, script string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Join(folder, "bin"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "bin", name), []byte("#!/bin/sh\n"+script), 0o755))
}

func run(folder, script string, args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(folder, script), args...)
	cmd.Env = append(os.Environ(), "PATH="+filepath.Join(folder, "bin")+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// digests answers as a registry: a digest for each name. The fourth argument of docker is the image.
const digests = `printf 'sha256:%s\n' "$(printf %s "$4" | sha256sum | cut -c1-64)"`

func TestPin_EveryImageOfOthersGetsItsDigest(t *testing.T) {
	t.Parallel()
	folder := checkout(t)
	program(t, folder, "docker", digests)
	read := func(path string) string {
		text, err := os.ReadFile(filepath.Join(folder, path))
		require.NoError(t, err)
		return string(text)
	}

	out, err := run(folder, "deploy/docker/pin.sh")
	require.NoError(t, err, out)
	require.Regexp(t, `(?m)^ARG BASE=\S+@sha256:[0-9a-f]{64}$`, read("deploy/docker/Dockerfile"))
	require.Regexp(t, `(?m)^ARG NODE_BASE=\S+@sha256:[0-9a-f]{64}$`, read("deploy/docker/Dockerfile"))
	require.Regexp(t, `(?m)^    image: redis:7\.4-alpine@sha256:[0-9a-f]{64}$`, read("docker-compose.yaml"))
	require.Regexp(t, `(?m)image: postgres:17@sha256:[0-9a-f]{64}$`, read("deploy/k8s/infrastructure/postgres/postgres.yaml"))
	require.NotContains(t, read("docker-compose.yaml"), "TAG:-dev}@", "the images of this project have no digest before they are built")
	out, err = run(folder, "deploy/docker/pin.sh", "--check")
	require.NoError(t, err, out)

	before := read("docker-compose.yaml")
	out, err = run(folder, "deploy/docker/pin.sh")
	require.NoError(t, err)
	require.Empty(t, out, "nothing has moved")
	require.Equal(t, before, read("docker-compose.yaml"))

	program(t, folder, "docker", `printf 'sha256:%064d\n' 7`)
	_, err = run(folder, "deploy/docker/pin.sh")
	require.NoError(t, err)
	require.NotEqual(t, before, read("docker-compose.yaml"), "a tag that has moved")
	require.NotRegexp(t, `sha256:\S+@sha256`, read("docker-compose.yaml"))

	program(t, folder, "docker", `echo "no such image" >&2; exit 1`)
	_, err = run(folder, "deploy/docker/pin.sh")
	require.Error(t, err)
}

func TestRelease_OnlyAttestedImagesAreDeployed(t *testing.T) {
	t.Parallel()
	folder := checkout(t)
	program(t, folder, "docker", digests)
	program(t, folder, "gh", `case "$*" in *"--repo me/repo"*) exit 0 ;; *) exit 1 ;; esac`)
	file := filepath.Join(folder, "deploy/k8s/overlays/production/kustomization.yaml")

	out, err := run(folder, "deploy/k8s/release.sh", "production", "v1.2.3", "ghcr.io/me/boxoffice", "somebody/else")
	require.Error(t, err)
	require.Contains(t, out, "it is not deployed")

	out, err = run(folder, "deploy/k8s/release.sh", "production", "v1.2.3", "ghcr.io/me/boxoffice", "me/repo")
	require.NoError(t, err, out)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NotContains(t, string(text), "newTag")
	require.NotContains(t, string(text), "registry.example.com")
	require.Regexp(t, `(?m)^  - name: boxoffice/payments\n    newName: ghcr\.io/me/boxoffice/payments\n    digest: sha256:[0-9a-f]{64}$`, string(text))
}
