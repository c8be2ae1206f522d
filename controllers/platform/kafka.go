// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"
	"errors"
	"fmt"
	"net"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/controllers/internal/dynamic"
	"github.com/itechsmart/operator/controllers/internal/workload"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/kafka"
)

const scram512 = "SCRAM-SHA-512"

var kafkaBackend = &backendType{
	name: v1alpha1.BackendKafka, title: "Kafka", port: 9092,
	pick:     func(b *v1alpha1.Backends) *v1alpha1.Backend { return b.Kafka },
	image:    "docker.io/apache/kafka:4.1.0",
	username: defaultUser,
	sizing:   workload.Sizing{CPU: "200m", Memory: "512Mi", MemoryLimit: "1Gi"},
	reserved: []string{
		"advertised.listeners", "authorizer.class.name", "broker.id", "controller.*", "early.start.listeners", "inter.broker.listener.name",
		"listener.*", "listeners", "log.dir", "log.dirs", "metadata.log.dir", "node.id", "process.roles", "sasl.*", "security.*", "ssl.*", "super.users",
	},
	server: kafkaWorkload,
	bind: func(b *backend.Binding) {
		b.SASLMechanism, b.BootstrapServers = scram512, b.Address()
	},
	complete: func(b *backend.Binding) string {
		if b.Host != "" || b.BootstrapServers == "" {
			return ""
		}
		// Kafka's own key stands for host and port.
		host, port, err := net.SplitHostPort(b.Brokers()[0])
		if err != nil {
			return `key "bootstrap-servers" must be a list of host:port`
		}
		b.Host, b.Port = host, port
		return ""
	},
	uri: func(backend.Binding) string { return "" }, // Kafka has no scheme; bootstrap-servers is the address
	probe: func(ctx context.Context, b backend.Binding) (string, error) {
		admin, err := kafka.New(b)
		if err != nil {
			return "", err
		}
		return ping(ctx, admin)
	},
	operated: strimzi,
}

// kafkaStart formats the volume on the first start, with the client's user in it, and becomes the server.
const kafkaStart = `set -eu
conf=/etc/kafka/itechsmart/server.properties
if [ ! -e /var/lib/kafka/data/logs/meta.properties ]; then
  # Its output would show the stored keys.
  /opt/kafka/bin/kafka-storage.sh format --ignore-formatted --config "$conf" \
    --cluster-id "$(/opt/kafka/bin/kafka-storage.sh random-uuid)" \
    --add-scram "` + scram512 + `=[name=$KAFKA_USERNAME,password=$KAFKA_PASSWORD]" >/dev/null
fi
unset KAFKA_USERNAME KAFKA_PASSWORD
exec /opt/kafka/bin/kafka-server-start.sh "$conf"
`

// kafkaAsk sends an ApiVersions request over the listener that is inside of the pod alone, without the second that a
// Java tool needs: correlation 1 and no error must come back. The broker answers when it has caught up.
const kafkaAsk = `exec 3<>/dev/tcp/127.0.0.1/9094 &&
printf '\x00\x00\x00\x0f\x00\x12\x00\x00\x00\x00\x00\x01\x00\x05probe' >&3 &&
test "$(head -c 10 <&3 | tail -c 6 | od -An -tx1 | tr -d ' \n')" = 000000010000`

func kafkaWorkload(in serverInput) server {
	config := merged(map[string]string{
		"auto.create.topics.enable": "false", "delete.topic.enable": "true", "num.partitions": "1",
		"offsets.topic.replication.factor": "1", "transaction.state.log.replication.factor": "1", "transaction.state.log.min.isr": "1",
		"share.coordinator.state.topic.replication.factor": "1", "share.coordinator.state.topic.min.isr": "1",
		"offsets.topic.num.partitions": "10", "transaction.state.log.num.partitions": "10",
		"group.initial.rebalance.delay.ms": "500", "log.retention.hours": "168",
		"num.network.threads": "3", "num.io.threads": "4",
	}, in.config)
	for key, value := range map[string]string{
		"process.roles": "broker,controller", "node.id": "1", "controller.quorum.voters": "1@127.0.0.1:9093",
		"listeners": "CLIENT://:9092,CONTROLLER://127.0.0.1:9093,BROKER://127.0.0.1:9094",
		// The Service's name outlives every pod.
		"advertised.listeners":           "CLIENT://" + in.host + ":9092,BROKER://127.0.0.1:9094",
		"listener.security.protocol.map": "CLIENT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT,BROKER:PLAINTEXT",
		"inter.broker.listener.name":     "BROKER", "controller.listener.names": "CONTROLLER",
		"sasl.enabled.mechanisms":                             scram512,
		"listener.name.client.scram-sha-512.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
		"authorizer.class.name":                               "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		// Anonymous are the broker and the controller, over listeners that no other pod reaches.
		"super.users": "User:" + defaultUser + ";User:ANONYMOUS",
		"log.dirs":    "/var/lib/kafka/data/logs",
	} {
		config[key] = value
	}
	return server{
		uid:     1000,
		command: []string{shell, "/etc/kafka/itechsmart/start.sh"},
		env: map[string]string{
			// Half for the heap; the rest is for buffers, and what is outside of the limit is page cache.
			"KAFKA_HEAP_OPTS": fmt.Sprintf("-Xms%[1]dm -Xmx%[1]dm", max(in.memory/2/mib, 256)),
			"LOG_DIR":         "/tmp",
		},
		secretEnv: map[string]string{"KAFKA_USERNAME": keyUsername, "KAFKA_PASSWORD": keyPassword},
		dataPath:  "/var/lib/kafka/data",
		scratch:   []scratch{{name: "tmp", path: "/tmp"}},
		files:     map[string]string{"server.properties": lines(config, "%s=%s\n"), "start.sh": kafkaStart},
		mounts:    []fileMount{{path: "/etc/kafka/itechsmart"}},
		startup:   bashProbe(kafkaAsk), readiness: bashProbe(kafkaAsk), liveness: bashProbe(kafkaAsk),
		grace: 120,
	}
}

