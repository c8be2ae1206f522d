// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// chdb is the engine.
var chdb = npmPackage{
	name:      "@chdb/lib-linux-x64-gnu@26.7.3-stable.1",
	integrity: "sha512-XP97mMqnc5tZpKQywR8N7cLTsHNiTmHr30pC5mzo3jWmukjKn2IBa60c2B/gWUNcuFjOMjWoorQICCqBVj5wpw==",
}

// clickhouseFiles prepares the server in its native folder: the library and the program.
func clickhouseFiles(ctx context.Context, env *Env) (program, library string, err error) {
	env.clickhouse.Lock()
	defer env.clickhouse.Unlock()
	home := filepath.Join(env.Servers, "clickhouse")
	if err := os.MkdirAll(home, 0o755); err != nil {
		return "", "", err
	}
	program, library = filepath.Join(home, "clickhouse-server"), filepath.Join(home, "libchdb.so")
	if err := chdb.fetch(ctx, env, "package/libchdb.so", library, 0o755); err != nil {
		return "", "", err
	}
	// The Go build cache makes this fast if nothing has changed.
	err = env.run(ctx, filepath.Join(env.Root, "hack", "images", "clickhouse-server"), []string{"CGO_ENABLED=1", "GOFLAGS=", "GOWORK=off"},
		"go", "build", "-trimpath", "-buildvcs=false", "-gcflags=all=-dwarf=false", "-ldflags=-s -w -buildid=", "-o", program+".part", ".")
	if err != nil {
		return "", "", err
	}
	// A running server keeps its old file.
	return program, library, os.Rename(program+".part", program)
}

func clickhouse() Image {
	const id = 101
	recipe := debian{
		Packages: []string{"libc6", "libc-bin", "bash", "dash", "coreutils", "grep", "sed"},
		Drop:     []string{"usr/lib/x86_64-linux-gnu/perl", "usr/share/perl", "usr/bin/perl*"},
		Users:    []user{{"clickhouse", id, "/var/lib/clickhouse"}},
	}
	return Image{
		Name: "clickhouse", Ref: repository + "clickhouse:26",
		inputs: func(ctx context.Context, env *Env) (string, error) {
			program, _, err := clickhouseFiles(ctx, env)
			if err != nil {
				return "", err
			}
			sum, err := fileHash(program)
			if err != nil {
				return "", err
			}
			return described(recipe, nil, chdb.integrity, sum)
		},
		fill: func(ctx context.Context, env *Env, w *layerWriter) error {
			if err := recipe.write(ctx, env, w); err != nil {
				return err
			}
			program, library, err := clickhouseFiles(ctx, env)
			if err != nil {
				return err
			}
			return errors.Join(
				w.copy("usr/bin/clickhouse-server", 0o755, program), w.copy("usr/bin/libchdb.so", 0o755, library),
				w.link("entrypoint.sh", "/usr/bin/clickhouse-server"),
				w.dir("var/lib/clickhouse", 0o1777, id), w.dir("var/log/clickhouse-server", 0o1777, id),
				w.dir("etc/clickhouse-server/config.d", 0o755, 0), w.dir("etc/clickhouse-server/users.d", 0o755, 0), w.dir("docker-entrypoint-initdb.d", 0o755, 0),
			)
		},
		config: v1.Config{
			User: "101:101", Entrypoint: []string{"/entrypoint.sh"}, Env: []string{"PATH=" + debianPath, "LANG=C.UTF-8", "TZ=UTC"},
			ExposedPorts: map[string]struct{}{"8123/tcp": {}}, Volumes: map[string]struct{}{"/var/lib/clickhouse": {}},
		},
	}
}
