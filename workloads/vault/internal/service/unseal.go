// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/itechsmart/operator/workloads/vault/internal/hsm"
	"github.com/itechsmart/operator/workloads/vault/internal/store"
)

// secretSource returns the secret of the root key; the caller zeroes it.
type secretSource = func(context.Context) ([]byte, error)

// Reasons why a vault that should unseal itself is sealed, besides those of package hsm.
const (
	wrongPassphrase = "the configured passphrase is not the one that the vault was sealed with"
	otherUnseal     = "the root key was not created with a key in an HSM"

	firstUnseal, lastUnseal = 5 * time.Second, time.Minute
)

// passphrase returns the source of the root key's secret; nil: shares, over REST.
func (p *startup) passphrase(vault store.Vault) secretSource {
	settings := p.settings
	switch c := settings.PKCS11; {
	case c != nil:
		token := hsm.New(hsm.Options{
			Module: c.Module, TokenLabel: c.TokenLabel, KeyLabel: c.KeyLabel, PIN: c.PIN, Context: p.Config.Namespace + "/" + p.Config.Platform,
		})
		return func(ctx context.Context) ([]byte, error) {
			wrapped, err := vault.Wrapped(ctx, token.Wrap)
			if err != nil {
				return nil, err
			}
			return token.Unwrap(wrapped)
		}
	case settings.Passphrase != "":
		return func(context.Context) ([]byte, error) { return []byte(settings.Passphrase), nil }
	}
	return nil
}

// unseal uses a passphrase, and zeroes it.
func unseal(ctx context.Context, passphrase secretSource, by func(context.Context, []byte) error) error {
	secret, err := passphrase(ctx)
	if err != nil {
		return err
	}
	defer clear(secret)
	return by(ctx, secret)
}

// unseal opens the vault with the configured secret. An error that a restart cannot fix leaves it sealed; log and status
// have the reason. An unavailable HSM is retried.
func (p *startup) unseal(life context.Context, vault store.Vault, passphrase secretSource) error {
	if passphrase == nil {
		return nil
	}
	err := unseal(life, passphrase, vault.Open)
	why, retry := whySealed(err)
	if why == "" && err != nil {
		return fmt.Errorf("unseal: %w", err)
	}
	p.sealed.Store(&why)
	if err != nil {
		p.Log.Error("the vault stays sealed", "reason", why, "error", err, "retries", retry)
	}
	if retry {
		go p.unsealLater(life, vault, passphrase)
	}
	return nil
}

// whySealed returns a failure's public reason; empty: none, or a failure of the database. retry: it may help.
func whySealed(err error) (why string, retry bool) {
	switch {
	case err == nil:
		return "", false
	case errors.Is(err, store.ErrPassphrase):
		return wrongPassphrase, false
	case errors.Is(err, store.ErrInitialized):
		return otherUnseal, false
	}
	// A token locks after some wrong PINs: only a person may retry.
	for _, final := range []error{hsm.ErrUnsupported, hsm.ErrPIN, hsm.ErrOtherKey} {
		if errors.Is(err, final) {
			return final.Error(), false
		}
	}
	for _, passing := range []error{hsm.ErrModule, hsm.ErrToken, hsm.ErrKey} {
		if errors.Is(err, passing) {
			return passing.Error(), true
		}
	}
	return "", false
}

// unsealLater retries until the vault is unsealed, here or over REST, or a retry cannot help.
func (p *startup) unsealLater(life context.Context, vault store.Vault, passphrase secretSource) {
	for wait := firstUnseal; ; wait = min(2*wait, lastUnseal) {
		select {
		case <-life.Done():
			return
		case <-time.After(wait):
		}
		if !vault.Sealed() {
			return
		}
		err := unseal(life, passphrase, vault.Open)
		why, retry := whySealed(err)
		if err == nil {
			p.Log.Info("the vault is unsealed")
			p.sealed.Store(&why)
			return
		}
		p.Log.Error("the vault stays sealed", "reason", why, "error", err)
		if why != "" {
			p.sealed.Store(&why)
			if !retry {
				return
			}
		}
	}
}

// whySealed returns why the vault did not unseal itself; empty: it did.
func (p *startup) whySealed() string {
	if why := p.sealed.Load(); why != nil {
		return *why
	}
	return ""
}
