// SPDX-License-Identifier: Apache-2.0

package s3_test

import (
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/internal/backend/backendtest"
	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/internal/backend/s3"
)

func TestMain(m *testing.M) { servers.Main(m) }

func open(t testing.TB, b backend.Binding) s3.Store {
	t.Helper()
	bucket, err := s3.Open(b)
	if err != nil {
		t.Fatal(err)
	}
	return bucket
}

// with returns the binding with an additional key.
func with(b backend.Binding, key, value string) backend.Binding {
	extra := map[string]string{}
	maps.Copy(extra, b.Extra)
	extra[key] = value
	b.Extra = extra
	return b
}

func TestFake(t *testing.T) {
	backendtest.S3(t, func(testing.TB) s3.Store { return s3.NewFake() })
}

func TestProtocol(t *testing.T) {
	b := servers.ObjectProtocol(t)
	backendtest.S3(t, func(t testing.TB) s3.Store { return open(t, servers.Bucket(t, b)) })
}

func TestReal(t *testing.T) {
	b := servers.MinIO(t)
	t.Run("bucket", func(t *testing.T) {
		backendtest.S3(t, func(t testing.TB) s3.Store { return open(t, servers.Bucket(t, b)) })
	})
	t.Run("prefix", func(t *testing.T) {
		backendtest.S3(t, func(t testing.TB) s3.Store { return open(t, with(b, s3.KeyPrefix, backendtest.Name("deep/in"))) })
	})
}

// Two prefixes of a bucket are independent, and the keys are below their prefix.
func TestPrefix(t *testing.T) {
	b := servers.Bucket(t, servers.MinIO(t))
	whole, one, other := open(t, b), open(t, with(b, s3.KeyPrefix, "one/")), open(t, with(b, s3.KeyPrefix, "on"))
	ctx := backendtest.Context(t)
	if err := errors.Join(one.Put(ctx, "f/key", []byte("1")), other.Put(ctx, "f/key", []byte("2"))); err != nil {
		t.Fatal(err)
	}
	if data, err := whole.Get(ctx, "one/f/key", 10); err != nil || string(data) != "1" {
		t.Errorf("%q, %v", data, err)
	}
	if err := other.DeleteFolder(ctx, "f"); err != nil {
		t.Fatal(err)
	}
	if data, err := one.Get(ctx, "f/key", 10); err != nil || string(data) != "1" {
		t.Errorf("%q, %v", data, err)
	}
	if names, _, err := whole.Folders(ctx, "", 10); err != nil || len(names) != 1 || names[0] != "one" {
		t.Errorf("%v, %v", names, err)
	}
}

func TestRefused(t *testing.T) {
	good := servers.MinIO(t)
	for _, test := range []struct {
		name string
		b    backend.Binding
		want error
	}{
		{"wrong secret key", with(good, s3.KeySecretKey, "wr0ng-"+good.Password), backend.ErrAuth},
		{"unknown access key", with(good, s3.KeyAccessKey, "nobody"), backend.ErrAuth},
		{"no credentials", func() backend.Binding { b := good; b.Username, b.Password = "", ""; return b }(), backend.ErrAuth},
		{"no such bucket", with(good, s3.KeyBucket, "no-such-bucket"), backend.ErrNotFound},
		{"connection refused", func() backend.Binding { b := good; b.Port = "1"; return b }(), backend.ErrUnavailable},
		{"tls on a plain port", func() backend.Binding { b := good; b.TLS = "true"; return b }(), backend.ErrUnavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			bucket := open(t, test.b)
			ctx := backendtest.Context(t)
			_, err := bucket.Ping(ctx)
			_, _, listed := bucket.Folders(ctx, "", 1)
			_, got := bucket.Get(ctx, "a/b", 1)
			for call, err := range map[string]error{
				"Ping": err, "Folders": listed, "Get": got, "Put": bucket.Put(ctx, "a/b", []byte("x")),
				"Delete": bucket.Delete(ctx, "a/b"), "DeleteFolder": bucket.DeleteFolder(ctx, "a"),
			} {
				want := test.want
				if call == "Get" && want == backend.ErrNotFound { // which refers only to the object
					want = backend.ErrUnavailable
				}
				if !errors.Is(err, want) {
					t.Errorf("%s: got %v, want %v", call, err, want)
				}
				if err != nil && strings.Contains(err.Error(), good.Password) {
					t.Errorf("%s: the error contains the password", call)
				}
			}
		})
	}
}

func TestSilent(t *testing.T) {
	backendtest.Silent(t, with(backend.Binding{Username: "u", Password: "p"}, s3.KeyBucket, "bucket"), s3.Open)
}

