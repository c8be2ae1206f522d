// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"
	"strings"

	"sigs.k8s.io/yaml"

	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/workload"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/clickhouse"
)

var clickhouseBackend = &backendType{
	name: v1alpha1.BackendClickHouse, title: "ClickHouse", port: 8123,
	pick:     func(b *v1alpha1.Backends) *v1alpha1.Backend { return b.ClickHouse },
	image:    "docker.io/clickhouse/clickhouse-server:26.3",
	username: defaultUser,
	sizing:   workload.Sizing{CPU: "100m", Memory: "512Mi", MemoryLimit: "2Gi"},
	reserved: []string{
		"http_port", "include_from", "interserver_http_port", "listen_host", "path", "tcp_port", "tmp_path", "user_directories*",
		"user_files_path", "users*", "users_config",
	},
	required: []string{"username"},
	server:   clickhouseWorkload,
	bind:     func(b *backend.Binding) { b.Database = "default" },
	uri:      func(b backend.Binding) string { return b.ComposeURI(secure(b, "http", "https"), "/"+b.Database) },
	probe: func(ctx context.Context, b backend.Binding) (string, error) {
		admin, err := clickhouse.New(b)
		if err != nil {
			return "", err
		}
		return ping(ctx, admin)
	},
}

func clickhouseWorkload(in serverInput) server {
	global := map[string]any{
		"listen_host": "0.0.0.0",
		// The console tells all; the files that the image insists on stay small.
		"logger":      map[string]any{"level": "information", "console": "1", "size": "10M", "count": "1"},
		"compression": map[string]any{"case": map[string]any{"min_part_size": "0", "min_part_size_ratio": "0", "method": "lz4"}},
		// A small machine: what the process takes is bounded below the container's limit.
		"max_server_memory_usage": max(in.memory*9/10, 256*mib),
		"mark_cache_size":         max(in.memory/16, 64*mib),
		"max_concurrent_queries":  100,
	}
	// Settings of users live in another file.
	users := map[string]any{"profiles": map[string]any{"default": map[string]any{"network_compression_method": "LZ4"}}}
	for key, value := range in.config {
		file := global
		if strings.HasPrefix(key, "profiles/") || strings.HasPrefix(key, "quotas/") {
			file = users
		}
		setPath(file, strings.Split(key, "/"), value)
	}
	return server{
		uid: 101,
		env: map[string]string{"CLICKHOUSE_DEFAULT_ACCESS_MANAGEMENT": "1"},
		secretEnv: map[string]string{
			"CLICKHOUSE_USER": keyUsername, "CLICKHOUSE_PASSWORD": keyPassword,
		},
		ports:    []port{{name: "native", number: 9000}},
		dataPath: "/var/lib/clickhouse",
		scratch: []scratch{
			{name: "log", path: "/var/log/clickhouse-server", limit: "100Mi"}, {name: "tmp", path: "/tmp"},
			// The image's entry point writes the user's file here.
			{name: "users", path: "/etc/clickhouse-server/users.d"},
		},
		files: map[string]string{"itechsmart.yaml": yamlOf(global), "itechsmart-profiles.yaml": yamlOf(users)},
		mounts: []fileMount{
			{path: "/etc/clickhouse-server/config.d/itechsmart.yaml", file: "itechsmart.yaml"},
			{path: "/etc/clickhouse-server/users.d/itechsmart-profiles.yaml", file: "itechsmart-profiles.yaml"},
		},
		startup: httpProbe("/ping", "client"), readiness: httpProbe("/ping", "client"), liveness: httpProbe("/ping", "client"),
		grace: 120,
	}
}

// setPath sets a/b/c in nested maps; a value in the way gives way.
func setPath(tree map[string]any, path []string, value string) {
	for ; len(path) > 1; path = path[1:] {
		next, ok := tree[path[0]].(map[string]any)
		if !ok {
			next = map[string]any{}
			tree[path[0]] = next
		}
		tree = next
	}
	tree[path[0]] = value
}

func yamlOf(tree map[string]any) string {
	data, err := yaml.Marshal(tree)
	if err != nil {
		return "" // maps, strings and numbers do not fail
	}
	return string(data)
}
