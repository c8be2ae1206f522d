// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/internal/backend/kafka"
)

func TestMain(m *testing.M) { servers.Main(m) }

// TestLoader checks that each record is in the topic once, however often the loader is started, and wherever it stopped.
func TestLoader(t *testing.T) {
	binding := servers.Kafka(t)
	ctx := t.Context()
	admin, err := kafka.New(binding)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	topic := fmt.Sprintf("load-%d", time.Now().UnixNano())
	if err := admin.CreateTopic(ctx, kafka.Topic{Name: topic, Partitions: 3, ReplicationFactor: 1}); err != nil {
		t.Fatal(err)
	}
	var array strings.Builder
	const records = 20_000
	for i := range records {
		fmt.Fprintf(&array, `,{"delay":%d}`, i*7)
	}
	file := write(t, "flights.json", "["+array.String()[1:]+"]")
	dir := bindingDir(t, binding)
	for _, limit := range []string{"1", "7001", "7000", "0", "0"} {
		err := run(ctx, []string{"--file", file, "--topic", topic, "--binding", dir, "--limit", limit, "--wait", "30s"})
		if err != nil {
			t.Fatalf("--limit %s: %v", limit, err)
		}
	}
	seen := consume(t, binding, topic, records)
	for id := range int64(records) {
		if seen[id] != 1 {
			t.Fatalf("record %d exists %d times", id, seen[id])
		}
	}
}

func bindingDir(t *testing.T, binding backend.Binding) string {
	t.Helper()
	dir := t.TempDir()
	for key, value := range binding.Data() {
		if err := os.WriteFile(filepath.Join(dir, key), []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// consume reads every partition to its end and counts the records by id.
func consume(t *testing.T, binding backend.Binding, topic string, want int) map[int64]int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dialer, err := kafka.Dialer(binding)
	if err != nil {
		t.Fatal(err)
	}
	seen, total := map[int64]int{}, 0
	for partition := range 3 {
		leader, err := dialer.DialLeader(ctx, "tcp", binding.Brokers()[0], topic, partition)
		if err != nil {
			t.Fatal(err)
		}
		end, err := leader.ReadLastOffset()
		if err != nil {
			t.Fatal(err)
		}
		leader.Close()
		total += int(end)
		reader := kafkago.NewReader(kafkago.ReaderConfig{Brokers: binding.Brokers(), Dialer: dialer, Topic: topic, Partition: partition, MaxWait: 100 * time.Millisecond})
		for range end {
			message, err := reader.ReadMessage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			var record struct{ ID, Delay int64 }
			if err := json.Unmarshal(message.Value, &record); err != nil || record.Delay != 7*record.ID || record.ID%3 != int64(partition) {
				t.Fatalf("partition %d: %s (%v)", partition, message.Value, err)
			}
			seen[record.ID]++
		}
		reader.Close()
	}
	if total != want {
		t.Errorf("the topic has %d records, want %d", total, want)
	}
	return seen
}

func TestFlags(t *testing.T) {
	tests := map[string][]string{
		"--limit":   {"--limit", "-1"},
		"--topic":   {"--topic", "a/b"},
		"--binding": {"--binding", "absent"},
		"--file":    {"--binding", t.TempDir(), "--file", "absent.parquet"},
	}
	for want, args := range tests {
		if err := run(t.Context(), args); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want an error naming %s", args, err, want)
		}
	}
}
