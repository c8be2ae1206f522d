// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"testing"

	"github.com/itechsmart/operator/workloads/dataflow/benchmarks"
)

// The data plane's figures; each is described at the function that it calls.

func BenchmarkEngineGenerateDrop(b *testing.B)      { benchmarks.EngineGenerateDrop(b) }
func BenchmarkEngineFilter(b *testing.B)            { benchmarks.EngineFilter(b) }
func BenchmarkEngineDecodeMapEncode(b *testing.B)   { benchmarks.EngineDecodeMapEncode(b) }
func BenchmarkEngineMap(b *testing.B)               { benchmarks.EngineMap(b) }
func BenchmarkEngineStalledSinkMemory(b *testing.B) { benchmarks.EngineStalledSinkMemory(b) }
func BenchmarkKafkaToKafka(b *testing.B)            { benchmarks.KafkaToKafka(b) }
func BenchmarkKafkaToClickHouse(b *testing.B)       { benchmarks.KafkaToClickHouse(b) }
