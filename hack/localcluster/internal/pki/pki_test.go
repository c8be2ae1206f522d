// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"testing"

	"sigs.k8s.io/yaml"
)

func testLeaves() []Leaf {
	return []Leaf{
		{Name: "server", Authority: "ca", CommonName: "server", DNSNames: []string{"kubernetes"}, IPs: []net.IP{net.IPv4(10, 96, 0, 1)}},
		{Name: "admin", Authority: "ca", CommonName: "admin", Organization: []string{"system:masters"}, Kubeconfig: "https://127.0.0.1:6443"},
		{Name: "other", Authority: "ca2", CommonName: "other"},
	}
}

func load(t *testing.T, file string) *x509.Certificate {
	t.Helper()
	der, err := readPEM(file)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestEnsure(t *testing.T) {
	dir := t.TempDir()
	if err := Ensure(dir, []string{"ca", "ca2"}, testLeaves(), "sa"); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(load(t, filepath.Join(dir, "ca.crt")))
	server, admin, other := load(t, filepath.Join(dir, "server.crt")), load(t, filepath.Join(dir, "admin.crt")), load(t, filepath.Join(dir, "other.crt"))
	tests := []struct {
		name  string
		cert  *x509.Certificate
		opts  x509.VerifyOptions
		fails bool
	}{
		{name: "server by name", cert: server, opts: x509.VerifyOptions{DNSName: "kubernetes"}},
		{name: "server by address", cert: server, opts: x509.VerifyOptions{DNSName: "10.96.0.1"}},
		{name: "server by another name", cert: server, opts: x509.VerifyOptions{DNSName: "elsewhere"}, fails: true},
		{name: "server as a client", cert: server, opts: x509.VerifyOptions{KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, fails: true},
		{name: "client", cert: admin, opts: x509.VerifyOptions{KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}},
		{name: "client of another authority", cert: other, opts: x509.VerifyOptions{KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, fails: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.opts.Roots = pool
			if _, err := tt.cert.Verify(tt.opts); (err != nil) != tt.fails {
				t.Errorf("error %v, want one: %v", err, tt.fails)
			}
		})
	}
	for _, name := range []string{"ca.key", "server.key", "sa.key", "admin.kubeconfig"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	var config map[string]any
	b, err := os.ReadFile(filepath.Join(dir, "admin.kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(b, &config); err != nil || config["current-context"] == nil {
		t.Errorf("kubeconfig: %v, %v", err, config["current-context"])
	}
}

func TestEnsureKeepsWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	if err := Ensure(dir, []string{"ca", "ca2"}, testLeaves(), "sa"); err != nil {
		t.Fatal(err)
	}
	ca, server := load(t, filepath.Join(dir, "ca.crt")), load(t, filepath.Join(dir, "server.crt"))
	if err := os.Remove(filepath.Join(dir, "admin.crt")); err != nil {
		t.Fatal(err)
	}
	if err := Ensure(dir, []string{"ca", "ca2"}, testLeaves(), "sa"); err != nil {
		t.Fatal(err)
	}
	if !load(t, filepath.Join(dir, "ca.crt")).Equal(ca) || !load(t, filepath.Join(dir, "server.crt")).Equal(server) {
		t.Error("existing certificates were issued again")
	}
	if err := load(t, filepath.Join(dir, "admin.crt")).CheckSignatureFrom(ca); err != nil {
		t.Errorf("the missing certificate: %v", err)
	}
}

func TestEnsureUnknownAuthority(t *testing.T) {
	err := Ensure(t.TempDir(), []string{"ca"}, []Leaf{{Name: "x", Authority: "none"}}, "sa")
	if err == nil {
		t.Error("a certificate of an unknown authority was issued")
	}
}
