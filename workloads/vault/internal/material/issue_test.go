// SPDX-License-Identifier: Apache-2.0

package material

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	vault "github.com/itechsmart/operator/workloads/vault/client"
)

func issue(t testing.TB, i vault.Issue, ca vault.Value) vault.Value {
	t.Helper()
	v, err := Issue(i, ca, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Check(vault.TypeCertificate, v); err != nil {
		t.Fatalf("the issued value was refused: %v", err)
	}
	return v
}

func leaf(t testing.TB, v vault.Value) *x509.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(v[vault.FieldCertificate], v[vault.FieldPrivateKey])
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// verify verifies as a client that trusts only ca.crt.
func verify(t testing.TB, v vault.Value, name string) error {
	t.Helper()
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	if !roots.AppendCertsFromPEM(v[vault.FieldCA]) {
		t.Fatal("ca.crt is not a certificate")
	}
	pair, err := tls.X509KeyPair(v[vault.FieldCertificate], v[vault.FieldPrivateKey])
	if err != nil {
		t.Fatal(err)
	}
	for _, der := range pair.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		between.AddCert(c)
	}
	_, err = leaf(t, v).Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: name})
	return err
}

func TestIssueSelfSigned(t *testing.T) {
	v := issue(t, vault.Issue{CommonName: "web", DNSNames: []string{"web.example.com", "*.web.example.com"}, IPAddresses: []string{"10.0.0.7", "::1"}, TTL: "48h"}, nil)
	c := leaf(t, v)
	if c.IsCA || c.Subject.CommonName != "web" || !slices.Equal(c.DNSNames, []string{"web.example.com", "*.web.example.com"}) || len(c.IPAddresses) != 2 {
		t.Errorf("%v %v %v", c.Subject, c.DNSNames, c.IPAddresses)
	}
	if key, ok := c.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
		t.Errorf("the key is a %T", c.PublicKey)
	}
	if ttl := time.Until(c.NotAfter); ttl > 48*time.Hour || ttl < 47*time.Hour {
		t.Errorf("valid for %s", ttl)
	}
	if err := verify(t, v, "a.web.example.com"); err != nil {
		t.Error(err)
	}
	if verify(t, v, "other.example.com") == nil {
		t.Error("another name was accepted")
	}
}

func TestIssueByCA(t *testing.T) {
	root := issue(t, vault.Issue{CommonName: "root", CA: true, TTL: "720h"}, nil)
	between := issue(t, vault.Issue{CommonName: "between", CA: true, TTL: "700h"}, root)
	v := issue(t, vault.Issue{DNSNames: []string{"a.example.com"}, TTL: "24h"}, between)
	if err := verify(t, v, "a.example.com"); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(v[vault.FieldCA], root[vault.FieldCertificate]) {
		t.Error("ca.crt is not the root")
	}
	if n := bytes.Count(v[vault.FieldCertificate], []byte("BEGIN CERTIFICATE")); n != 2 {
		t.Errorf("tls.crt holds %d certificates, want the leaf and the intermediate CA", n)
	}
	long := issue(t, vault.Issue{DNSNames: []string{"a.example.com"}, TTL: "8760h"}, root)
	if end := leaf(t, root).NotAfter; !leaf(t, long).NotAfter.Equal(end) {
		t.Errorf("valid until %s, the CA until %s", leaf(t, long).NotAfter, end)
	}
}

