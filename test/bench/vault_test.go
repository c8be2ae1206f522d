// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/test/load"
	"github.com/itechsmart/operator/workloads/config"
)

// mixed returns a typical load: reading the caller's user, listing secrets, reading values, and one write in ten
// requests.
func (v *ourVault) mixed(b *testing.B) []load.Class {
	b.Helper()
	var lists []load.Request
	for i := range 100 {
		lists = append(lists, load.Request{
			Method: http.MethodGet, Path: fmt.Sprintf("/api/v1/secrets?limit=20&prefix=s/%03d", i), Header: bearer(v.viewer), Status: http.StatusOK,
		})
	}
	return []load.Class{
		{Name: "me", Weight: 2, Requests: []load.Request{{Method: http.MethodGet, Path: "/api/v1/me", Header: bearer(v.viewer), Status: http.StatusOK}}},
		{Name: "list", Weight: 2, Requests: lists},
		{Name: "read", Weight: 5, Requests: v.reads()},
		{Name: "write", Weight: 1, Requests: v.writes(b)},
	}
}

// BenchmarkVaultREST sends 1,000 requests a second to the service, whatever its responses, over 100 connections; client,
// service and PostgreSQL share the processors. Tokens are verified, every read and write is audited.
func BenchmarkVaultREST(b *testing.B) {
	v := startOurs(b, anywhere, servers.Postgres(b))
	v.fill(b)
	spec := load.Spec{Address: v.address, Connections: 100, Rate: 1000, Seconds: 5, Classes: v.mixed(b)}
	send(b, anywhere, spec) // opens connections and prepares plans
	spec.Seconds = 30
	result := send(b, anywhere, spec)
	row(b, "REST at 1000 requests/s errors", float64(result.Errors), "errors", 0)
	row(b, "REST at 1000 requests/s p95", result.All.P95, "ms", 20)
	row(b, "REST at 1000 requests/s p99", result.All.P99, "ms", 50)
}

// BenchmarkVaultUsers opens 10,000 connections from another process, and then sends five requests over each, all at once.
func BenchmarkVaultUsers(b *testing.B) {
	const users, each = 10_000, 5
	var files syscall.Rlimit // package os has raised it to the hard limit, also for the client and the service
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		b.Fatal(err)
	}
	if need := uint64(users + 200); files.Max < need {
		b.Skipf("%d users need %d open files, and the hard limit is %d (ulimit -Hn): raise it", users, need, files.Max)
	}
	v := startOurs(b, anywhere, servers.Postgres(b))
	v.fill(b)
	result := send(b, anywhere, load.Spec{Address: v.address, Connections: users, Each: each, Classes: v.mixed(b)})
	b.Logf("connected in %.1f s; then %.0f requests/s", result.Dial, result.PerSecond())
	row(b, fmt.Sprintf("%d concurrent users errors", users), float64(result.Errors), "errors", 0)
}

// BenchmarkVaultBesideHashiCorp measures reads and durable writes of 10,000 secrets of 256 bytes over HTTP, with a token,
// over 64 connections, each server alone on one processor and the client on the other. PostgreSQL shares our server's.
// Both keep versions, and write an event for each request to a file before they respond, without syncing it. The medians
// of a few rounds are compared, in which the servers take turns.
func BenchmarkVaultBesideHashiCorp(b *testing.B) {
	const rounds, seconds = 5, 5
	theirs := startHashiCorp(b, serverCore)
	var database backend.Binding
	pinned(b, serverCore, func() { database = servers.StartPostgres(b).Binding })
	ours := startOurs(b, serverCore, database)
	theirs.fill(b)
	ours.fill(b)
	compare := func(name string, our, their []load.Request, target float64, unit string) {
		took := map[string][]float64{}
		for range rounds {
			for _, turn := range []struct {
				address  string
				requests []load.Request
			}{{theirs.address, their}, {ours.address, our}} {
				result := sound(b, send(b, clientCore, load.Spec{
					Address: turn.address, Connections: 64, Seconds: seconds, Classes: []load.Class{{Name: name, Weight: 1, Requests: turn.requests}},
				}))
				took[turn.address] = append(took[turn.address], result.PerSecond())
			}
		}
		b.Run("Vault "+name, func(b *testing.B) {
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(took[ours.address]), "op/s")
			b.ReportMetric(median(took[theirs.address]), "hashicorp-op/s")
			b.ReportMetric(median(took[ours.address])/median(took[theirs.address]), "ratio")
			b.ReportMetric(target, "target-"+unit)
		})
	}
	compare("reads", ours.reads(), theirs.requests(b, http.MethodGet), 1, "ratio")
	compare("durable writes", ours.writes(b), theirs.requests(b, http.MethodPost), 1000, "op/s")
}

