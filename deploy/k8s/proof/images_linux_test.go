package proof

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
)

// image is a container image of one layer, put together without a container engine.
type image struct {
	name       string
	files      map[string]string // files and folders of this machine, by where they are in the image
	texts      map[string]string // files by what is in them
	links      map[string]string
	entrypoint []string
	env        []string
	stopSignal string
}

// write makes an archive as `docker save` does, which containerd takes.
func (im image) write(path string) error {
	layer, err := os.CreateTemp(filepath.Dir(path), "layer-")
	if err != nil {
		return err
	}
	defer os.Remove(layer.Name())
	defer layer.Close()
	sum := sha256.New()
	if err := im.writeLayer(io.MultiWriter(layer, sum)); err != nil {
		return fmt.Errorf("%s: %w", im.name, err)
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"User": "65532:65532", "Entrypoint": im.entrypoint, "Env": im.env, "StopSignal": im.stopSignal},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(sum.Sum(nil))}},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]any{map[string]any{"Config": "config.json", "RepoTags": []string{im.name}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return err
	}
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer out.Close()
	archive := tree{tar.NewWriter(out), map[string]bool{"/": true}}
	for name, text := range map[string][]byte{"/config.json": config, "/manifest.json": manifest} {
		if err := archive.text(name, string(text)); err != nil {
			return err
		}
	}
	if err := archive.file("/layer.tar", layer.Name()); err != nil {
		return err
	}
	return archive.Close()
}

func (im image) writeLayer(to io.Writer) error {
	layer := tree{tar.NewWriter(to), map[string]bool{"/": true}}
	for at, from := range im.files {
		err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			return layer.file(at+strings.TrimPrefix(path, from), path)
		})
		if err != nil {
			return err
		}
	}
	for at, text := range im.texts {
		if err := layer.text(at, text); err != nil {
			return err
		}
	}
	for at, target := range im.links {
		if err := layer.put(tar.Header{Typeflag: tar.TypeSymlink, Name: at, Linkname: target, Mode: 0o777}, nil); err != nil {
			return err
		}
	}
	return layer.Close()
}

// tree writes a tar archive; folders come by themselves.
type tree struct {
	*tar.Writer
	made map[string]bool
}

func (t tree) folder(path string) error {
	if t.made[path] {
		return nil
	}
	t.made[path] = true
	if err := t.folder(filepath.Dir(path)); err != nil {
		return err
	}
	return t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: path[1:] + "/", Mode: 0o755})
}

func (t tree) put(header tar.Header, content io.Reader) error {
	if err := t.folder(filepath.Dir(header.Name)); err != nil {
		return err
	}
	header.Name = header.Name[1:]
	if err := t.WriteHeader(&header); err != nil || content == nil {
		return err
	}
	_, err := io.Copy(t, content)
	return err
}

func (t tree) text(at, text string) error {
	return t.put(tar.Header{Name: at, Mode: 0o755, Size: int64(len(text))}, strings.NewReader(text))
}

// file puts a file; for a link, what it leads to.
func (t tree) file(at, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil || info.IsDir() {
		return err
	}
	return t.put(tar.Header{Name: at, Mode: int64(info.Mode().Perm()), Size: info.Size()}, in)
}

// images are all that overlay dev and Dapr's chart name, of what `make test-node` built.
func images(dapr string) ([]image, error) {
	built := func(name, program string, as ...string) image {
		im := image{name: name, files: map[string]string{"/" + program: built(program)}, links: map[string]string{}}
		for _, name := range as {
			im.links["/"+name] = "/" + program
		}
		return im
	}
	pause := built(pauseImage, "pause")
	pause.entrypoint = []string{"/pause"}
	all := []image{
		pause,
		built("docker.io/boxoffice/daprd:dev", "runtime", "daprd", "nats-server", "nats-streams"),
		built("docker.io/boxoffice/stripe:dev", "stripe"),
		built("docker.io/boxoffice/migrate:dev", "migrate"),
		built("ghcr.io/dapr/placement:"+dapr, "runtime", "placement"),
		built("ghcr.io/dapr/scheduler:"+dapr, "runtime", "scheduler"),
		built("ghcr.io/dapr/operator:"+dapr, "controlplane", "operator"),
		built("ghcr.io/dapr/sentry:"+dapr, "controlplane", "sentry"),
		built("ghcr.io/dapr/injector:"+dapr, "controlplane", "injector"),
	}
	for _, service := range services {
		if service == ofNode {
			im, err := imageOfNode()
			if err != nil {
				return nil, err
			}
			all = append(all, im)
			continue
		}
		im := built("docker.io/boxoffice/"+service+":dev", service)
		im.entrypoint = []string{"/" + service}
		all = append(all, im)
	}
	postgres, err := postgresImage()
	return append(all, postgres), err
}