// strimzi makes a Kafka, its one node pool and the user that products are. It binds to the user's Secret and to the
// listener that the Kafka's status tells.
var strimzi = &operatedType{
	operator: "Strimzi (https://strimzi.io)",
	kinds: []dynamic.Kind{
		{Group: "kafka.strimzi.io", Kind: "Kafka", Versions: []string{"v1", "v1beta2"}},
		{Group: "kafka.strimzi.io", Kind: "KafkaNodePool", Versions: []string{"v1", "v1beta2"}},
		{Group: "kafka.strimzi.io", Kind: "KafkaUser", Versions: []string{"v1", "v1beta2"}},
	},
	render:  strimziObjects,
	secrets: func(name string) []string { return []string{strimziUser(name)} },
	ready: func(objects map[string]*unstructured.Unstructured) (bool, string) {
		if ok, message := conditionTrue(objects["Kafka"], "Ready"); !ok {
			return false, message
		}
		return conditionTrue(objects["KafkaUser"], "Ready")
	},
	bind: func(in operatedInput, secrets []*corev1.Secret, objects map[string]*unstructured.Unstructured) (backend.Binding, error) {
		b := backend.Binding{
			Username: strimziUser(in.name), Password: backend.ParseBinding(secrets[0].Data).Password, SASLMechanism: scram512, TLS: "true",
		}
		listeners, _, err := unstructured.NestedSlice(objects["Kafka"].Object, "status", "listeners")
		if err != nil {
			return b, fmt.Errorf("status.listeners of Kafka %s: %w", in.name, err)
		}
		for _, l := range listeners {
			listener, ok := l.(map[string]any)
			if !ok || listener["name"] != strimziListener {
				continue
			}
			b.BootstrapServers, _, _ = unstructured.NestedString(listener, "bootstrapServers")
			if certificates, _, _ := unstructured.NestedStringSlice(listener, "certificates"); len(certificates) > 0 {
				b.CA = certificates[0]
			}
		}
		if b.BootstrapServers == "" {
			return b, errors.New("the Kafka's status tells no address of listener " + strimziListener + " yet")
		}
		return b, b.Require("password")
	},
}

const strimziListener = "clients"

func strimziUser(name string) string { return name + "-" + defaultUser }

func strimziObjects(in operatedInput) []*unstructured.Unstructured {
	factor := int64(min(in.spec.Replicas, 3))
	config := map[string]any{
		"auto.create.topics.enable": false, "default.replication.factor": factor, "min.insync.replicas": max(factor-1, 1),
		"offsets.topic.replication.factor": factor, "transaction.state.log.replication.factor": factor,
		"transaction.state.log.min.isr": max(factor-1, 1),
	}
	for key, value := range in.spec.Config {
		config[key] = string(value)
	}
	server := map[string]any{
		"config": config,
		"listeners": []any{map[string]any{
			"name": strimziListener, "port": int64(9093), "type": "internal", "tls": true,
			"authentication": map[string]any{"type": "scram-sha-512"},
		}},
		"authorization": map[string]any{"type": "simple", "superUsers": []any{strimziUser(in.name)}},
	}
	if in.spec.Version != "" {
		server["version"] = in.spec.Version
	}
	cluster := in.object("Kafka", in.name, map[string]any{
		"kafka": server, "entityOperator": map[string]any{"userOperator": map[string]any{}},
	})
	volume := map[string]any{
		"id": int64(0), "type": "persistent-claim", "size": sizeString(in.spec.Storage), "deleteClaim": in.remove, "kraftMetadata": "shared",
	}
	if class := in.spec.Storage.StorageClassName; class != "" {
		volume["class"] = class
	}
	pool := map[string]any{
		"replicas": int64(in.spec.Replicas), "roles": []any{"controller", "broker"},
		"storage": map[string]any{"type": "jbod", "volumes": []any{volume}},
	}
	addResources(pool, in.spec.Resources)
	nodes := in.object("KafkaNodePool", in.name+"-nodes", pool)
	user := in.object("KafkaUser", strimziUser(in.name), map[string]any{"authentication": map[string]any{"type": "scram-sha-512"}})
	for _, obj := range []*unstructured.Unstructured{nodes, user} {
		labels := obj.GetLabels()
		labels["strimzi.io/cluster"] = in.name
		obj.SetLabels(labels)
	}
	if in.versions["Kafka"].Version == "v1beta2" {
		// Until v1, both had to be asked for.
		cluster.SetAnnotations(map[string]string{"strimzi.io/kraft": "enabled", "strimzi.io/node-pools": "enabled"})
	}
	return []*unstructured.Unstructured{nodes, cluster, user}
}
