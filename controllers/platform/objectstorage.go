// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"

	v1alpha1 "github.com/itechsmart/operator/api/platform/v1alpha1"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/s3"
)

// objectStorageBackend is a bucket in a store that runs elsewhere.
var objectStorageBackend = &backendType{
	name: v1alpha1.BackendObjectStorage, title: "Object storage", port: 443,
	pick:     func(b *v1alpha1.Backends) *v1alpha1.Backend { return b.ObjectStorage },
	complete: completeObjectStorage,
	required: []string{s3.KeyBucket},
	uri:      func(b backend.Binding) string { return secure(b, "http", "https") + "://" + b.Address() },
	probe: func(ctx context.Context, b backend.Binding) (string, error) {
		bucket, err := s3.Open(b)
		if err != nil {
			return "", err
		}
		return ping(ctx, bucket)
	},
}

// completeObjectStorage fills host, port and tls from the uri, as the client reads it.
func completeObjectStorage(b *backend.Binding) string {
	if b.URI == "" && b.Host == "" {
		return `it lacks key "uri" (https://host[:port]), or "host" and "port"`
	}
	if access, secret := s3.Credentials(*b); access == "" || secret == "" {
		return `it lacks keys "access-key" and "secret-key", or "username" and "password"`
	}
	whole, err := s3.Endpoint(*b)
	if err != nil {
		return err.Error()
	}
	*b = whole
	return ""
}
