// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	images "github.com/itechsmart/operator/hack/images"
)

// repository is the prefix of all images; no registry serves them.
const repository = "docker.io/itechsmart/"

// debianPath is PATH in the images of Debian packages.
const debianPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// All returns every image: the operator's programs, then the servers they run on.
func All(ctx context.Context, root string) ([]Image, error) {
	images, err := ours(ctx, root)
	return append(images, quickstart(), postgres(), redis(), rabbitmq(), kafka(), clickhouse()), err
}

// Programs and Others name the two halves of the images wherever an image may be named.
const (
	Programs = "programs" // the operator's own
	Others   = "others"
)

// Find returns the named images, or all without a name.
func Find(all []Image, names []string) ([]Image, error) {
	if len(names) == 0 {
		return all, nil
	}
	var found []Image
	for _, name := range names {
		known := false
		for _, image := range all {
			if image.Name != name && image.half() != name {
				continue
			}
			known = true
			if !slices.ContainsFunc(found, func(i Image) bool { return i.Name == image.Name }) {
				found = append(found, image)
			}
		}
		if !known {
			return nil, fmt.Errorf("there is no image %q (see: images list)", name)
		}
	}
	return found, nil
}

func (i Image) half() string {
	if i.ours {
		return Programs
	}
	return Others
}

// files adds the files of one of this module's folders to a folder of the image.
func files(w *layerWriter, from, to string) error {
	return fs.WalkDir(images.Files, from, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := images.Files.ReadFile(name)
		if err != nil {
			return err
		}
		mode := int64(0o644)
		if strings.HasPrefix(string(content), "#!") {
			mode = 0o755
		}
		return w.bytes(path.Join(to, strings.TrimPrefix(name, from)), mode, content)
	})
}

