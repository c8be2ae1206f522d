// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"
	"net"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/dynamic"
	"github.com/itechsmart/operator/controllers/internal/workload"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/rabbitmq"
)

var rabbitmqBackend = &backendType{
	name: v1alpha1.BackendRabbitMQ, title: "RabbitMQ", port: 5672,
	pick:     func(b *v1alpha1.Backends) *v1alpha1.Backend { return b.RabbitMQ },
	image:    "docker.io/library/rabbitmq:4",
	username: defaultUser,
	sizing:   workload.Sizing{CPU: "100m", Memory: "256Mi", MemoryLimit: "1Gi"},
	reserved: []string{
		"default_pass", "default_user", "default_vhost", "definitions.*", "listeners.*", "load_definitions", "log.file*", "management.tcp.port",
		"prometheus.tcp.port",
	},
	required: []string{"username", "password"},
	server:   rabbitmqWorkload,
	uri:      rabbitmq.URI,
	operated: rabbitmqOperator,
	probe: func(ctx context.Context, b backend.Binding) (string, error) {
		admin, err := rabbitmq.New(b)
		if err != nil {
			return "", err
		}
		return ping(ctx, admin)
	},
}

// rabbitmqAsk opens AMQP 0-9-1: the broker must answer with a frame of method connection.start (10, 10), without the
// seconds that a tool of Erlang needs.
const rabbitmqAsk = `exec 3<>/dev/tcp/127.0.0.1/5672 && printf 'AMQP\x00\x00\x09\x01' >&3 &&
test "$(head -c 11 <&3 | tail -c 4 | od -An -tx1 | tr -d ' \n')" = 000a000a`

func rabbitmqWorkload(in serverInput) server {
	config := merged(map[string]string{
		"vm_memory_high_watermark.absolute": megabytes(in.memory*6/10, 128),
		"disk_free_limit.absolute":          "200MB",
		"collect_statistics_interval":       "10000",
		"log.console":                       "true", "log.console.level": "info",
		// Each probe is a connection that ends early; failed logins are errors and stay visible.
		"log.connection.level": "error",
	}, in.config)
	for key, value := range map[string]string{
		"listeners.tcp.default": "5672", "management.tcp.port": "15672", "prometheus.tcp.port": "15692",
	} {
		config[key] = value
	}
	return server{
		uid: 999,
		env: map[string]string{
			// One node, whose name and distribution stay inside of the pod: both survive its restarts.
			"RABBITMQ_NODENAME": "rabbit@localhost", "ERL_EPMD_ADDRESS": "127.0.0.1",
			"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none",
			"RABBITMQ_LOGS":                       "-",
		},
		secretEnv: map[string]string{"RABBITMQ_DEFAULT_USER": keyUsername, "RABBITMQ_DEFAULT_PASS": keyPassword},
		ports:     []port{{name: "management", number: 15672}, {name: "prometheus", number: 15692}},
		dataPath:  "/var/lib/rabbitmq/mnesia",
		scratch: []scratch{
			// The cookie of one node need not last, and Erlang refuses one whose mode a volume's group changed.
			{name: "home", path: "/var/lib/rabbitmq"}, {name: "log", path: "/var/log/rabbitmq", limit: "100Mi"}, {name: "tmp", path: "/tmp"},
		},
		files: map[string]string{
			"rabbitmq.conf":   lines(config, "%s = %s\n"),
			"enabled_plugins": "[rabbitmq_management,rabbitmq_prometheus].\n",
		},
		mounts:  []fileMount{{path: "/etc/rabbitmq"}},
		startup: bashProbe(rabbitmqAsk), readiness: bashProbe(rabbitmqAsk), liveness: bashProbe(rabbitmqAsk),
		grace: 120,
	}
}

// rabbitmqOperator binds to the Secret that status.binding names, <cluster>-default-user.
var rabbitmqOperator = &operatedType{
	operator: "RabbitMQ Cluster Operator (https://www.rabbitmq.com/kubernetes/operator)",
	kinds:    []dynamic.Kind{{Group: "rabbitmq.com", Kind: "RabbitmqCluster", Versions: []string{"v1beta1"}}},
	render: func(in operatedInput) []*unstructured.Unstructured {
		persistence := map[string]any{"storage": sizeString(in.spec.Storage)}
		if class := in.spec.Storage.StorageClassName; class != "" {
			persistence["storageClassName"] = class
		}
		spec := map[string]any{"replicas": int64(in.spec.Replicas), "persistence": persistence}
		if in.spec.Version != "" {
			spec["image"] = "docker.io/library/rabbitmq:" + in.spec.Version + "-management"
		}
		if len(in.spec.Config) > 0 {
			spec["rabbitmq"] = map[string]any{"additionalConfig": lines(settings(in.spec.Config), "%s = %s\n")}
		}
		addResources(spec, in.spec.Resources)
		return []*unstructured.Unstructured{in.object("RabbitmqCluster", in.name, spec)}
	},
	ready: func(objects map[string]*unstructured.Unstructured) (bool, string) {
		return conditionTrue(objects["RabbitmqCluster"], "AllReplicasReady")
	},
	secrets: func(name string) []string { return []string{name + "-default-user"} },
	bind: func(in operatedInput, secrets []*corev1.Secret, _ map[string]*unstructured.Unstructured) (backend.Binding, error) {
		user := backend.ParseBinding(secrets[0].Data)
		b := backend.Binding{
			Host: orDefault(user.Host, serviceHost(in.name, in.namespace)), Port: orDefault(user.Port, "5672"),
			Username: user.Username, Password: user.Password,
		}
		if _, err := strconv.ParseUint(b.Port, 10, 16); err != nil {
			return b, &net.AddrError{Err: "no port", Addr: b.Port}
		}
		return b, b.Require("username", "password")
	},
}