func TestEncrypted(t *testing.T) {
	b := servers.MinIO(t)
	backendtest.Encrypted(t, servers.TLS(t, b), servers.TLS(t, b).CA, s3.Open)
}

func TestOutage(t *testing.T) {
	server := servers.StartMinIO(t)
	bucket := open(t, server.Binding)
	ctx := backendtest.Context(t)
	if err := bucket.Put(ctx, "a/b", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	if _, err := bucket.Get(ctx, "a/b", 10); !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	if err := bucket.Put(ctx, "a/c", nil); !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	server.Restart(t)
	if data, err := bucket.Get(backendtest.Context(t), "a/b", 10); err != nil || string(data) != "kept" {
		t.Errorf("%q, %v", data, err)
	}
}

// A body that ends early is an error, and one without a length is limited too.
func TestBrokenBody(t *testing.T) {
	announced := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
		if announced != "" {
			w.Header().Set("Content-Length", announced)
		}
		_, _ = w.Write([]byte("0123456789"))
		_ = http.NewResponseController(w).Flush()
	}))
	defer server.Close()
	b := with(backend.Binding{URI: server.URL, Username: "u", Password: "p"}, s3.KeyBucket, "bucket")
	bucket := open(t, with(b, s3.KeyRegion, "us-east-1"))
	for _, test := range []struct {
		announced string
		limit     int64
		want      error
	}{{"", 10, nil}, {"", 9, backend.ErrInvalid}, {"10", 10, nil}, {"10", 9, backend.ErrInvalid}, {"11", 20, backend.ErrUnavailable}} {
		announced = test.announced
		data, err := bucket.Get(backendtest.Context(t), "a/b", test.limit)
		if !errors.Is(err, test.want) || (err == nil) != (string(data) == "0123456789") {
			t.Errorf("%q bytes announced, at most %d: %q, %v; want %v", test.announced, test.limit, data, err, test.want)
		}
	}
}

func TestEndpoint(t *testing.T) {
	for _, test := range []struct {
		b       backend.Binding
		address string // empty: refused
		tls     string
	}{
		{backend.Binding{Host: "h", Port: "9000"}, "h:9000", ""},
		{backend.Binding{Host: "h"}, "h:80", ""},
		{backend.Binding{Host: "h", TLS: "true"}, "h:443", "true"},
		{backend.Binding{URI: "https://s3.example.com"}, "s3.example.com:443", "true"},
		{backend.Binding{URI: "https://s3.example.com:9000/", Host: "other", Port: "1"}, "s3.example.com:9000", "true"},
		{backend.Binding{URI: "http://[2001:db8::1]", TLS: "true"}, "[2001:db8::1]:80", ""},
		{backend.Binding{}, "", ""},
		{backend.Binding{URI: "s3.example.com"}, "", ""},
		{backend.Binding{URI: "s3://bucket"}, "", ""},
		{backend.Binding{URI: "https://user:pa55@s3.example.com"}, "", ""},
		{backend.Binding{URI: "https://s3.example.com/bucket"}, "", ""},
		{backend.Binding{URI: "https://s3.example.com?x=pa55"}, "", ""},
	} {
		b, err := s3.Endpoint(test.b)
		if test.address == "" {
			if !errors.Is(err, backend.ErrInvalid) || strings.Contains(err.Error(), "pa55") {
				t.Errorf("%q: got %v, want ErrInvalid without the password", test.b.URI, err)
			}
			continue
		}
		if err != nil || b.Address() != test.address || b.TLS != test.tls {
			t.Errorf("%q: %s, tls %q, %v; want %s, tls %q", test.b.URI, b.Address(), b.TLS, err, test.address, test.tls)
		}
	}
}

func TestOpen(t *testing.T) {
	good := with(backend.Binding{Host: "h", Port: "1", Username: "u", Password: "p"}, s3.KeyBucket, "bucket")
	if _, err := s3.Open(good); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		key string
		b   backend.Binding
	}{
		{"host", with(backend.Binding{}, s3.KeyBucket, "bucket")},
		{"bucket", backend.Binding{Host: "h", Port: "1"}},
		{"bucket", with(good, s3.KeyBucket, "a/b")},
		{"prefix", with(good, s3.KeyPrefix, "/a")},
		{"prefix", with(good, s3.KeyPrefix, "/")},
		{"prefix", with(good, s3.KeyPrefix, "a/../b")},
		{"uri", func() backend.Binding { b := good; b.URI = "ftp://h"; return b }()},
		{"tls", func() backend.Binding { b := good; b.TLS = "yes"; return b }()},
	} {
		if _, err := s3.Open(test.b); !errors.Is(err, backend.ErrInvalid) || !strings.Contains(err.Error(), test.key) {
			t.Errorf("got %v, want ErrInvalid naming %s", err, test.key)
		}
	}
}
