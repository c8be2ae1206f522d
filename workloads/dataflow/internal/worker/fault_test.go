// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	backendkafka "github.com/itechsmart/operator/internal/backend/kafka"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
)

// asWorker makes this test binary run the worker, so that a test can kill a real process.
const asWorker = "DATAFLOW_TEST_AS_WORKER"

func TestMain(m *testing.M) {
	if os.Getenv(asWorker) != "" {
		os.Exit(Main("test"))
	}
	servers.Main(m)
}

// fault is one pipeline from topic in to topic out, fed by a producer that retries through outages.
type fault struct {
	t       *testing.T
	binding backend.Binding
	client  *kafkago.Client
	written atomic.Int64 // records whose write the broker acknowledged
	path    string       // of the configuration
	cfg     *config.Pipeline
}

const (
	faultRecords = 40_000
	faultSize    = 512
)

func newFault(t *testing.T, binding backend.Binding) *fault {
	t.Helper()
	transport, err := backendkafka.Transport(binding)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.CloseIdleConnections)
	f := &fault{t: t, binding: binding, client: &kafkago.Client{Addr: backendkafka.Addr(binding), Transport: transport, Timeout: 10 * time.Second}}
	answer, err := f.client.CreateTopics(context.Background(), &kafkago.CreateTopicsRequest{Topics: []kafkago.TopicConfig{
		{Topic: "in", NumPartitions: 4, ReplicationFactor: 1}, {Topic: "out", NumPartitions: 4, ReplicationFactor: 1},
	}})
	if err == nil {
		err = errors.Join(answer.Errors["in"], answer.Errors["out"])
	}
	if err != nil {
		t.Fatal(err)
	}
	f.cfg = &config.Pipeline{
		Namespace: "test", Name: "fault", ConsumerGroup: "fault", Delivery: config.AtLeastOnce,
		Batching:       config.Batching{Count: 500, Bytes: 1 << 20, Period: config.Duration(100 * time.Millisecond)},
		MaxRecordBytes: 1 << 20,
		Connections:    map[string]map[string]string{"kafka": binding.Data()},
		Sources:        []config.Source{{Name: "in", Type: "kafka", Connection: "kafka", Config: json.RawMessage(`{"topic":"in"}`)}},
		Sinks: []config.Sink{{Name: "out", Type: "kafka", Connection: "kafka", Config: json.RawMessage(`{"topic":"out"}`),
			Retry: config.Retry{Initial: config.Duration(100 * time.Millisecond), Max: config.Duration(2 * time.Second)}}},
	}
	data, err := json.Marshal(f.cfg)
	if err != nil {
		t.Fatal(err)
	}
	f.path = filepath.Join(t.TempDir(), config.FileName)
	if err := os.WriteFile(f.path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

// produce writes records numbered from 0, about 5,000 a second, through every outage.
func (f *fault) produce(ctx context.Context) error {
	w := &kafkago.Writer{
		Addr: f.client.Addr, Transport: f.client.Transport, Topic: "in", Balancer: kafkago.Murmur2Balancer{},
		BatchTimeout: time.Millisecond, BatchSize: 500, RequiredAcks: kafkago.RequireAll, MaxAttempts: 1,
	}
	defer w.Close()
	padding := strings.Repeat("x", faultSize)
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for next := 0; next < faultRecords; {
		var messages []kafkago.Message
		for n := next; n < min(next+250, faultRecords); n++ {
			messages = append(messages, kafkago.Message{Key: strconv.AppendInt(nil, int64(n), 10), Value: fmt.Appendf(nil, `{"n":%d,"p":"%s"}`, n, padding)})
		}
		for {
			err := w.WriteMessages(ctx, messages...)
			if err == nil {
				break
			}
			select {
			case <-time.After(200 * time.Millisecond):
			case <-ctx.Done():
				return fmt.Errorf("produce at %d: %w", next, err)
			}
		}
		next += len(messages)
		f.written.Store(int64(next))
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// reached waits until the producer has written n records.
func (f *fault) reached(n int64) {
	f.t.Helper()
	f.until("the producer reaches "+strconv.FormatInt(n, 10), func() bool { return f.written.Load() >= n })
}

func (f *fault) until(what string, ok func() bool) {
	f.t.Helper()
	limit := time.Now().Add(2 * time.Minute)
	for !ok() {
		if time.Now().After(limit) {
			f.t.Fatalf("timed out: %s", what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// counts reads a whole topic and counts each number.
func (f *fault) counts(ctx context.Context, topic string) (map[int]int, error) {
	seen := map[int]int{}
	dialer, err := backendkafka.Dialer(f.binding)
	if err != nil {
		return nil, err
	}
	for partition := range 4 {
		conn, err := dialer.DialLeader(ctx, "tcp", f.binding.Brokers()[0], topic, partition)
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		first, last, err := conn.ReadOffsets()
		if err != nil {
			return nil, err
		}
		r := kafkago.NewReader(kafkago.ReaderConfig{Brokers: f.binding.Brokers(), Dialer: dialer, Topic: topic, Partition: partition, MaxBytes: 4 << 20, MaxWait: 100 * time.Millisecond})
		defer r.Close()
		if err := r.SetOffset(first); err != nil {
			return nil, err
		}
		for offset := first; offset < last; {
			message, err := r.ReadMessage(ctx)
			if err != nil {
				return nil, err
			}
			var value struct{ N int }
			if err := json.Unmarshal(message.Value, &value); err != nil {
				return nil, err
			}
			seen[value.N]++
			offset = message.Offset + 1
		}
	}
	return seen, nil
}

// verify waits until every number is in topic out, and limits the duplicates that the pipeline made.
func (f *fault) verify(ctx context.Context, faults int) {
	f.t.Helper()
	in, err := f.counts(ctx, "in")
	if err != nil {
		f.t.Fatal(err)
	}
	var out map[int]int
	began := time.Now()
	f.until("every record arrives", func() bool {
		out, err = f.counts(ctx, "out")
		return err == nil && len(out) >= faultRecords
	})
	produced, arrived := 0, 0
	for n := range faultRecords {
		if out[n] == 0 {
			f.t.Fatalf("record %d was lost", n)
		}
		produced += in[n]
		arrived += out[n]
	}
	duplicates := arrived - produced
	// Records in flight at a fault may be written twice: at most the engine's budget, 16 MiB.
	bound := faults * (16 << 20) / (faultSize + 192)
	f.t.Logf("%d records in, %d out: none lost, %d duplicates by %d faults (bound %d); all there %v after the producer's end",
		produced, arrived, duplicates, faults, bound, time.Since(began).Round(time.Millisecond))
	if duplicates > bound || duplicates < 0 {
		f.t.Errorf("%d duplicates, want at most %d", duplicates, bound)
	}
	if waited := time.Since(began); waited > time.Minute {
		f.t.Errorf("convergence took %v", waited)
	}
}

func TestNoRecordIsLostWhenTheBrokerIsKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("kills a broker")
	}
	server := servers.StartKafka(t)
	f := newFault(t, server.Binding)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	e, err := NewEngine(f.cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- e.Run(running) }()
	producing := make(chan error, 1)
	go func() { producing <- f.produce(ctx) }()

	for i, at := range []int64{faultRecords / 4, faultRecords / 2} {
		f.reached(at)
		f.until("the pipeline is healthy", func() bool { status := e.Status(); return status.Ready && status.Records.Out > 0 })
		server.Kill()
		killed := time.Now()
		f.until("the status reports the outage", func() bool {
			status := e.Status()
			return status.Sources[0].LastError != "" || status.Sinks[0].LastError != ""
		})
		shown := time.Since(killed)
		if shown > 10*time.Second {
			t.Errorf("the outage was reported after %v", shown)
		}
		server.Restart(t)
		back := time.Now()
		out := e.Status().Records.Out
		f.until("records flow again", func() bool { return e.Status().Ready && e.Status().Records.Out > out })
		t.Logf("kill %d: reported after %v, flowing %v after the broker's restart", i+1, shown.Round(time.Millisecond), time.Since(back).Round(time.Millisecond))
	}
	if err := <-producing; err != nil {
		t.Fatal(err)
	}
	f.verify(ctx, 2)
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

func TestNoRecordIsLostWhenTheWorkerIsKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("kills processes")
	}
	f := newFault(t, servers.Kafka(t))
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	producing := make(chan error, 1)
	go func() { producing <- f.produce(ctx) }()

	const kills = 3
	w := f.startWorker()
	for i := range kills {
		f.reached(faultRecords * int64(i+1) / (kills + 2))
		f.until("the worker writes", func() bool { s, err := w.status(); return err == nil && s.Records.Out > 1000 })
		_ = w.cmd.Process.Kill()
		_ = w.cmd.Wait()
		began := time.Now()
		w = f.startWorker()
		f.until("a new worker writes", func() bool { s, err := w.status(); return err == nil && s.Records.Out > 0 })
		t.Logf("kill %d: the next worker wrote after %v", i+1, time.Since(began).Round(time.Millisecond))
	}
	if err := <-producing; err != nil {
		t.Fatal(err)
	}
	f.verify(ctx, kills)
	began := time.Now()
	_ = w.cmd.Process.Signal(os.Interrupt)
	if err := w.cmd.Wait(); err != nil {
		t.Errorf("the worker ends with %v", err)
	}
	if took := time.Since(began); took > 25*time.Second {
		t.Errorf("stopping took %v", took)
	}
}

// process is a real worker.
type process struct {
	cmd *exec.Cmd
	url string
}

func (f *fault) startWorker() *process {
	f.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	addr := listener.Addr().String()
	_ = listener.Close()
	cmd := exec.Command(os.Args[0], "run", "--config", f.path, "--listen", addr)
	cmd.Env = append(os.Environ(), asWorker+"=1")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = cmd.Process.Kill() })
	return &process{cmd: cmd, url: "http://" + addr}
}

func (p *process) status() (config.Status, error) {
	var status config.Status
	response, err := http.Get(p.url + config.StatusPath)
	if err != nil {
		return status, err
	}
	defer response.Body.Close()
	return status, json.NewDecoder(response.Body).Decode(&status)
}
