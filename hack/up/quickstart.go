// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/itechsmart/operator/internal/backend"
)

const (
	flightsTotal = 3_000_000 // rows of flights-3m.parquet
	pollEvery    = time.Second
)

// quickstartRun is the quickstart on its way.
type quickstartRun struct {
	up    *up
	table *tableReader
}

func (q *quickstartRun) close() {
	if q.table != nil {
		q.table.close()
	}
}

func (q *quickstartRun) apply(ctx context.Context) error {
	return q.up.run(ctx, "quickstart", q.up.root, q.up.bin+"/kubectl", "apply", "--server-side", "--force-conflicts", "--field-manager=quickstart", "-k", "config/samples/quickstart")
}

// row is a backend or a product of a Platform.
type row struct {
	Name  string `json:"name"`
	Ready bool   `json:"ready"`
}

// resource is what all our kinds show of their state.
type resource struct {
	Metadata struct {
		Generation int64 `json:"generation"`
	} `json:"metadata"`
	Status struct {
		ObservedGeneration int64  `json:"observedGeneration"`
		Phase              string `json:"phase"`
		Backends           []row  `json:"backends"`
		Products           []row  `json:"products"`
		Throughput         struct {
			In, Out int64
		} `json:"throughput"`
		Lag        *int64 `json:"lag"`
		Conditions []struct {
			Type, Status, Reason, Message string
		} `json:"conditions"`
	} `json:"status"`
}

func (r *resource) condition(name string) (status, message string) {
	for _, c := range r.Status.Conditions {
		if c.Type == name {
			return c.Status, c.Reason + ": " + c.Message
		}
	}
	return "Unknown", "no condition " + name + " yet"
}

func (q *quickstartRun) get(ctx context.Context, kind, name string) (*resource, error) {
	out, err := q.up.kubectl(ctx, "-n", namespace, "get", kind, name, "-o", "json")
	if err != nil {
		return nil, err
	}
	var r resource
	if err := json.Unmarshal(out, &r); err != nil {
		return nil, fmt.Errorf("read %s %s: %w", kind, name, err)
	}
	return &r, nil
}

// await waits until a resource is Ready at its current generation.
func (q *quickstartRun) await(ctx context.Context, kind, name string, patience time.Duration, describe func(*resource) string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	last := ""
	for {
		r, err := q.get(ctx, kind, name)
		if err == nil {
			status, message := r.condition("Ready")
			if status == "True" && r.Status.ObservedGeneration == r.Metadata.Generation {
				q.up.screen.progress(describe(r))
				return nil
			}
			last = message
			q.up.screen.progress(describe(r) + "  " + message)
		} else if ctx.Err() == nil {
			last = err.Error()
			q.up.screen.progress(last)
		}
		if err := pause(ctx, pollEvery); err != nil {
			return fmt.Errorf("%s %s is not Ready after %s: %s", kind, name, patience, last)
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

func (q *quickstartRun) awaitPlatform(ctx context.Context) error {
	return q.await(ctx, "platform", "main", 8*time.Minute, func(r *resource) string {
		var parts []string
		for _, part := range slices.Concat(r.Status.Backends, r.Status.Products) {
			mark := "…"
			if part.Ready {
				mark = "✓"
			}
			parts = append(parts, part.Name+" "+mark)
		}
		return strings.Join(parts, "  ")
	})
}

func (q *quickstartRun) awaitPipeline(ctx context.Context) error {
	return q.await(ctx, "pipeline", "flights", 5*time.Minute, func(r *resource) string { return r.Status.Phase })
}

// stream watches the rows arrive until all are there.
func (q *quickstartRun) stream(ctx context.Context) error {
	const patience = 2 * time.Minute // without a new row
	table, err := q.openTable(ctx)
	if err != nil {
		return err
	}
	q.table = table
	started, grew, before, first := time.Now(), time.Now(), int64(-1), int64(-1)
	var rate float64
	measured := started
	for {
		rows, err := table.count(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			q.up.screen.progress(err.Error())
		case rows >= flightsTotal:
			took := time.Since(started)
			text := fmt.Sprintf("%d rows", rows)
			if first >= 0 && rows > first {
				text += fmt.Sprintf(", %.0f/s", float64(rows-first)/took.Seconds())
			}
			q.up.screen.progress(text)
			return nil
		default:
			now := time.Now()
			if first < 0 {
				first = rows
			}
			if before >= 0 {
				rate = 0.6*rate + 0.4*float64(rows-before)/now.Sub(measured).Seconds()
			}
			if rows > before {
				grew = now
			}
			before, measured = rows, now
			q.up.screen.progress(fmt.Sprintf("%s %d of %d rows, %.0f/s", bar(rows), rows, int64(flightsTotal), rate))
		}
		if time.Since(grew) > patience {
			return errors.Join(fmt.Errorf("no new row for %s; the table holds %d of %d", patience, before, int64(flightsTotal)), err)
		}
		if err := pause(ctx, pollEvery); err != nil {
			return err
		}
	}
}

func bar(rows int64) string {
	const width = 24
	full := min(width, int(rows*width/flightsTotal))
	return strings.Repeat("█", full) + strings.Repeat("░", width-full)
}

// openTable finds the ClickHouse server by its binding Secret.
func (q *quickstartRun) openTable(ctx context.Context) (*tableReader, error) {
	out, err := q.up.kubectl(ctx, "-n", namespace, "get", "secret", "main-clickhouse-binding", "-o", "json")
	if err != nil {
		return nil, err
	}
	var secret struct {
		Data map[string][]byte `json:"data"`
	}
	if err := json.Unmarshal(out, &secret); err != nil {
		return nil, fmt.Errorf("read Secret main-clickhouse-binding: %w", err)
	}
	binding := backend.ParseBinding(secret.Data)
	service, _, _ := strings.Cut(binding.Host, ".")
	address, err := q.up.kubectl(ctx, "-n", namespace, "get", "service", service, "-o", "jsonpath={.spec.clusterIP}")
	if err != nil {
		return nil, err
	}
	binding.Host = string(address)
	return newTableReader(binding, "quickstart.flights"), nil
}
