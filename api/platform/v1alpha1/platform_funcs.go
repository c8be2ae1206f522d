// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"slices"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// GetConditions returns the list to change in place.
func (p *Platform) GetConditions() *[]metav1.Condition { return &p.Status.Conditions }

// SetObservedGeneration records the generation that the status reports on.
func (p *Platform) SetObservedGeneration(generation int64) {
	p.Status.ObservedGeneration = generation
}

// Names of the backends, as in the status, in the names of their objects, and in a binding's `type`.
const (
	BackendPostgreSQL    = "postgresql"
	BackendKafka         = "kafka"
	BackendClickHouse    = "clickhouse"
	BackendRedis         = "redis"
	BackendRabbitMQ      = "rabbitmq"
	BackendObjectStorage = "objectstorage"
)

// BackendNames returns the names of all backends.
func BackendNames() []string {
	return []string{BackendPostgreSQL, BackendKafka, BackendClickHouse, BackendRedis, BackendRabbitMQ, BackendObjectStorage}
}

// BackendField returns the field of a backend in spec.backends: its name, in camel case.
func BackendField(name string) string {
	if name == BackendObjectStorage {
		return "objectStorage"
	}
	return name
}

// Modes of a backend.
const (
	ModeManaged  = "managed"
	ModeExternal = "external"
	ModeOperated = "operated"
)

// Mode returns the member of the union that is set.
func (b *Backend) Mode() string {
	switch {
	case b.External != nil:
		return ModeExternal
	case b.Operated != nil:
		return ModeOperated
	default:
		return ModeManaged
	}
}

// BindingSecretName returns the name of the Secret with the address and credentials of a backend.
func (p *Platform) BindingSecretName(backend string) string {
	return p.Name + "-" + backend + "-binding"
}

// ComponentIdentity is the component for users and their roles, which all services of a Platform share.
const ComponentIdentity = "identity"

// SigningKeysName returns the name of the Secret with the keys that sign the Platform's tokens.
func (p *Platform) SigningKeysName() string { return p.Name + "-signing-keys" }

// AdministratorName returns the name of the Secret with the first user's password.
func (p *Platform) AdministratorName() string { return p.Name + "-administrator" }

// BackendTitle returns the name of a backend for messages.
func BackendTitle(name string) string {
	switch name {
	case BackendPostgreSQL:
		return "PostgreSQL"
	case BackendKafka:
		return "Kafka"
	case BackendClickHouse:
		return "ClickHouse"
	case BackendRedis:
		return "Redis"
	case BackendRabbitMQ:
		return "RabbitMQ"
	case BackendObjectStorage:
		return "Object storage"
	}
	return name
}

// Backend returns the status of a backend, or nil.
func (s *PlatformStatus) Backend(name string) *BackendStatus {
	for i := range s.Backends {
		if s.Backends[i].Name == name {
			return &s.Backends[i]
		}
	}
	return nil
}

// ByName returns the backends of the specification by name.
func (b *Backends) ByName() map[string]*Backend {
	out := map[string]*Backend{}
	for name, backend := range map[string]*Backend{
		BackendPostgreSQL: b.PostgreSQL, BackendKafka: b.Kafka, BackendClickHouse: b.ClickHouse,
		BackendRedis: b.Redis, BackendRabbitMQ: b.RabbitMQ, BackendObjectStorage: b.ObjectStorage,
	} {
		if backend != nil {
			out[name] = backend
		}
	}
	return out
}

// Has reports whether the specification has the backend.
func (b *Backends) Has(name string) bool { return b.ByName()[name] != nil }

// IsBackend reports whether a Platform can have a backend of that name.
func IsBackend(name string) bool { return slices.Contains(BackendNames(), name) }

const (
	// SettingMaxConnections is PostgreSQL's setting for the maximum number of connections.
	SettingMaxConnections = "max_connections"
	// DefaultMaxConnections of a managed PostgreSQL suffices for the services and workers of all products.
	DefaultMaxConnections = 400
)

// MaxConnections returns the maximum number of connections of a managed PostgreSQL.
func MaxConnections(managed *ManagedBackend) int32 {
	n, err := strconv.ParseInt(string(managed.Config[SettingMaxConnections]), 10, 32)
	if err != nil {
		return DefaultMaxConnections
	}
	return int32(n)
}
