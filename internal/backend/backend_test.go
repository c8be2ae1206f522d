// SPDX-License-Identifier: Apache-2.0

package backend_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/itechsmart/operator/internal/backend"
)

func TestError(t *testing.T) {
	b := backend.Binding{
		Password: "p@ss/word", URI: "amqp://user:other@host/",
		Extra: map[string]string{"tls.key": "private", "secret-token": "token"},
	}
	cause := fmt.Errorf("dial amqp://u:%s@h as p@ss/word with p%%40ss%%2Fword, other, private and token: %w", "p%40ss%2Fword", syscall.ECONNREFUSED)
	err := b.Error("op", nil, cause)
	if !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	for _, secret := range []string{"p@ss/word", "p%40ss%2Fword", "other", "private", "token"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%q tells %q", err, secret)
		}
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		t.Error("the cause can be unwrapped")
	}
	if b.Error("op", backend.ErrAuth, nil) != nil {
		t.Error("no cause must mean no error")
	}
	err = b.Error("ping", nil, context.DeadlineExceeded)
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, backend.ErrUnavailable) {
		t.Errorf("got %v, want both kinds", err)
	}
	if twice := b.Error("outer", nil, b.Error("inner", backend.ErrExists, io.EOF)); strings.Count(twice.Error(), "already exists") != 1 {
		t.Errorf("%q names its kind more than once", twice)
	}
}

func TestKindOf(t *testing.T) {
	for _, test := range []struct{ err, want error }{
		{fmt.Errorf("x: %w", backend.ErrInvalid), backend.ErrInvalid},
		{io.ErrUnexpectedEOF, backend.ErrUnavailable},
		{&net.DNSError{}, backend.ErrUnavailable},
		{os.ErrDeadlineExceeded, backend.ErrUnavailable},
		{errors.New("of a protocol"), nil},
		{nil, nil},
	} {
		if got := backend.KindOf(test.err); got != test.want {
			t.Errorf("%v: got %v, want %v", test.err, got, test.want)
		}
	}
}

func TestTLSConfig(t *testing.T) {
	for _, test := range []struct {
		name, names string
		binding     backend.Binding
	}{
		{"value", "tls", backend.Binding{TLS: "on"}},
		{"ca", "ca.crt", backend.Binding{TLS: "true", CA: "no pem"}},
		{"pair", "tls.key", backend.Binding{TLS: "true", Extra: map[string]string{"tls.crt": "x"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := test.binding.TLSConfig()
			if !errors.Is(err, backend.ErrInvalid) || !strings.Contains(err.Error(), test.names) {
				t.Errorf("got %v, want ErrInvalid naming %s", err, test.names)
			}
		})
	}
	for _, off := range []string{"", "false"} {
		if config, err := (backend.Binding{TLS: off}).TLSConfig(); config != nil || err != nil {
			t.Errorf("tls %q gave %v, %v", off, config, err)
		}
	}
}

func TestBinding(t *testing.T) {
	b := backend.ParseBinding(map[string][]byte{"type": []byte("kafka\n"), "bootstrap-servers": []byte("a:1, b:2,"), "other": []byte("x")})
	if got := b.Brokers(); len(got) != 2 || got[1] != "b:2" || b.Type != "kafka" || b.Extra["other"] != "x" {
		t.Errorf("got %#v, brokers %v", b.Data(), got)
	}
	if again := backend.ParseBinding(b.Data()); again.BootstrapServers != b.BootstrapServers || again.Extra["other"] != "x" {
		t.Errorf("got %v", again.Data())
	}
	if err := b.Require("type", "password"); !errors.Is(err, backend.ErrInvalid) || !strings.Contains(err.Error(), "password") {
		t.Errorf("got %v, want ErrInvalid naming password", err)
	}
	b.Password = "hidden"
	if text := fmt.Sprintf("%v %+v %#v", b, b, b); strings.Contains(text, "hidden") {
		t.Errorf("%s contains the password", text)
	}
}

func TestFaults(t *testing.T) {
	var f backend.Faults
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			f.Fail("A", backend.ErrAuth)
			if err := f.Enter(context.Background(), "A"); !errors.Is(err, backend.ErrAuth) {
				t.Errorf("got %v, want ErrAuth", err)
			}
		})
	}
	group.Wait()
	f.Fail("A", nil)
	if err := f.Enter(context.Background(), "A"); err != nil {
		t.Error(err)
	}
	if f.Calls("A") != 51 || f.Calls("B") != 0 || f.Total() != 51 {
		t.Errorf("counted %d, %d and %d", f.Calls("A"), f.Calls("B"), f.Total())
	}
}

// FuzzBinding checks that any Secret parses as a binding that converts back unchanged, reveals no password, and
// never causes a panic.
func FuzzBinding(f *testing.F) {
	for _, seed := range [][4]string{
		{"type", "kafka\n", "bootstrap-servers", "a:1, b:2,"}, {"password", "p", "uri", "postgres://u:p@h/d"}, {"tls", "true", "ca.crt", "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----"},
		{"tls", "maybe", "port", "x"}, {"", "", "other", "\xff\x00"}, {"host", "::1", "port", "5432"}, {"bootstrap-servers", ",,,", "sasl-mechanism", "none"},
	} {
		f.Add(seed[0], []byte(seed[1]), seed[2], []byte(seed[3]))
	}
	f.Fuzz(func(t *testing.T, key1 string, value1 []byte, key2 string, value2 []byte) {
		b := backend.ParseBinding(map[string][]byte{key1: value1, key2: value2})
		data := b.Data()
		again := backend.ParseBinding(data)
		if !maps.Equal(again.Data(), data) {
			t.Fatalf("%q becomes %q", data, again.Data())
		}
		_, _, _ = b.Address(), b.Brokers(), b.Require("type", "host", "password")
		if config, err := b.TLSConfig(); err == nil && (config != nil) != (b.TLS == "true") {
			t.Fatalf("tls %q gives %v", b.TLS, config)
		}
		if b.Password = "hidden-by-all-means"; strings.Contains(fmt.Sprintf("%v %+v %#v", b, b, b), b.Password) || strings.Contains(b.Redact("x "+b.Password), b.Password) {
			t.Fatal("the password is revealed")
		}
	})
}
