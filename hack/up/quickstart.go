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

// quickstartRun is the quickstart in progress.
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
	return q.up.run(ctx, "quickstart", q.up.root, q.up.bin+"/kubectl", "apply", "--server-side", "--force-conflicts", "--field-manager=quickstart", "-k", samples)
}

const samples = "config/samples/quickstart"

// resource has the status fields that all kinds share.
type resource struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name       string `json:"name"`
		Generation int64  `json:"generation"`
	} `json:"metadata"`
	Status struct {
		ObservedGeneration int64 `json:"observedGeneration"`
		Backends           []struct {
			Name  string `json:"name"`
			Ready bool   `json:"ready"`
		} `json:"backends"`
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

// ready reports whether a resource is Ready at its current generation, and its condition's message otherwise.
func (r *resource) ready() (bool, string) {
	status, message := r.condition("Ready")
	return status == "True" && r.Status.ObservedGeneration == r.Metadata.Generation, message
}

// ours reports whether a resource is of the operator's kinds, all of which have a condition Ready.
func (r *resource) ours() bool {
	group, _, _ := strings.Cut(r.APIVersion, "/")
	return strings.HasSuffix(group, ".itechsmart.dev")
}

// get reads the quickstart's resources of the operator's kinds.
func (q *quickstartRun) get(ctx context.Context) ([]resource, error) {
	out, err := q.up.kubectl(ctx, "get", "-k", samples, "-o", "json")
	if err != nil {
		return nil, err
	}
	return parseResources(out)
}

func parseResources(list []byte) ([]resource, error) {
	var all struct {
		Items []resource `json:"items"`
	}
	if err := json.Unmarshal(list, &all); err != nil {
		return nil, fmt.Errorf("read the resources of %s: %w", samples, err)
	}
	found := slices.DeleteFunc(all.Items, func(r resource) bool { return !r.ours() })
	if len(found) == 0 {
		return nil, fmt.Errorf("%s has no resource of the operator's kinds", samples)
	}
	return found, nil
}

// await waits until the wanted resources are Ready at their current generation; describe returns their progress.
func (q *quickstartRun) await(ctx context.Context, patience time.Duration, wanted func(*resource) bool, describe func([]resource) string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	last := ""
	for {
		list, err := q.get(ctx)
		switch {
		case err == nil:
			list = slices.DeleteFunc(list, func(r resource) bool { return !wanted(&r) })
			if last = unready(list); last == "" {
				q.up.show(describe(list))
				return nil
			}
			q.up.show(describe(list) + "  " + last)
		case ctx.Err() == nil:
			last = err.Error()
			q.up.show(last)
		}
		if err := pause(ctx, pollEvery); err != nil {
			return fmt.Errorf("not Ready after %s: %s", patience, last)
		}
	}
}

// unready returns the message of the first resource that is not Ready, or nothing.
func unready(list []resource) string {
	for _, r := range list {
		if ready, message := r.ready(); !ready {
			return r.Kind + " " + r.Metadata.Name + " " + message
		}
	}
	return ""
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
	return q.await(ctx, 8*time.Minute, func(r *resource) bool { return r.Kind == "Platform" }, describeBackends)
}

func describeBackends(platforms []resource) string {
	var parts []string
	for _, platform := range platforms {
		for _, backend := range platform.Status.Backends {
			parts = append(parts, mark(backend.Name, backend.Ready))
		}
	}
	return strings.Join(parts, "  ")
}

// awaitAll waits for every resource of the quickstart, whatever its kind.
func (q *quickstartRun) awaitAll(ctx context.Context) error {
	return q.await(ctx, 5*time.Minute, (*resource).ours, describeAll)
}

func describeAll(list []resource) string {
	var parts []string
	for _, r := range list {
		ready, _ := r.ready()
		parts = append(parts, mark(r.Kind+" "+r.Metadata.Name, ready))
	}
	return strings.Join(parts, "  ")
}

func mark(name string, ready bool) string {
	if ready {
		return name + " ✓"
	}
	return name + " …"
}

// stream shows the rows arriving until all are there.
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
			q.up.show(err.Error())
		case rows >= flightsTotal:
			took := time.Since(started)
			text := fmt.Sprintf("%d rows", rows)
			if first >= 0 && rows > first {
				text += fmt.Sprintf(", %.0f/s", float64(rows-first)/took.Seconds())
			}
			q.up.show(text)
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
			q.up.show(fmt.Sprintf("%s %d of %d rows, %.0f/s", bar(rows), rows, int64(flightsTotal), rate))
		}
		if time.Since(grew) > patience {
			return errors.Join(fmt.Errorf("no new row for %s; the table has %d of %d", patience, before, int64(flightsTotal)), err)
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
