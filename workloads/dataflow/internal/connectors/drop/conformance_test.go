// SPDX-License-Identifier: Apache-2.0

package drop_test

import (
	"testing"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector/connectortest"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connectors/drop"
)

func TestSinkConformance(t *testing.T) {
	connectortest.Sink(t, func(t *testing.T) connectortest.SinkHarness {
		spec := drop.Sink()
		return connectortest.SinkHarness{
			Common:   connectortest.Common{Spec: spec, Env: connectortest.NewEnv(t, spec, backend.Binding{})},
			Discards: true,
		}
	})
}
