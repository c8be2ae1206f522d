// SPDX-License-Identifier: Apache-2.0

package generate_test

import (
	"encoding/json"
	"testing"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector/connectortest"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connectors/generate"
)

func TestSourceConformance(t *testing.T) {
	connectortest.Source(t, func(t *testing.T) connectortest.SourceHarness {
		spec := generate.Source()
		cfg := map[string]any{"count": 0, "size": 100, "value": map[string]any{"kind": "made up"}}
		return connectortest.SourceHarness{
			Common: connectortest.Common{
				Spec: spec, Env: connectortest.NewEnv(t, spec, backend.Binding{}), Config: cfg,
				BadConfigs: map[string]string{
					`{"count":-1}`: "count", `{"rate":"fast"}`: "rate", `{"sequence":"a b"}`: "sequence", `{"sequence":"n","value":{"n":1}}`: "value",
				},
			},
			// The config decides what is generated; seeding sets the count.
			Seed: func(_ testing.TB, _, n int) { cfg["count"] = n },
			Number: func(value []byte) (int, bool) {
				var r struct {
					Sequence *int
					Kind     string
				}
				err := json.Unmarshal(value, &r)
				return *r.Sequence, err == nil && r.Kind == "made up" && len(value) == 100
			},
			Bounded: true, Stateless: true, NoOrigin: true,
		}
	})
}
