// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	images "github.com/itechsmart/operator/hack/images"
)

// needs maps the programs from Debian packages to one of their files.
var needs = map[string]string{
	"/usr/lib/postgresql/15/bin/postgres":      "postgresql-15",
	"/usr/bin/redis-server":                    "redis-server",
	"/usr/lib/rabbitmq/bin/rabbitmq-server":    "rabbitmq-server",
	"/usr/bin/mmdebstrap":                      "mmdebstrap",
	"/usr/bin/java":                            "openjdk-17-jre-headless",
	"/usr/bin/mvn":                             "maven",
	"/usr/bin/gcc":                             "gcc",
	"/usr/include/x86_64-linux-gnu/sys/mman.h": "libc6-dev",
}

// Server is an entry of servers.json. In Command {data} is replaced with an absolute directory and {port} with the first
// of Ports consecutive ports on 127.0.0.1; it runs in the foreground until SIGTERM.
type Server struct {
	Command     []string `json:"command"`
	Ports       int      `json:"ports"`
	Environment []string `json:"environment"` // credentials, all optional
}

func catalog(serve string) map[string]Server {
	command := func(name string) []string { return []string{serve, name, "{data}", "{port}"} }
	return map[string]Server{
		"postgres":   {command("postgres"), 1, []string{"POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB"}},
		"redis":      {command("redis"), 1, []string{"REDIS_PASSWORD"}},
		"rabbitmq":   {command("rabbitmq"), 5, []string{"RABBITMQ_DEFAULT_USER", "RABBITMQ_DEFAULT_PASS"}},
		"kafka":      {command("kafka"), 3, []string{"KAFKA_USER", "KAFKA_PASSWORD"}},
		"clickhouse": {command("clickhouse"), 1, []string{"CLICKHOUSE_USER", "CLICKHOUSE_PASSWORD", "CLICKHOUSE_DB"}},
	}
}

// Servers makes every server runnable on this machine and describes them in servers.json, whose path it returns.
func Servers(ctx context.Context, env *Env) (string, error) {
	if err := install(ctx, env); err != nil {
		return "", err
	}
	if _, err := kafkaJars(ctx, env); err != nil {
		return "", err
	}
	if _, _, err := clickhouseFiles(ctx, env); err != nil {
		return "", err
	}
	scripts := map[string]string{"serve": "native/serve", "docker-entrypoint.sh": "rootfs/postgres/docker-entrypoint.sh"}
	for _, file := range []string{"bin/kafka-run-class.sh", "bin/kafka-server-start.sh", "config/log4j2.xml", "config/tools-log4j2.xml", "config/server.properties"} {
		scripts["kafka/"+file] = "kafka/" + file
	}
	for to, from := range scripts {
		content, err := images.Files.ReadFile(from)
		if err != nil {
			return "", err
		}
		if err := place(filepath.Join(env.Servers, to), content); err != nil {
			return "", err
		}
	}
	for tool, class := range kafkaTools {
		if err := place(filepath.Join(env.Servers, "kafka", "bin", tool), kafkaTool(class)); err != nil {
			return "", err
		}
	}
	content, err := json.MarshalIndent(catalog(filepath.Join(env.Servers, "serve")), "", "  ")
	if err != nil {
		return "", err
	}
	file := filepath.Join(env.Servers, "servers.json")
	return file, place(file, append(content, '\n'))
}

// place writes a file atomically, executable if it is a script.
func place(file string, content []byte) error {
	mode := os.FileMode(0o644)
	if len(content) > 2 && string(content[:2]) == "#!" {
		mode = 0o755
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	part := file + ".part"
	return errors.Join(os.WriteFile(part, content, mode), os.Chmod(part, mode), os.Rename(part, file))
}

// install installs the missing packages, without letting any of them start its server.
func install(ctx context.Context, env *Env) error {
	missing := map[string]bool{}
	for file, pkg := range needs {
		if _, err := os.Stat(file); err != nil {
			missing[pkg] = true
		}
	}
	if len(missing) == 0 {
		return nil
	}
	packages := slices.Sorted(maps.Keys(missing))
	var sudo []string
	if os.Geteuid() != 0 {
		if _, err := exec.LookPath("sudo"); err != nil {
			return fmt.Errorf("the packages %v are missing, and installing them needs root or sudo", packages)
		}
		sudo = []string{"sudo", "-n"}
	}
	fmt.Fprintln(env.Log, "installing", packages)
	root := func(args ...string) error {
		args = slices.Concat(sudo, []string{"env", "DEBIAN_FRONTEND=noninteractive"}, args)
		return env.run(ctx, "/", nil, args[0], args[1:]...)
	}
	// A policy that forbids all starts during the installation.
	const policy = "/usr/sbin/policy-rc.d"
	if _, err := os.Stat(policy); errors.Is(err, os.ErrNotExist) {
		if err := root("sh", "-c", `printf '#!/bin/sh\nexit 101\n' >`+policy+` && chmod 755 `+policy); err != nil {
			return err
		}
		defer func() { _ = root("rm", "-f", policy) }()
	}
	if err := root("apt-get", "-q", "-o", "DPkg::Lock::Timeout=300", "update"); err != nil {
		return err
	}
	// PostgreSQL's packages would create a cluster of their own.
	if missing["postgresql-15"] {
		if err := root("sh", "-c", "mkdir -p /etc/postgresql-common && [ -e /etc/postgresql-common/createcluster.conf ] || echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf"); err != nil {
			return err
		}
	}
	return root(append([]string{"apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300", "install", "--no-install-recommends"}, packages...)...)
}
