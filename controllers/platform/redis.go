// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"

	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/workload"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/redis"
)

var redisBackend = &backendType{
	name: v1alpha1.BackendRedis, title: "Redis", port: 6379,
	pick:  func(b *v1alpha1.Backends) *v1alpha1.Backend { return b.Redis },
	image: "docker.io/library/redis:7",
	// The user that requirepass is for.
	username: "default",
	sizing:   workload.Sizing{CPU: "50m", Memory: "128Mi", MemoryLimit: "512Mi"},
	reserved: []string{
		"aclfile", "bind", "daemonize", "dir", "include", "loadmodule", "logfile", "masterauth", "pidfile", "port", "protected-mode",
		"rename-command", "requirepass", "tls-*", "unixsocket", "user",
	},
	server: redisWorkload,
	uri:    func(b backend.Binding) string { return b.ComposeURI(secure(b, "redis", "rediss"), "/"+b.Database) },
	probe: func(ctx context.Context, b backend.Binding) (string, error) {
		admin, err := redis.New(b)
		if err != nil {
			return "", err
		}
		return ping(ctx, admin)
	},
}

func redisWorkload(in serverInput) server {
	const password = "/run/redis/password.conf"
	config := merged(map[string]string{
		"maxmemory": "256mb", "maxmemory-policy": "allkeys-lru",
		// Snapshots for quick starts and copies, the log for what came after them.
		"save": "900 1 300 10 60 10000", "appendonly": "yes", "appendfsync": "everysec", "aof-use-rdb-preamble": "yes",
		"tcp-keepalive": "60",
	}, in.config)
	for key, value := range map[string]string{"bind": "*", "port": "6379", "protected-mode": "yes", "dir": "/data", "include": password} {
		config[key] = value
	}
	// The password stays out of the command line, which other processes of the node may read.
	const start = `umask 077 && printf 'requirepass %s\n' "$REDISCLI_AUTH" >` + password + ` && exec redis-server /etc/redis/redis.conf`
	return server{
		uid:       999,
		command:   []string{shell, "-c", start},
		secretEnv: map[string]string{"REDISCLI_AUTH": keyPassword},
		dataPath:  "/data",
		scratch:   []scratch{{name: "run", path: "/run/redis", memory: true, limit: "1Mi"}, {name: "tmp", path: "/tmp"}},
		files:     map[string]string{"redis.conf": lines(config, "%s %s\n")},
		mounts:    []fileMount{{path: "/etc/redis"}},
		startup:   execProbe(`test "$(redis-cli -h 127.0.0.1 ping)" = PONG`),
		readiness: execProbe(`test "$(redis-cli -h 127.0.0.1 ping)" = PONG`),
		// A server that loads its data answers LOADING: it lives.
		liveness: execProbe(`case "$(redis-cli -h 127.0.0.1 ping)" in PONG | *LOADING*) ;; *) exit 1 ;; esac`),
		grace:    60,
	}
}
