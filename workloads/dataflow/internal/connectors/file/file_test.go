// SPDX-License-Identifier: Apache-2.0

package file

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/internal/codec"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector/connectortest"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

// volume creates a directory of volumes with one volume in it.
func volume(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(rootOf, "v")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

var rootOf string

func TestMain(m *testing.M) {
	var err error
	if rootOf, err = os.MkdirTemp("", "files"); err != nil {
		panic(err)
	}
	_ = os.Setenv(RootVariable, rootOf)
	code := m.Run()
	_ = os.RemoveAll(rootOf)
	os.Exit(code)
}

func newCodec(t testing.TB, format, options string) codec.Codec {
	t.Helper()
	c, err := codec.New(format, json.RawMessage(options))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var formats = []struct{ format, options string }{
	{"json", ""}, {"csv", `{"infer":true}`}, {"parquet", `{"rowGroupRows":1000}`},
}

// encode returns a file of records from to from+n-1.
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
	for i, f := range formats {
		for _, watch := range []bool{false, true} {
			for _, order := range []string{"name", "modified"} {
				if i > 0 && (order != "name" || watch) {
					continue // the format makes no difference there
				}
				t.Run(fmt.Sprintf("%s/watch=%v/%s", f.format, watch, order), func(t *testing.T) {
					connectortest.Source(t, func(t *testing.T) connectortest.SourceHarness {
						return sourceHarness(t, newCodec(t, f.format, f.options), watch, order)
					})
				})
			}
		}
	}
}

func sourceHarness(t *testing.T, c codec.Codec, watch bool, order string) connectortest.SourceHarness {
	t.Helper()
	dir := volume(t)
	spec := Source()
	env := connectortest.NewEnv(t, spec, backend.Binding{})
	env.Codec = c
	place := func(t testing.TB, name string, data []byte) {
		t.Helper()
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		if err := put(root, name, data); err != nil {
			t.Fatal(err)
		}
	}
	h := connectortest.SourceHarness{
		Common: connectortest.Common{
			Spec: spec, Env: env,
			Config: map[string]any{"directory": dir, "watch": watch, "interval": "20ms", "order": order, "pattern": "**/*" + c.Extension()},
			BadConfigs: map[string]string{
				`{}`: "directory", `{"directory":"../x"}`: "directory", `{"directory":"/etc"}`: "directory",
				`{"directory":"x","pattern":"[a"}`: "pattern", `{"directory":"x","interval":"soon"}`: "interval",
			},
			UnreachableConfig: map[string]any{"directory": "nowhere"},
		},
		Bounded: !watch,
		Seed: func(t testing.TB, from, n int) {
			t.Helper()
			for at := from; at < from+n; at += 25 {
				place(t, fmt.Sprintf("sub-%02d/part-%06d%s", at/50, at, c.Extension()), encode(t, c, at, min(25, from+n-at)))
			}
		},
	}
	h.SeedBad = func(t testing.TB) { t.Helper(); place(t, "sub-00/part-000002"+c.Extension(), []byte("{\"n\":1,\"x\n")) }
	if order == "modified" {
		h.SeedBad = func(t testing.TB) { t.Helper(); place(t, "a"+c.Extension(), []byte("{\"n\":1,\"x\n")) }
	}
	if c.Extension() == ".csv" {
		h.SeedBad = func(t testing.TB) {
			t.Helper()
			place(t, "sub-00/part-000002"+c.Extension(), []byte("n,text\n1\n"))
		}
	}
	return h
}

func TestSinkConformance(t *testing.T) {
	for i, f := range formats {
		for _, compression := range []string{"none", "gzip", "zstd"} {
			if i > 0 && compression != "none" {
				continue // compression does not see the format
			}
			t.Run(f.format+"/"+compression, func(t *testing.T) {
				connectortest.Sink(t, func(t *testing.T) connectortest.SinkHarness {
					return sinkHarness(t, newCodec(t, f.format, f.options), compression)
				})
			})
		}
	}
}

func sinkHarness(t *testing.T, c codec.Codec, compression string) connectortest.SinkHarness {
	t.Helper()
	dir := volume(t)
	spec := Sink()
	env := connectortest.NewEnv(t, spec, backend.Binding{})
	env.Codec = c
	return connectortest.SinkHarness{
		Common: connectortest.Common{
			Spec: spec, Env: env,
			Config: map[string]any{"directory": filepath.Join(dir, "new"), "prefix": "events/{date}/{hour}-", "compression": compression},
			BadConfigs: map[string]string{
				`{}`: "directory", `{"directory":"../x"}`: "directory", `{"directory":"x","prefix":"../y"}`: "prefix",
				`{"directory":"x","prefix":"a/../../y"}`: "prefix", `{"directory":"x","prefix":"/y"}`: "prefix", `{"directory":"x","compression":"rar"}`: "compression",
			},
		},
		Stored:     func(t testing.TB) [][]byte { t.Helper(); return readAll(t, filepath.Join(dir, "new"), c) },
		Refused:    []byte(`{"n":CONFIDENTIAL`),
		Ordered:    true,
		Idempotent: true,
	}
}

// readAll reads a directory with the codec, in the order of names, without the connector.
func readAll(t testing.TB, dir string, c codec.Codec) [][]byte {
	t.Helper()
	var out [][]byte
	err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		switch filepath.Ext(name) {
		case ".gz":
			r, err := gzip.NewReader(bytes.NewReader(data))
			if err != nil {
				return err
			}
			var plain bytes.Buffer
			if _, err := plain.ReadFrom(r); err != nil {
				return err
			}
			data = plain.Bytes()
		case ".zst":
			r, err := zstd.NewReader(nil)
			if err != nil {
				return err
			}
			if data, err = r.DecodeAll(data, nil); err != nil {
				return err
			}
		}
		if strings.HasPrefix(filepath.Base(name), ".") {
			t.Errorf("file %s is left over", name)
		}
		yield := func(r record.Record) error { data, err := r.Bytes(); out = append(out, data); return err }
		bad := func(_ []byte, err error) error { return err }
		if random, ok := c.(codec.FileCodec); ok {
			return random.ScanAt(t.Context(), bytes.NewReader(data), int64(len(data)), 0, 1<<20, yield, bad)
		}
		return c.Scan(t.Context(), bytes.NewReader(data), 1<<20, yield, bad)
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A symbolic link must not lead out of the volumes.
func TestSymbolicLinksCannotEscape(t *testing.T) {
	dir := volume(t)
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret.jsonl"), []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"dir": outside, "file.jsonl": filepath.Join(outside, "secret.jsonl")} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := below("directory", filepath.Join(dir, "dir"), true); err == nil {
		t.Error("a linked directory outside of the volumes can be opened")
	}
	cfg := SourceConfig{Directory: dir}
	env := connectortest.NewEnv(t, Source(), backend.Binding{})
	source, err := openSource(t.Context(), cfg, env)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close(t.Context()) //nolint:errcheck // a test
	if batch, err := source.Read(t.Context()); !errors.Is(err, connector.ErrFinished) {
		t.Errorf("read %v, %v through a symbolic link", batch, err)
	}
}

// The extension selects the decompression, and a damaged file is a failed record, not a stop.
func TestCompressedFiles(t *testing.T) {
	dir := volume(t)
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(encode(t, newCodec(t, "json", ""), 0, 100)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(packed.Bytes())
	damaged[len(damaged)/2] ^= 0xff
	for name, data := range map[string][]byte{"1.jsonl.gz": packed.Bytes(), "2.jsonl.gz": damaged, "3.jsonl.gz": packed.Bytes()} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	source, err := openSource(t.Context(), SourceConfig{Directory: dir}, connectortest.NewEnv(t, Source(), backend.Binding{}))
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close(t.Context()) //nolint:errcheck // a test
	whole, failed := 0, 0
	for {
		batch, err := source.Read(t.Context())
		if errors.Is(err, connector.ErrFinished) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for i := range batch.Records {
			if !strings.HasPrefix(batch.Records[i].Origin, "2.") {
				whole++
			}
		}
		failed += len(batch.Failed)
	}
	if whole != 200 || failed == 0 {
		t.Errorf("%d records of the whole files and %d failures, want 200 and at least one", whole, failed)
	}
}
