// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"slices"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// GetConditions returns the list to change in place.
func (p *Platform) GetConditions() *[]metav1.Condition { return &p.Status.Conditions }

// SetObservedGeneration notes which generation the status speaks of.
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

// BackendNames are all of them.
func BackendNames() []string {
	return []string{BackendPostgreSQL, BackendKafka, BackendClickHouse, BackendRedis, BackendRabbitMQ, BackendObjectStorage}
}

// BackendField is a backend's field in spec.backends: its name, but for those of two words.
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

// Mode is which member of the union is set.
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

// BindingSecretName is the Secret through which products reach a backend.
func (p *Platform) BindingSecretName(backend string) string {
	return p.Name + "-" + backend + "-binding"
}

// ComponentIdentity is what all services of a Platform share: users and their roles.
const ComponentIdentity = "identity"

// SigningKeysName is the Secret with the keys that sign the Platform's tokens.
func (p *Platform) SigningKeysName() string { return p.Name + "-signing-keys" }

// AdministratorName is the Secret with the first user's password.
func (p *Platform) AdministratorName() string { return p.Name + "-administrator" }

// BackendTitle is a backend's own name, for messages.
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

// Backend returns the status row of a backend, nil when there is none.
func (s *PlatformStatus) Backend(name string) *BackendStatus {
	for i := range s.Backends {
		if s.Backends[i].Name == name {
			return &s.Backends[i]
		}
	}
	return nil
}

// ByName are the backends that the specification has, by their name.
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

// Has tells whether the specification has the backend.
func (b *Backends) Has(name string) bool { return b.ByName()[name] != nil }

// IsBackend tells whether a Platform can have a backend of that name.
func IsBackend(name string) bool { return slices.Contains(BackendNames(), name) }

const (
	// SettingMaxConnections is PostgreSQL's setting of how many connections it takes.
	SettingMaxConnections = "max_connections"
	// DefaultMaxConnections of a managed PostgreSQL has room for every product's service and workers.
	DefaultMaxConnections = 400
)

// MaxConnections is how many connections a managed PostgreSQL takes.
func MaxConnections(managed *ManagedBackend) int32 {
	n, err := strconv.ParseInt(string(managed.Config[SettingMaxConnections]), 10, 32)
	if err != nil {
		return DefaultMaxConnections
	}
	return int32(n)
}
