// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
)

// tell prints what runs, how to reach it and what to try next.
func (u *up) tell(ctx context.Context, quickstart bool) error {
	fmt.Print("\nTo reach it\n" +
		"  export KUBECONFIG=$PWD/.local/kubeconfig PATH=$PWD/.local/bin:$PATH\n")
	if !quickstart {
		fmt.Print("  kubectl get pods -A\n  make down    stops everything\n")
		return nil
	}
	shown, err := u.kubectl(ctx, "-n", namespace, "get", "itechsmart,pods")
	if err != nil {
		return err
	}
	fmt.Printf("\nWhat runs (kubectl -n %s get itechsmart,pods)\n%s", namespace, indent(string(shown)))
	fmt.Print(`
To try next
  kubectl -n quickstart get pipelines -w                     watch throughput and lag
  kubectl -n quickstart port-forward svc/main-clickhouse 8123 &
  key=$(kubectl -n quickstart get secret main-clickhouse-binding -o jsonpath='{.data.password}' | base64 -d)
  user=$(kubectl -n quickstart get secret main-clickhouse-binding -o jsonpath='{.data.username}' | base64 -d)
  curl -s localhost:8123 -H "X-ClickHouse-User: $user" -H "X-ClickHouse-Key: $key" --data-binary \
    'SELECT origin, count() AS flights, round(avg(delay), 1) AS delay FROM quickstart.flights GROUP BY origin ORDER BY flights DESC LIMIT 5 FORMAT PrettyCompact'
  kubectl -n quickstart patch pipeline flights --type merge -p '{"spec":{"paused":true}}'      pause it; false resumes
  kubectl -n quickstart scale pipeline flights --replicas 2                                    two workers share the partitions
  kubectl explain pipeline.spec                                                                all fields
  ls docs/first-*.md                                                                           a ten-minute guide per product
  ls config/samples                                                                            more Platforms and Pipelines
  make down                                                                                    stop everything
`)
	return nil
}