// described returns the text of inputs: the recipe, the folders of this module, and more.
func described(recipe debian, folders []string, more ...string) (string, error) {
	text, err := json.Marshal(recipe)
	if err != nil {
		return "", err
	}
	parts := append([]string{string(text), suite, strings.Join(dropAlways, ",")}, more...)
	for _, folder := range folders {
		err := fs.WalkDir(images.Files, folder, func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			content, err := images.Files.ReadFile(name)
			parts = append(parts, name, string(content))
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return strings.Join(parts, "\n"), nil
}

// server returns an image of Debian packages with the entry point of the official image.
func server(name, tag string, recipe debian, config v1.Config, add func(w *layerWriter) error) Image {
	folder := "rootfs/" + name
	config.Entrypoint = []string{"docker-entrypoint.sh"}
	return Image{
		Name: name, Ref: repository + name + ":" + tag,
		inputs: func(context.Context, *Env) (string, error) { return described(recipe, []string{folder}) },
		fill: func(ctx context.Context, env *Env, w *layerWriter) error {
			if err := recipe.write(ctx, env, w); err != nil {
				return err
			}
			if err := files(w, folder, "usr/local/bin"); err != nil {
				return err
			}
			return add(w)
		},
		config: config,
	}
}

func postgres() Image {
	const id = 999
	return server("postgres", "15", debian{
		Packages: []string{"postgresql-15", "bash", "dash", "coreutils", "findutils", "grep", "sed", "libc-bin", "libnss-wrapper", "tzdata"},
		Drop: []string{
			// Just-in-time compilation needs 130 MB of LLVM; without the library it is off.
			"usr/lib/postgresql/15/lib/bitcode/", "usr/lib/postgresql/15/lib/llvmjit*", "usr/lib/x86_64-linux-gnu/libLLVM*", "usr/lib/llvm-14/",
			"usr/lib/x86_64-linux-gnu/libz3*", "usr/lib/x86_64-linux-gnu/perl", "usr/share/perl", "usr/lib/perl", "usr/bin/perl*", "etc/perl/",
			"usr/share/postgresql-common/", "usr/bin/pg_*", "etc/postgresql-common/", "usr/share/postgresql/15/man/",
		},
		Users: []user{{"postgres", id, "/var/lib/postgresql"}},
	}, v1.Config{
		User: "999:999", Cmd: []string{"postgres"}, StopSignal: "SIGINT",
		Env:          []string{"PATH=/usr/local/bin:/usr/lib/postgresql/15/bin:" + debianPath, "PGDATA=/var/lib/postgresql/data", "LANG=C.UTF-8", "PG_MAJOR=15"},
		ExposedPorts: map[string]struct{}{"5432/tcp": {}}, Volumes: map[string]struct{}{"/var/lib/postgresql/data": {}},
	}, func(w *layerWriter) error {
		return errors.Join(w.dir("var/lib/postgresql/data", 0o1777, id), w.dir("var/run/postgresql", 0o3777, id))
	})
}

func redis() Image {
	const id = 999
	return server("redis", "7", debian{
		Packages: []string{"redis-server", "bash", "dash", "coreutils", "libc-bin"},
		Drop:     []string{"usr/lib/x86_64-linux-gnu/perl", "usr/share/perl", "usr/bin/perl*"},
		Users:    []user{{"redis", id, "/data"}},
	}, v1.Config{
		User: "999:999", Cmd: []string{"redis-server"}, WorkingDir: "/data", Env: []string{"PATH=" + debianPath},
		ExposedPorts: map[string]struct{}{"6379/tcp": {}}, Volumes: map[string]struct{}{"/data": {}},
	}, func(w *layerWriter) error { return w.dir("data", 0o1777, id) })
}

func rabbitmq() Image {
	const id = 999
	const lib = "/usr/lib/rabbitmq/bin/"
	return server("rabbitmq", "3", debian{
		Packages: []string{"rabbitmq-server", "bash", "dash", "coreutils", "sed", "grep", "gawk", "hostname", "libc-bin", "procps"},
		Drop: []string{
			"usr/sbin/rabbitmq*", "usr/lib/x86_64-linux-gnu/perl", "usr/share/perl", "usr/bin/perl*", "usr/share/mime/",
			"usr/lib/python3", "usr/bin/python3*", "usr/share/python3/", "usr/lib/x86_64-linux-gnu/libpython*",
		},
		Users: []user{{"rabbitmq", id, "/var/lib/rabbitmq"}},
	}, v1.Config{
		User: "999:999", Cmd: []string{"rabbitmq-server"},
		// Debian's own programs in /usr/sbin insist on root or on its user; the scripts they call do not.
		Env: []string{
			"PATH=/usr/lib/rabbitmq/bin:" + debianPath, "HOME=/var/lib/rabbitmq", "RABBITMQ_DATA_DIR=/var/lib/rabbitmq", "RABBITMQ_LOGS=-",
			"RABBITMQ_LOG_BASE=/var/lib/rabbitmq/log", "RABBITMQ_PID_FILE=/var/lib/rabbitmq/rabbitmq.pid", "LANG=C.UTF-8", "LC_ALL=C.UTF-8",
		},
		ExposedPorts: map[string]struct{}{"4369/tcp": {}, "5671/tcp": {}, "5672/tcp": {}, "15672/tcp": {}, "15692/tcp": {}, "25672/tcp": {}},
		Volumes:      map[string]struct{}{"/var/lib/rabbitmq": {}},
	}, func(w *layerWriter) error {
		err := errors.Join(w.dir("var/lib/rabbitmq", 0o1777, id), w.dir("etc/rabbitmq", 0o1777, id), w.dir("etc/rabbitmq/conf.d", 0o1777, id))
		for _, tool := range []string{"rabbitmq-server", "rabbitmqctl", "rabbitmq-diagnostics", "rabbitmq-plugins", "rabbitmq-queues", "rabbitmq-upgrade", "rabbitmq-streams"} {
			err = errors.Join(err, w.link("usr/local/bin/"+tool, lib+tool))
		}
		return err
	})
}
