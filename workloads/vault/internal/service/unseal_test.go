// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package service

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/itechsmart/operator/internal/backend/backendtest/servers"
	"github.com/itechsmart/operator/workloads/internal/product/producttest"
	wire "github.com/itechsmart/operator/workloads/vault/client"
	vaultconfig "github.com/itechsmart/operator/workloads/vault/config"
	"github.com/itechsmart/operator/workloads/vault/internal/hsm"
	"github.com/itechsmart/operator/workloads/vault/internal/hsm/hsmtest"
)

// A key in an HSM unseals at every start; without it the vault runs, sealed, and reports why.
func TestPKCS11(t *testing.T) {
	first := hsmtest.NewToken(t, "vault")
	hsmtest.NewAES(t, "unseal", true)
	settings := settingsOn(t, servers.Postgres(t))
	good := vaultconfig.PKCS11{Module: hsmtest.Library(t), TokenLabel: "vault", KeyLabel: "unseal", PIN: hsmtest.PIN}
	settings.Settings = producttest.Own(vaultconfig.Settings{PKCS11: &good})
	r := start(t, settings, nil)
	must[wire.Secret](r, http.StatusCreated, r.Admin, "POST", "/secrets", write("db/password", "one"))
	if a := r.Call(r.Admin, "POST", "/init", nil); a.Status != http.StatusConflict {
		t.Errorf("initialized again: %d %s", a.Status, a.Body)
	}
	must[any](r, http.StatusOK, r.Admin, "POST", "/keys/rotate", nil)
	r.Stop()

	reads := func() {
		t.Helper()
		r := start(t, settings, nil)
		defer r.Stop()
		if got := must[wire.Read](r, 200, r.Admin, "GET", "/secrets/db%2Fpassword/value", nil); string(got.Value[wire.FieldText]) != "one" {
			t.Error("another value was read")
		}
		if status := must[wire.SealStatus](r, 200, "", "GET", "/seal-status", nil); status.Sealed || status.Reason != "" {
			t.Errorf("status %+v", status)
		}
	}
	sealed := func(why error, change func(*vaultconfig.PKCS11)) {
		t.Helper()
		key := good
		change(&key)
		settings := *settings
		settings.Settings = producttest.Own(vaultconfig.Settings{PKCS11: &key})
		r := start(t, &settings, nil)
		defer r.Stop()
		status := must[wire.SealStatus](r, 200, "", "GET", "/seal-status", nil)
		if !status.Sealed || status.Reason != why.Error() {
			t.Errorf("status %+v, want %v", status, why)
		}
		if a := r.Call(r.Admin, "GET", "/secrets/db%2Fpassword/value", nil); a.Status != http.StatusServiceUnavailable || a.Refusal(t).Code != "sealed" {
			t.Errorf("read: %d %s", a.Status, a.Body)
		}
		if logs := r.Logs.String(); !strings.Contains(logs, "the vault stays sealed") || !strings.Contains(logs, why.Error()) || strings.Contains(logs, key.PIN) {
			t.Errorf("the log lacks the reason, or contains the PIN: %s", logs)
		}
	}
	reads()
	sealed(hsm.ErrPIN, func(k *vaultconfig.PKCS11) { k.PIN = "wrong-pin" })
	sealed(hsm.ErrKey, func(k *vaultconfig.PKCS11) { k.KeyLabel = "none" })
	sealed(hsm.ErrToken, func(k *vaultconfig.PKCS11) { k.TokenLabel = "none" })
	sealed(hsm.ErrModule, func(k *vaultconfig.PKCS11) { k.Module = "/none.so" })
	hsmtest.NewToken(t, "vault")
	hsmtest.NewAES(t, "unseal", true)
	sealed(hsm.ErrOtherKey, func(*vaultconfig.PKCS11) {})
	hsmtest.Use(t, first)
	reads()
}

// An HSM that was unavailable at the start unseals once it is back.
func TestPKCS11Later(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for the next attempt")
	}
	empty := t.TempDir()
	token := hsmtest.NewToken(t, "vault")
	hsmtest.NewRSA(t, "unseal")
	settings := settingsOn(t, servers.Postgres(t))
	settings.Settings = producttest.Own(vaultconfig.Settings{
		PKCS11: &vaultconfig.PKCS11{Module: hsmtest.Library(t), TokenLabel: "vault", KeyLabel: "unseal", PIN: hsmtest.PIN},
	})
	hsmtest.Use(t, empty)
	r := start(t, settings, nil)
	if status := must[wire.SealStatus](r, 200, "", "GET", "/seal-status", nil); !status.Sealed || status.Reason != hsm.ErrToken.Error() {
		t.Errorf("status %+v", status)
	}
	if err := os.WriteFile(empty+"/softhsm2.conf", []byte("directories.tokendir = "+token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.Wait("unsealed", func() bool { return !must[wire.SealStatus](r, 200, "", "GET", "/seal-status", nil).Sealed })
	must[wire.Secret](r, http.StatusCreated, r.Admin, "POST", "/secrets", write("db/password", "one"))
}

// A vault that was initialized by a passphrase is not opened by a key, and vice versa.
func TestUnsealByAnotherMethod(t *testing.T) {
	hsmtest.NewToken(t, "vault")
	hsmtest.NewAES(t, "unseal", true)
	byPassphrase := settingsOn(t, servers.Postgres(t))
	start(t, byPassphrase, nil).Stop()
	byKey := *byPassphrase
	byKey.Settings = producttest.Own(vaultconfig.Settings{
		PKCS11: &vaultconfig.PKCS11{Module: hsmtest.Library(t), TokenLabel: "vault", KeyLabel: "unseal", PIN: hsmtest.PIN},
	})
	r := start(t, &byKey, nil)
	if status := must[wire.SealStatus](r, 200, "", "GET", "/seal-status", nil); !status.Sealed || status.Reason != otherUnseal {
		t.Errorf("status %+v", status)
	}
	r.Stop()
	other := *byPassphrase
	other.Settings = producttest.Own(vaultconfig.Settings{Passphrase: "another passphrase"})
	r = start(t, &other, nil)
	if status := must[wire.SealStatus](r, 200, "", "GET", "/seal-status", nil); !status.Sealed || status.Reason != wrongPassphrase {
		t.Errorf("status %+v", status)
	}
}

// Failures that only a person can fix are not retried, least of all a PIN.
func TestWhySealed(t *testing.T) {
	for _, c := range []struct {
		err   error
		again bool
	}{
		{hsm.ErrUnsupported, false}, {hsm.ErrPIN, false}, {hsm.ErrOtherKey, false}, {hsm.ErrModule, true}, {hsm.ErrToken, true}, {hsm.ErrKey, true},
	} {
		if why, again := whySealed(fmt.Errorf("%w: %w", c.err, errors.New(canary))); why != c.err.Error() || again != c.again {
			t.Errorf("%v: %q, again %v", c.err, why, again)
		}
	}
	for _, err := range []error{nil, errors.New(canary), context.DeadlineExceeded} { // the start itself handles these
		if why, again := whySealed(err); why != "" || again {
			t.Errorf("%v: %q, again %v", err, why, again)
		}
	}
}