// imageOfNode has the Node of this machine, where the real image has that of its base.
func imageOfNode() (image, error) {
	im := image{
		name: "docker.io/boxoffice/" + ofNode + ":dev", entrypoint: []string{"/nodejs/bin/node", "/" + ofNode + ".mjs"},
		files: map[string]string{"/" + ofNode + ".mjs": built(ofNode + ".mjs")},
		links: map[string]string{"/lib": "usr/lib", "/lib64": "usr/lib64"},
	}
	program, err := exec.LookPath("node")
	if err != nil {
		return image{}, err
	}
	if program, err = filepath.EvalSymlinks(program); err != nil {
		return image{}, err
	}
	im.files["/nodejs/bin/node"] = program
	return im, im.addLibraries(program)
}

// addLibraries adds the shared libraries that a program needs.
func (im image) addLibraries(program string) error {
	libraries, err := exec.Command("ldd", program).Output()
	if err != nil {
		return fmt.Errorf("ldd %s: %w", program, err)
	}
	for _, library := range loaded.FindAllStringSubmatch(string(libraries), -1) {
		im.files[merged(library[1])] = library[1]
	}
	return nil
}

const pauseImage = "docker.io/boxoffice/pause:dev"

// postgresEntrypoint does what the official image's does, as far as our StatefulSet asks for it.
const postgresEntrypoint = `#!/bin/sh
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
	initdb --username=postgres --pwfile="$POSTGRES_PASSWORD_FILE" --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8
	echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
fi
exec postgres -c listen_addresses='*' "$@"
`

// postgresImage is a stand-in for postgres:17: the PostgreSQL that is installed on this machine, whatever its version, with
// the libraries it needs and the few programs that our scripts call.
func postgresImage() (image, error) {
	servers, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil || len(servers) == 0 {
		return image{}, fmt.Errorf("no PostgreSQL under /usr/lib/postgresql: %w", err)
	}
	home := filepath.Dir(filepath.Dir(servers[len(servers)-1]))
	share := "/usr/share/postgresql/" + filepath.Base(home)
	im := image{
		name:       "docker.io/library/postgres:17",
		entrypoint: []string{"/entrypoint.sh"},
		stopSignal: "SIGINT",
		env:        []string{"PATH=" + home + "/bin:/usr/bin:/bin"},
		texts: map[string]string{
			"/entrypoint.sh": postgresEntrypoint,
			"/etc/passwd":    "postgres:x:999:999::/:/bin/sh\n",
		},
		files: map[string]string{share: share, "/usr/share/zoneinfo": "/usr/share/zoneinfo", "/usr/lib/locale/C.utf8": "/usr/lib/locale/C.utf8"},
		// Debian's folders are one.
		links: map[string]string{"/bin": "usr/bin", "/lib": "usr/lib", "/lib64": "usr/lib64"},
	}
	var programs []string
	for _, name := range []string{"postgres", "initdb", "pg_isready", "pg_dump", "pg_restore", "psql"} {
		programs = append(programs, filepath.Join(home, "bin", name))
	}
	for _, name := range []string{"sh", "cat", "date", "find", "ls", "mv", "wc"} {
		path, err := exec.LookPath(name)
		if err != nil {
			return image{}, err
		}
		programs = append(programs, path)
	}
	plugins, err := filepath.Glob(home + "/lib/*.so")
	if err != nil {
		return image{}, err
	}
	for _, plugin := range plugins {
		if !strings.HasPrefix(filepath.Base(plugin), "llvmjit") { // a compiler, which it does without
			programs = append(programs, plugin)
		}
	}
	for _, program := range programs {
		im.files[merged(program)] = program
		if err := im.addLibraries(program); err != nil {
			return image{}, err
		}
	}
	return im, nil
}

var loaded = regexp.MustCompile(`(/\S+) \(0x`)

func merged(path string) string {
	if strings.HasPrefix(path, "/usr/") {
		return path
	}
	return "/usr" + path
}
