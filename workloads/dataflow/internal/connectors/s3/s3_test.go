// SPDX-License-Identifier: Apache-2.0

package s3

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"testing"

	"github.com/minio/minio-go/v7"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/internal/backend/s3"
	"github.com/itechsmart/operator/workloads/dataflow/internal/codec"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector/connectortest"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

func TestMain(m *testing.M) { servers.Main(m) }

func newBucket(t testing.TB, b backend.Binding) (*store, string) {
	t.Helper()
	b = servers.Bucket(t, b)
	client, err := s3.Client(b)
	if err != nil {
		t.Fatal(err)
	}
	name := b.Extra[s3.KeyBucket]
	return &store{client: client, bucket: name, binding: b}, name
}

func newCodec(t testing.TB, format string) codec.Codec {
	t.Helper()
	c, err := codec.New(format, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func encode(t testing.TB, c codec.Codec, from, n int) []byte {
	t.Helper()
	var out bytes.Buffer
	w := c.Writer(&out)
	for i := from; i < from+n; i++ {
		r := record.New(connectortest.Value(i))
		if err := w.Write(&r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestSourceConformance(t *testing.T) {
	t.Run("protocol", func(t *testing.T) { sourceConformance(t, servers.ObjectProtocol(t)) })
	t.Run("minio", func(t *testing.T) { sourceConformance(t, servers.MinIO(t)) })
}

func sourceConformance(t *testing.T, b backend.Binding) {
	t.Helper()
	for _, test := range []struct {
		format string
		watch  bool
	}{{"json", false}, {"json", true}, {"parquet", false}} {
		t.Run(fmt.Sprintf("%s/watch=%v", test.format, test.watch), func(t *testing.T) {
			connectortest.Source(t, func(t *testing.T) connectortest.SourceHarness {
				s, name := newBucket(t, b)
				spec, c := Source(), newCodec(t, test.format)
				env := connectortest.NewEnv(t, spec, b)
				env.Codec = c
				unreachable := b
				unreachable.Port = "1"
				put := func(t testing.TB, key string, data []byte) {
					t.Helper()
					if err := s.Put(t.Context(), key, data); err != nil {
						t.Fatal(err)
					}
				}
				put(t, "other/file"+c.Extension(), []byte("not for us"))
				return connectortest.SourceHarness{
					Common: connectortest.Common{
						Spec: spec, Env: env, Unreachable: &unreachable,
						Config:     map[string]any{"bucket": name, "prefix": "in/", "watch": test.watch, "interval": "20ms"},
						BadConfigs: map[string]string{`{}`: "bucket", `{"bucket":"a/b"}`: "bucket", `{"bucket":"abc","prefix":"/x"}`: "prefix"},
					},
					Bounded: !test.watch,
					Seed: func(t testing.TB, from, n int) {
						t.Helper()
						for at := from; at < from+n; at += 25 {
							put(t, fmt.Sprintf("in/%02d/%06d%s", at/50, at, c.Extension()), encode(t, c, at, min(25, from+n-at)))
						}
					},
					SeedBad: func(t testing.TB) { t.Helper(); put(t, "in/00/000002"+c.Extension(), []byte("{\"n\":1,\"x\n")) },
				}
			})
		})
	}
}

func TestSinkConformance(t *testing.T) {
	t.Run("protocol", func(t *testing.T) { sinkConformance(t, servers.ObjectProtocol(t)) })
	t.Run("minio", func(t *testing.T) { sinkConformance(t, servers.MinIO(t)) })
}

func sinkConformance(t *testing.T, b backend.Binding) {
	t.Helper()
	for _, format := range []string{"json", "parquet"} {
		t.Run(format, func(t *testing.T) {
			connectortest.Sink(t, func(t *testing.T) connectortest.SinkHarness {
				s, name := newBucket(t, b)
				spec, c := Sink(), newCodec(t, format)
				env := connectortest.NewEnv(t, spec, b)
				env.Codec = c
				unreachable := b
				unreachable.Port = "1"
				return connectortest.SinkHarness{
					Common: connectortest.Common{
						Spec: spec, Env: env, Unreachable: &unreachable,
						Config:     map[string]any{"bucket": name, "prefix": "out/{date}/"},
						BadConfigs: map[string]string{`{}`: "bucket", `{"bucket":"abc","prefix":"../x"}`: "prefix"},
					},
					Stored:     func(t testing.TB) [][]byte { t.Helper(); return stored(t, s, c) },
					Refused:    []byte(`{"n":CONFIDENTIAL`),
					Ordered:    true,
					Idempotent: true,
				}
			})
		})
	}
}

func stored(t testing.TB, s *store, c codec.Codec) [][]byte {
	t.Helper()
	var out [][]byte
	for object := range s.client.ListObjects(t.Context(), s.bucket, minio.ListObjectsOptions{Recursive: true}) {
		if object.Err != nil {
			t.Fatal(object.Err)
		}
		content, err := s.client.GetObject(t.Context(), s.bucket, object.Key, minio.GetObjectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(content)
		if err != nil {
			t.Fatal(err)
		}
		yield := func(r record.Record) error { data, err := r.Bytes(); out = append(out, data); return err }
		bad := func(_ []byte, err error) error { return err }
		if random, ok := c.(codec.FileCodec); ok {
			err = random.ScanAt(t.Context(), bytes.NewReader(data), int64(len(data)), 0, 1<<20, yield, bad)
		} else {
			err = c.Scan(t.Context(), bytes.NewReader(data), 1<<20, yield, bad)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// More keys than fit a page, most of them not wanted.
func TestManyKeys(t *testing.T) {
	b := servers.ObjectProtocol(t)
	s, name := newBucket(t, b)
	for i := range 2500 {
		ending := ".tmp"
		if i%500 == 499 {
			ending = ".jsonl"
		}
		if err := s.Put(t.Context(), fmt.Sprintf("k%05d%s", i, ending), []byte(fmt.Sprintf("{\"n\":%d}\n", i))); err != nil {
			t.Fatal(err)
		}
	}
	cfg := SourceConfig{}
	if err := json.Unmarshal(fmt.Appendf(nil, `{"bucket":%q,"pattern":"*.jsonl"}`, name), &cfg); err != nil {
		t.Fatal(err)
	}
	source, err := openSource(t.Context(), cfg, connectortest.NewEnv(t, Source(), b))
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close(t.Context()) //nolint:errcheck // a test
	n := 0
	for {
		batch, err := source.Read(t.Context())
		if err != nil {
			break
		}
		n += batch.Len()
	}
	if n != 5 {
		t.Errorf("%d records, want 5", n)
	}
}
