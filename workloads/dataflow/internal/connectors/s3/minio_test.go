// SPDX-License-Identifier: Apache-2.0

package s3

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connector/connectortest"
)

// Only a real server refuses these.
func TestMinIORefusals(t *testing.T) {
	b := servers.MinIO(t)
	_, name := newBucket(t, b)
	env := connectortest.NewEnv(t, Sink(), b)
	if _, err := openSink(t.Context(), SinkConfig{Bucket: Bucket{"no-such-bucket"}}, env); !errors.Is(err, backend.ErrNotFound) {
		t.Errorf("missing bucket: %v, want backend.ErrNotFound", err)
	}
	env.Binding.Password = "wr0ngpassw0rd"
	if _, err := openSink(t.Context(), SinkConfig{Bucket: Bucket{name}}, env); !errors.Is(err, backend.ErrAuth) || strings.Contains(fmt.Sprint(err), "wr0ngpassw0rd") {
		t.Errorf("wrong key: %v, want backend.ErrAuth", err)
	}
}

// An object above the size of one part is sent in parts and appears only when complete.
func TestMinIOMultipart(t *testing.T) {
	s, _ := newBucket(t, servers.MinIO(t))
	data := bytes.Repeat([]byte("0123456789abcdef"), 40<<20/16)
	if err := s.Put(t.Context(), "big", data); err != nil {
		t.Fatal(err)
	}
	entries, _, err := s.List(t.Context(), "")
	if err != nil || len(entries) != 1 || entries[0].Size != int64(len(data)) {
		t.Fatalf("listed %v, %v", entries, err)
	}
	f, err := s.Open(t.Context(), entries[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	part := make([]byte, 32)
	if _, err := f.ReadAt(part, 20<<20+8); err != nil || string(part) != "89abcdef0123456789abcdef01234567" {
		t.Errorf("read %q, %v", part, err)
	}
}
