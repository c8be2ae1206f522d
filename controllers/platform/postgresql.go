// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/dynamic"
	"github.com/itechsmart/operator/controllers/internal/workload"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/postgres"
)

var postgresqlBackend = &backendType{
	name: v1alpha1.BackendPostgreSQL, title: "PostgreSQL", port: 5432,
	pick:     func(b *v1alpha1.Backends) *v1alpha1.Backend { return b.PostgreSQL },
	image:    "docker.io/library/postgres:15",
	username: defaultUser,
	sizing:   workload.Sizing{CPU: "100m", Memory: "256Mi", MemoryLimit: "512Mi"},
	reserved: []string{
		"config_file", "data_directory", "external_pid_file", "hba_file", "ident_file", "include", "include_dir", "include_if_exists",
		"listen_addresses", "port", "unix_socket_directories",
	},
	required: []string{"username", "password", "database"},
	server:   postgresqlWorkload,
	bind:     func(b *backend.Binding) { b.Database = defaultDatabase },
	uri:      postgres.URI,
	operated: cloudNativePG,
	probe: func(ctx context.Context, b backend.Binding) (string, error) {
		admin, err := postgres.New(b)
		if err != nil {
			return "", err
		}
		return ping(ctx, admin)
	},
}

func postgresqlWorkload(in serverInput) server {
	const socket = "/var/run/postgresql"
	// The memory settings follow the limit, by the usual rules of thumb: a quarter for shared buffers,
	// three quarters for what the page cache may hold.
	config := merged(map[string]string{
		v1alpha1.SettingMaxConnections: strconv.Itoa(v1alpha1.DefaultMaxConnections), "superuser_reserved_connections": "3",
		"shared_buffers": megabytes(in.memory/4, 16), "effective_cache_size": megabytes(in.memory*3/4, 32),
		"work_mem": megabytes(in.memory/4/100, 4), "maintenance_work_mem": megabytes(in.memory/16, 16),
		"max_wal_size": "1GB", "checkpoint_completion_target": "0.9", "random_page_cost": "1.1",
		"password_encryption": "scram-sha-256", "log_timezone": "UTC", "timezone": "UTC",
	}, in.config)
	config["listen_addresses"], config["unix_socket_directories"] = "*", socket
	quoted := make(map[string]string, len(config))
	for key, value := range config {
		quoted[key] = strings.ReplaceAll(value, "'", "''")
	}
	const ask = `PGPASSWORD="$POSTGRES_PASSWORD" psql -qAt -h 127.0.0.1 -U "$POSTGRES_USER" -d "$POSTGRES_DB" -c 'SELECT 1'`
	return server{
		uid:  999,
		args: []string{"postgres", "-c", "config_file=/etc/postgresql/postgresql.conf"},
		env: map[string]string{
			"PGDATA": "/var/lib/postgresql/data/pgdata", "POSTGRES_DB": defaultDatabase,
			"POSTGRES_INITDB_ARGS": "--encoding=UTF8 --data-checksums", "PGCONNECT_TIMEOUT": "5",
		},
		secretEnv: map[string]string{"POSTGRES_USER": keyUsername, "POSTGRES_PASSWORD": keyPassword},
		dataPath:  "/var/lib/postgresql/data",
		scratch: []scratch{
			{name: "run", path: socket}, {name: "tmp", path: "/tmp"},
			// Parallel queries share memory here; a container's default is 64 MiB.
			{name: "shm", path: "/dev/shm", memory: true, limit: "128Mi"},
		},
		files:     map[string]string{"postgresql.conf": lines(quoted, "%s = '%s'\n")},
		mounts:    []fileMount{{path: "/etc/postgresql"}},
		startup:   execProbe(ask),
		readiness: execProbe(ask),
		// A server whose connections are all in use is busy, not dead.
		liveness: execProbe(`pg_isready -q -h 127.0.0.1 -U "$POSTGRES_USER" -d "$POSTGRES_DB"`),
		// A plain signal may wait for the clients to leave; fast disconnects them and writes a checkpoint.
		preStop: []string{shell, "-c", `pg_ctl stop -D "$PGDATA" -m fast -w -t 110`},
		grace:   120,
	}
}

// cloudNativePG binds to the Secret <cluster>-app and the authority <cluster>-ca, which the operator documents.
var cloudNativePG = &operatedType{
	operator: "CloudNativePG (https://cloudnative-pg.io)",
	kinds:    []dynamic.Kind{{Group: "postgresql.cnpg.io", Kind: "Cluster", Versions: []string{"v1"}}},
	render: func(in operatedInput) []*unstructured.Unstructured {
		storage := map[string]any{"size": sizeString(in.spec.Storage)}
		if class := in.spec.Storage.StorageClassName; class != "" {
			storage["storageClass"] = class
		}
		spec := map[string]any{
			"instances": int64(in.spec.Replicas),
			"bootstrap": map[string]any{"initdb": map[string]any{"database": defaultDatabase, "owner": defaultUser}},
			"storage":   storage,
		}
		if in.spec.Version != "" {
			spec["imageName"] = "ghcr.io/cloudnative-pg/postgresql:" + in.spec.Version
		}
		if len(in.spec.Config) > 0 {
			spec["postgresql"] = map[string]any{"parameters": configMap(in.spec.Config)}
		}
		addResources(spec, in.spec.Resources)
		return []*unstructured.Unstructured{in.object("Cluster", in.name, spec)}
	},
	ready: func(objects map[string]*unstructured.Unstructured) (bool, string) {
		return conditionTrue(objects["Cluster"], "Ready")
	},
	secrets: func(name string) []string { return []string{name + "-app", name + "-ca"} },
	bind: func(in operatedInput, secrets []*corev1.Secret, _ map[string]*unstructured.Unstructured) (backend.Binding, error) {
		app := backend.ParseBinding(secrets[0].Data)
		b := backend.Binding{
			// The service that always points to the primary.
			Host: serviceHost(in.name+"-rw", in.namespace), Port: orDefault(app.Port, "5432"),
			Username: app.Username, Password: app.Password, Database: orDefault(app.Extra["dbname"], defaultDatabase),
			TLS: "true", CA: backend.ParseBinding(secrets[1].Data).CA,
		}
		return b, b.Require("username", "password", "ca.crt")
	},
}
