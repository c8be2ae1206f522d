// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	images "github.com/itechsmart/operator/hack/images"
)

// kafkaTools are the command line tools of the official distribution, with their classes.
var kafkaTools = map[string]string{
	"kafka-storage.sh":             "kafka.tools.StorageTool",
	"kafka-configs.sh":             "kafka.admin.ConfigCommand",
	"kafka-topics.sh":              "org.apache.kafka.tools.TopicCommand",
	"kafka-acls.sh":                "org.apache.kafka.tools.AclCommand",
	"kafka-console-producer.sh":    "org.apache.kafka.tools.ConsoleProducer",
	"kafka-console-consumer.sh":    "org.apache.kafka.tools.consumer.ConsoleConsumer",
	"kafka-consumer-groups.sh":     "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
	"kafka-get-offsets.sh":         "org.apache.kafka.tools.GetOffsetShell",
	"kafka-delete-records.sh":      "org.apache.kafka.tools.DeleteRecordsCommand",
	"kafka-broker-api-versions.sh": "org.apache.kafka.tools.BrokerApiVersionsCommand",
	"kafka-cluster.sh":             "org.apache.kafka.tools.ClusterTool",
	"kafka-features.sh":            "org.apache.kafka.tools.FeatureCommand",
	"kafka-leader-election.sh":     "org.apache.kafka.tools.LeaderElectionCommand",
	"kafka-log-dirs.sh":            "org.apache.kafka.tools.LogDirsCommand",
	"kafka-metadata-quorum.sh":     "org.apache.kafka.tools.MetadataQuorumCommand",
	"kafka-producer-perf-test.sh":  "org.apache.kafka.tools.ProducerPerformance",
	"kafka-consumer-perf-test.sh":  "org.apache.kafka.tools.ConsumerPerformance",
	"kafka-reassign-partitions.sh": "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
	"kafka-transactions.sh":        "org.apache.kafka.tools.TransactionsCommand",
}

func kafkaTool(class string) []byte {
	return fmt.Appendf(nil, "#!/bin/sh\nexec \"$(dirname -- \"$0\")/kafka-run-class.sh\" %s \"$@\"\n", class)
}

// kafkaJars downloads the jars of pom.xml into the folder of the native server, once per pom.
func kafkaJars(ctx context.Context, env *Env) (dir string, err error) {
	env.kafka.Lock()
	defer env.kafka.Unlock()
	home := filepath.Join(env.Servers, "kafka")
	dir = filepath.Join(home, "libs")
	pom, err := images.Files.ReadFile("kafka/pom.xml")
	if err != nil {
		return "", err
	}
	mark := filepath.Join(home, "pom.xml")
	if have, err := os.ReadFile(mark); err == nil && string(have) == string(pom) {
		return dir, nil
	}
	project := filepath.Join(env.Temp, "kafka")
	if err := os.MkdirAll(project, 0o755); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(project, "pom.xml"), pom, 0o600); err != nil {
		return "", err
	}
	fmt.Fprintln(env.Log, "kafka: resolving the jars")
	err = env.run(ctx, project, nil, "mvn", "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+filepath.Join(project, "libs"))
	if err != nil {
		return "", err
	}
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(home, 0o755)); err != nil {
		return "", err
	}
	if err := os.Rename(filepath.Join(project, "libs"), dir); err != nil {
		return "", err
	}
	return dir, os.WriteFile(mark, pom, 0o644) //nolint:gosec // G306: for everybody
}

func kafka() Image {
	const id = 1000
	recipe := debian{
		Packages: []string{"openjdk-17-jre-headless", "bash", "dash", "coreutils", "grep", "sed", "libc-bin", "tzdata"},
		Drop: []string{
			"usr/lib/x86_64-linux-gnu/perl", "usr/share/perl", "usr/bin/perl*", "usr/lib/jvm/java-17-openjdk-amd64/man/", "usr/share/mime/",
			"usr/lib/python3", "usr/bin/python3*", "usr/lib/x86_64-linux-gnu/libLLVM*", "usr/share/fonts/", "usr/share/cups/",
		},
		Users: []user{{"appuser", id, "/home/appuser"}},
	}
	return Image{
		Name: "kafka", Ref: repository + "kafka:4",
		inputs: func(ctx context.Context, env *Env) (string, error) {
			if _, err := kafkaJars(ctx, env); err != nil {
				return "", err
			}
			return described(recipe, []string{"kafka"}, fmt.Sprint(kafkaTools))
		},
		fill: func(ctx context.Context, env *Env, w *layerWriter) error {
			if err := recipe.write(ctx, env, w); err != nil {
				return err
			}
			return fillKafka(ctx, env, w)
		},
		config: v1.Config{
			User: "1000:1000", WorkingDir: "/opt/kafka", ExposedPorts: map[string]struct{}{"9092/tcp": {}},
			Env: []string{
				"PATH=" + debianPath + ":/usr/lib/jvm/java-17-openjdk-amd64/bin:/opt/kafka/bin",
				"JAVA_HOME=/usr/lib/jvm/java-17-openjdk-amd64", "LOG_DIR=/tmp", "LANG=C.UTF-8",
			},
			Cmd: []string{"sh", "-c", "bin/kafka-storage.sh format --ignore-formatted --cluster-id itechsmart-local-01234 --config config/server.properties && exec bin/kafka-server-start.sh config/server.properties"},
		},
	}
}

func fillKafka(ctx context.Context, env *Env, w *layerWriter) error {
	jars, err := kafkaJars(ctx, env)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(jars)
	if err != nil {
		return err
	}
	for _, entry := range entries { // sorted by name
		if strings.HasSuffix(entry.Name(), ".jar") {
			if err := w.copy("opt/kafka/libs/"+entry.Name(), 0o644, filepath.Join(jars, entry.Name())); err != nil {
				return err
			}
		}
	}
	if err := errors.Join(files(w, "kafka/bin", "opt/kafka/bin"), files(w, "kafka/config", "opt/kafka/config")); err != nil {
		return err
	}
	for _, tool := range slices.Sorted(maps.Keys(kafkaTools)) {
		if err := w.bytes("opt/kafka/bin/"+tool, 0o755, kafkaTool(kafkaTools[tool])); err != nil {
			return err
		}
	}
	return errors.Join(w.dir("home/appuser", 0o755, 1000), w.dir("var/lib/kafka/data", 0o1777, 1000))
}