func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	return values[len(values)/2]
}

// BenchmarkVaultVersions compares a secret of 1,000 versions with one of ten: the median time of a read of the newest, and
// of a list of ten versions.
func BenchmarkVaultVersions(b *testing.B) {
	const few, many, rounds = 10, 1000, 5
	v := startOurs(b, anywhere, servers.Postgres(b))
	for _, count := range []int{few, many} {
		name := fmt.Sprintf("versions/%d", count)
		call(b, bearer(v.editor), http.MethodPost, v.url("/api/v1/secrets"), json.RawMessage(ourWrite(b, name)), nil)
		sound(b, send(b, anywhere, load.Spec{Address: v.address, Connections: 1, Each: count - 1, Classes: []load.Class{{Name: "write", Weight: 1, Requests: []load.Request{
			{Method: http.MethodPut, Path: secretURL(name, ""), Header: bearer(v.editor), Body: ourWrite(b, ""), Status: http.StatusOK},
		}}}}))
	}
	for name, path := range map[string]string{"read": "/value", "list": "/versions?limit=10"} {
		took := map[int][]float64{}
		for range rounds {
			for _, count := range []int{few, many} {
				result := sound(b, send(b, anywhere, load.Spec{Address: v.address, Connections: 1, Each: 1000, Classes: []load.Class{{Name: name, Weight: 1, Requests: []load.Request{
					{Method: http.MethodGet, Path: secretURL(fmt.Sprintf("versions/%d", count), path), Header: bearer(v.editor), Status: http.StatusOK},
				}}}}))
				took[count] = append(took[count], result.All.P50)
			}
		}
		row(b, fmt.Sprintf("%s with %d versions against %d", name, many, few), median(took[many])/median(took[few]), "ratio", 1)
	}
}

// BenchmarkVaultColdStart measures the time from the start of the service's process, killed before, to the first value
// read: the root key is derived each time.
func BenchmarkVaultColdStart(b *testing.B) {
	const starts = 9
	v := startOurs(b, anywhere, servers.Postgres(b))
	call(b, bearer(v.editor), http.MethodPost, v.url("/api/v1/secrets"), json.RawMessage(ourWrite(b, secretName(0))), nil)
	var took []float64
	for range starts {
		v.kill()
		begun := time.Now()
		v.run(b)
		var err error
		for err = try(bearer(v.editor), http.MethodGet, v.url(secretURL(secretName(0), "/value")), nil, nil); err != nil && time.Since(begun) < time.Minute; {
			time.Sleep(time.Millisecond) // the polling interval
			err = try(bearer(v.editor), http.MethodGet, v.url(secretURL(secretName(0), "/value")), nil, nil)
		}
		if err != nil {
			b.Fatalf("%v\n%s", err, v.tail())
		}
		took = append(took, time.Since(begun).Seconds())
	}
	b.Logf("seconds from start to first read: %.2f", took)
	v.answers(b, v.url(config.ReadyPath))
	b.Run("Vault cold start to first read", func(b *testing.B) {
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(median(took), "s")
	})
}
