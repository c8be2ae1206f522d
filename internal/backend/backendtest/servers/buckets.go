// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"context"
	"crypto/rand"
	"maps"
	"net"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/minio/minio-go/v7"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/s3"
)

// ObjectProtocol starts an object store within the test's process, which accepts any credentials. Requests are
// real HTTP.
func ObjectProtocol(t testing.TB) backend.Binding {
	t.Helper()
	server := httptest.NewServer(gofakes3.New(s3mem.New()).Server())
	t.Cleanup(server.Close)
	b := binding("s3", 0, rand.Text())
	var err error
	if b.Host, b.Port, err = net.SplitHostPort(server.Listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	return b
}

// Bucket creates a bucket in the store of a binding, and returns the binding with its name.
func Bucket(t testing.TB, b backend.Binding) backend.Binding {
	t.Helper()
	b.Extra = maps.Clone(b.Extra)
	if b.Extra == nil {
		b.Extra = map[string]string{}
	}
	b.Extra[s3.KeyBucket] = "test-" + strings.ToLower(rand.Text()[:10])
	if err := makeBucket(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	return b
}

// makeBucket creates the binding's bucket, unless it exists.
func makeBucket(ctx context.Context, b backend.Binding) error {
	client, err := s3.Client(b)
	if err != nil {
		return err
	}
	err = client.MakeBucket(ctx, b.Extra[s3.KeyBucket], minio.MakeBucketOptions{})
	if code := minio.ToErrorResponse(err).Code; err != nil && code != minio.BucketAlreadyOwnedByYou && code != minio.BucketAlreadyExists {
		return s3.Error(b, "make bucket", err)
	}
	return nil
}
