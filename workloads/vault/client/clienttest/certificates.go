// SPDX-License-Identifier: Apache-2.0

package clienttest

import (
	"crypto/tls"
	"crypto/x509"
	"testing"

	vault "github.com/itechsmart/operator/workloads/vault/client"
)

// verify checks that a certificate matches its key, is signed by the authority's and valid for the name.
func verify(t *testing.T, issued, authority vault.Value, name string) {
	t.Helper()
	pair, err := tls.X509KeyPair(issued[vault.FieldCertificate], issued[vault.FieldPrivateKey])
	if err != nil {
		t.Fatal("the issued certificate and key are not a pair")
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority[vault.FieldCertificate]) {
		t.Fatal("the authority has no certificate")
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
		t.Fatal(err)
	}
	if string(issued[vault.FieldCA]) != string(authority[vault.FieldCertificate]) {
		t.Errorf("field %s is not the authority's certificate", vault.FieldCA)
	}
}