func TestIssueRefusesSigners(t *testing.T) {
	plain := issue(t, vault.Issue{DNSNames: []string{"a"}}, nil)
	ca := issue(t, vault.Issue{CommonName: "ca", CA: true, TTL: "1h"}, nil)
	other := issue(t, vault.Issue{CommonName: "ca", CA: true}, nil)
	mixed := vault.Value{vault.FieldCertificate: ca[vault.FieldCertificate], vault.FieldPrivateKey: other[vault.FieldPrivateKey]}
	for name, c := range map[string]struct {
		ca  vault.Value
		now time.Time
	}{
		"no CA": {plain, time.Now()}, "expired": {ca, time.Now().Add(2 * time.Hour)}, "not yet valid": {ca, time.Now().Add(-time.Hour)},
		"another key": {mixed, time.Now()}, "text": {vault.Value{"text": []byte("x")}, time.Now()},
	} {
		var f *FieldError
		if _, err := Issue(vault.Issue{DNSNames: []string{"b"}}, c.ca, c.now); !errors.As(err, &f) || f.Field != "issue.caPath" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestIssueRefuses(t *testing.T) {
	many := make([]string, maxNames+1)
	for i := range many {
		many[i] = "a"
	}
	for _, c := range []struct {
		issue vault.Issue
		field string
	}{
		{vault.Issue{}, "issue.dnsNames"},
		{vault.Issue{CommonName: "a"}, "issue.dnsNames"},
		{vault.Issue{CA: true}, "issue.dnsNames"},
		{vault.Issue{DNSNames: many}, "issue.dnsNames"},
		{vault.Issue{DNSNames: []string{"a", "A"}}, "issue.dnsNames[1]"},
		{vault.Issue{DNSNames: []string{"a..b"}}, "issue.dnsNames[0]"},
		{vault.Issue{DNSNames: []string{"a.*.b"}}, "issue.dnsNames[0]"},
		{vault.Issue{DNSNames: []string{"a\x00.b"}}, "issue.dnsNames[0]"},
		{vault.Issue{DNSNames: []string{strings.Repeat("a", 64)}}, "issue.dnsNames[0]"},
		{vault.Issue{DNSNames: []string{"https://a"}}, "issue.dnsNames[0]"},
		{vault.Issue{IPAddresses: []string{"10.0.0.300"}}, "issue.ipAddresses[0]"},
		{vault.Issue{IPAddresses: []string{"fe80::1%eth0"}}, "issue.ipAddresses[0]"},
		{vault.Issue{DNSNames: []string{"a"}, TTL: "0s"}, "issue.ttl"},
		{vault.Issue{DNSNames: []string{"a"}, TTL: "-1h"}, "issue.ttl"},
		{vault.Issue{DNSNames: []string{"a"}, TTL: "1000000h"}, "issue.ttl"},
		{vault.Issue{DNSNames: []string{"a"}, TTL: "90d"}, "issue.ttl"},
		{vault.Issue{DNSNames: []string{"a"}, CommonName: "a\nb"}, "issue.commonName"},
		{vault.Issue{DNSNames: []string{"a"}, CommonName: strings.Repeat("a", 65)}, "issue.commonName"},
	} {
		var f *FieldError
		if _, err := Issue(c.issue, nil, time.Now()); !errors.As(err, &f) || f.Field != c.field {
			t.Errorf("%+v: %v, want field %s", c.issue, err, c.field)
		}
	}
	if err := CheckIssue(vault.TypeText, vault.Issue{DNSNames: []string{"a"}}); err == nil {
		t.Error("a Text was issued")
	}
}

func TestSerialNumbers(t *testing.T) {
	seen := map[string]bool{}
	for range 50 {
		n := leaf(t, issue(t, vault.Issue{DNSNames: []string{"a"}}, nil)).SerialNumber
		if n.Sign() <= 0 || len(n.Bytes()) > 20 || seen[n.String()] {
			t.Fatalf("serial number %s", n)
		}
		seen[n.String()] = true
	}
}

func TestCertificateKeys(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := issue(t, vault.Issue{DNSNames: []string{"a"}}, nil)
	like := leaf(t, good)
	template := &x509.Certificate{SerialNumber: like.SerialNumber, NotBefore: like.NotBefore, NotAfter: like.NotAfter, DNSNames: like.DNSNames}
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	pkcs8 := func(key any) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return block("PRIVATE KEY", der)
	}
	sign := func(public, private any) []byte {
		der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
		if err != nil {
			t.Fatal(err)
		}
		return block("CERTIFICATE", der)
	}
	rsaCert := sign(&rsaKey.PublicKey, rsaKey)
	for name, c := range map[string]struct {
		crt, key []byte
		field    string
	}{
		"RSA PKCS #8":        {rsaCert, pkcs8(rsaKey), ""},
		"RSA PKCS #1":        {rsaCert, block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey)), ""},
		"Ed25519":            {sign(edKey.Public(), edKey), pkcs8(edKey), ""},
		"another key":        {rsaCert, pkcs8(edKey), "value.tls.key"},
		"no PEM":             {rsaCert, []byte("hunter2"), "value.tls.key"},
		"an encrypted key":   {rsaCert, block("ENCRYPTED PRIVATE KEY", []byte("x")), "value.tls.key"},
		"two keys":           {rsaCert, append(pkcs8(rsaKey), pkcs8(edKey)...), "value.tls.key"},
		"a key as crt":       {pkcs8(rsaKey), pkcs8(rsaKey), "value.tls.crt"},
		"a cut certificate":  {block("CERTIFICATE", leaf(t, good).Raw[:100]), pkcs8(rsaKey), "value.tls.crt"},
		"text after":         {append(bytes.Clone(rsaCert), "hunter2"...), pkcs8(rsaKey), "value.tls.crt"},
		"no chain":           {append(bytes.Clone(rsaCert), good[vault.FieldCertificate]...), pkcs8(rsaKey), "value.tls.crt"},
		"over 20":            {bytes.Repeat(rsaCert, 21), pkcs8(rsaKey), "value.tls.crt"},
		"no certificate":     {[]byte("hunter2"), pkcs8(rsaKey), "value.tls.crt"},
		"the key of another": {rsaCert, good[vault.FieldPrivateKey], "value.tls.key"},
	} {
		expiry, err := Check(vault.TypeCertificate, vault.Value{vault.FieldCertificate: c.crt, vault.FieldPrivateKey: c.key})
		var f *FieldError
		switch {
		case c.field == "" && (err != nil || !expiry.Equal(template.NotAfter)):
			t.Errorf("%s: %v, %v", name, expiry, err)
		case c.field != "" && (!errors.As(err, &f) || f.Field != c.field):
			t.Errorf("%s: %v, want field %s", name, err, c.field)
		case err != nil && strings.Contains(err.Error(), "hunter2"):
			t.Errorf("%s: the error contains the input: %v", name, err)
		}
	}
	wrongCA := vault.Value{vault.FieldCertificate: good[vault.FieldCertificate], vault.FieldPrivateKey: good[vault.FieldPrivateKey], vault.FieldCA: rsaCert}
	var f *FieldError
	if _, err := Check(vault.TypeCertificate, wrongCA); !errors.As(err, &f) || f.Field != "value.ca.crt" {
		t.Errorf("a CA that signed nothing: %v", err)
	}
}

func FuzzCertificate(f *testing.F) {
	v, err := Issue(vault.Issue{DNSNames: []string{"a"}}, nil, time.Now())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(v[vault.FieldCertificate], v[vault.FieldPrivateKey], v[vault.FieldCA])
	f.Fuzz(func(_ *testing.T, crt, key, ca []byte) {
		_, _ = Check(vault.TypeCertificate, vault.Value{vault.FieldCertificate: crt, vault.FieldPrivateKey: key, vault.FieldCA: ca})
	})
}
