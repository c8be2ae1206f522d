// SPDX-License-Identifier: Apache-2.0

package connections_test

import (
	"testing"

	"github.com/itechsmart/operator/controllers/internal/connections"
)

func TestTargetsAreReadAsWritten(t *testing.T) {
	for _, want := range []connections.Target{
		connections.PlatformTarget("ns", "main", "kafka"),
		{Kind: "Secret", Namespace: "ns", Name: "db"},
		{Kind: "VaultSecret", Namespace: "ns", Name: "db"},
	} {
		if got, ok := connections.ParseTarget(want.String()); !ok || got != want {
			t.Errorf("%s is read as %+v, %t", want, got, ok)
		}
	}
	for _, text := range []string{
		"", "Secret", "Secret/ns", "Secret//db", "Secret/ns/db/kafka", "Platform/ns/main", "Platform/ns/main/", "Platform/ns/main/kafka/x", "Other/ns/db",
	} {
		if got, ok := connections.ParseTarget(text); ok {
			t.Errorf("%q is read as %+v", text, got)
		}
	}
}
