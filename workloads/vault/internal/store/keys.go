// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	wire "github.com/itechsmart/operator/workloads/vault/client"
	"github.com/itechsmart/operator/workloads/vault/internal/keyring"
	"github.com/itechsmart/operator/workloads/vault/internal/material"
)

// rootRow is one stored generation of the root key.
type rootRow struct {
	keyring.Params
	Shares, Threshold int
	Previous, Next    []byte
	Active            bool
}

const rootColumns = `id, generation, salt, iterations, check_value, shares, threshold, previous, next, active`

func scanRoot(row pgx.CollectableRow) (rootRow, error) {
	var r rootRow
	err := row.Scan(&r.ID, &r.Generation, &r.Salt, &r.Iterations, &r.Check, &r.Shares, &r.Threshold, &r.Previous, &r.Next, &r.Active)
	return r, err
}

// roots reads all generations, the oldest first, and returns the active one; ErrUninitialized.
func (v *store) roots(ctx context.Context, q querier) (rows []rootRow, active rootRow, err error) {
	result, err := q.Query(ctx, `SELECT `+rootColumns+` FROM root_keys ORDER BY generation`)
	if err == nil {
		rows, err = pgx.CollectRows(result, scanRoot)
	}
	if err != nil {
		return nil, rootRow{}, fmt.Errorf("read root keys: %w", err)
	}
	for _, r := range rows {
		if r.Active {
			return rows, r, nil
		}
	}
	return nil, rootRow{}, ErrUninitialized
}

func insertRoot(ctx context.Context, q querier, r rootRow) error {
	_, err := q.Exec(ctx, `INSERT INTO root_keys (`+rootColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		r.ID, r.Generation, r.Salt, r.Iterations, r.Check, r.Shares, r.Threshold, r.Previous, r.Next, r.Active)
	return err
}

func (v *store) Open(ctx context.Context, passphrase []byte) error {
	err := v.Unseal(ctx, passphrase)
	if !errors.Is(err, ErrUninitialized) {
		return err
	}
	if err := v.Init(ctx, passphrase); !errors.Is(err, ErrInitialized) {
		return err
	}
	return v.Unseal(ctx, passphrase) // another replica was faster
}

func (v *store) Wrapped(ctx context.Context, wrap func([]byte) ([]byte, error)) (wrapped []byte, err error) {
	read := func() error {
		return v.pool.QueryRow(ctx, `SELECT wrapped FROM unseal_secret`).Scan(&wrapped)
	}
	err = read()
	if errors.Is(err, pgx.ErrNoRows) {
		if _, _, err := v.roots(ctx, v.pool); !errors.Is(err, ErrUninitialized) {
			if err == nil {
				err = ErrInitialized
			}
			return nil, err
		}
		secret := make([]byte, keyring.UnsealSecretBytes)
		defer keyring.Zero(secret)
		_, _ = rand.Read(secret) // never fails
		made, err := wrap(secret)
		if err != nil {
			return nil, err
		}
		if _, err := v.pool.Exec(ctx, `INSERT INTO unseal_secret (wrapped) VALUES ($1) ON CONFLICT DO NOTHING`, made); err != nil {
			return nil, fmt.Errorf("write unseal secret: %w", err)
		}
		err = read()
		return wrapped, err
	}
	if err != nil {
		return nil, fmt.Errorf("read unseal secret: %w", err)
	}
	return wrapped, nil
}

func (v *store) Init(ctx context.Context, passphrase []byte) error {
	return v.initialize(ctx, passphrase, 0, 0)
}

func (v *store) InitShares(ctx context.Context, shares, threshold int) ([]string, error) {
	secret, texts, err := newShares(shares, threshold)
	if err != nil {
		return nil, err
	}
	defer keyring.Zero(secret)
	if err := v.initialize(ctx, secret, shares, threshold); err != nil {
		return nil, err
	}
	return texts, nil
}

func (v *store) initialize(ctx context.Context, secret []byte, shares, threshold int) error {
	if len(secret) == 0 {
		return invalid(material.Invalid("passphrase", "must not be empty"))
	}
	switch _, _, err := v.roots(ctx, v.pool); {
	case err == nil:
		return ErrInitialized
	case !errors.Is(err, ErrUninitialized):
		return err
	}
	root, params, err := keyring.NewRootIterations(secret, 1, v.options.iterations)
	if err != nil {
		return err
	}
	err = insertRoot(ctx, v.pool, rootRow{Params: params, Shares: shares, Threshold: threshold, Active: true})
	if err != nil {
		root.Close()
		if code(err) == uniqueViolation {
			return ErrInitialized
		}
		return fmt.Errorf("write root key: %w", err)
	}
	v.unsealed(keyring.New(root))
	return nil
}

// newShares draws an unseal secret and splits it.
func newShares(shares, threshold int) (secret []byte, texts []string, err error) {
	secret = make([]byte, keyring.UnsealSecretBytes)
	_, _ = rand.Read(secret) // never fails
	list, err := keyring.Split(secret, shares, threshold)
	if err != nil {
		return nil, nil, invalid(material.Invalid("threshold", "must be 2 to the number of shares, which is at most 255"))
	}
	for _, s := range list {
		texts = append(texts, s.String())
		keyring.Zero(s.Y)
	}
	return secret, texts, nil
}

func (v *store) Unseal(ctx context.Context, passphrase []byte) error {
	rows, active, err := v.roots(ctx, v.pool)
	if err != nil {
		return err
	}
	return v.unseal(rows, active, passphrase)
}

func (v *store) unseal(rows []rootRow, active rootRow, secret []byte) error {
	root, err := keyring.OpenRoot(secret, active.Params)
	if errors.Is(err, keyring.ErrPassphrase) {
		return ErrPassphrase
	}
	if err != nil {
		return err
	}
	keys := keyring.New(root)
	if err := link(keys, rows); err != nil {
		keys.Close()
		return translate(err)
	}
	v.unsealed(keys)
	return nil
}

func (v *store) unsealed(keys *keyring.Keyring) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.keys != nil {
		v.keys.Close()
	}
	v.keys = keys
	v.forgetShares()
}

func (v *store) UnsealShare(ctx context.Context, text string) (wire.SealStatus, error) {
	share, err := keyring.ParseShare(text)
	if err != nil {
		return wire.SealStatus{}, invalid(material.Invalid("share", "%s", err))
	}
	rows, active, err := v.roots(ctx, v.pool)
	if err != nil {
		return wire.SealStatus{}, err
	}
	if active.Threshold == 0 {
		return wire.SealStatus{}, invalid(material.Invalid("share", "this vault is unsealed by a passphrase"))
	}
	if v.Sealed() {
		if err := v.collect(rows, active, share); err != nil {
			return wire.SealStatus{}, err
		}
	}
	return v.Status(ctx)
}

// collect stores a share, and unseals with the one that reaches the threshold. A wrong set is discarded.
func (v *store) collect(rows []rootRow, active rootRow, share keyring.Share) error {
	v.mu.Lock()
	for _, known := range v.shares {
		if known.Set != share.Set || known.Threshold != share.Threshold || len(known.Y) != len(share.Y) {
			v.mu.Unlock()
			return invalid(material.Invalid("share", "it belongs to another set than the previous shares; seal to start over"))
		}
		if known.X == share.X {
			v.mu.Unlock()
			return nil
		}
	}
	v.shares = append(v.shares, share)
	if len(v.shares) < active.Threshold {
		v.mu.Unlock()
		return nil
	}
	secret, err := keyring.Combine(v.shares)
	v.forgetShares()
	v.mu.Unlock()
	if err != nil {
		return invalid(material.Invalid("share", "%s", err))
	}
	defer keyring.Zero(secret)
	return v.unseal(rows, active, secret)
}

// forgetShares discards the shares; the caller holds the lock.
func (v *store) forgetShares() {
	for _, s := range v.shares {
		keyring.Zero(s.Y)
	}
	v.shares = nil
}

func (v *store) Seal() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.keys != nil {
		v.keys.Close()
		v.keys = nil
	}
	v.forgetShares()
}

func (v *store) Sealed() bool { return v.keyring() == nil }

// link opens the generations that can be reached from the known ones, in both directions.
func link(keys *keyring.Keyring, rows []rootRow) error {
	for i := 0; i+1 < len(rows); i++ { // forward: created by other replicas
		if err := reach(keys, rows[i], rows[i].Next, rows[i+1]); err != nil {
			return err
		}
	}
	for i := len(rows) - 1; i > 0; i-- { // backward: generations that still wrap data keys
		if err := reach(keys, rows[i], rows[i].Previous, rows[i-1]); err != nil {
			return err
		}
	}
	return nil
}

func reach(keys *keyring.Keyring, from rootRow, wrapped []byte, to rootRow) error {
	if _, err := keys.Root(to.ID); err == nil || wrapped == nil {
		return nil
	}
	root, err := keys.Root(from.ID)
	if err != nil {
		return nil // unknown itself
	}
	reached, err := root.UnwrapRoot(wrapped, to.Params)
	if err != nil {
		return fmt.Errorf("root key %s: %w", to.ID, err)
	}
	keys.Add(reached)
	return nil
}

func (v *store) Refresh(ctx context.Context) error {
	keys := v.keyring()
	if keys == nil {
		return ErrSealed
	}
	rows, active, err := v.roots(ctx, v.pool)
	if err != nil {
		return err
	}
	if err := link(keys, rows); err != nil {
		return translate(err)
	}
	if _, err := keys.Root(active.ID); err != nil {
		v.Seal() // it was retired before this replica refreshed
		return fmt.Errorf("root key %s cannot be reached: %w", active.ID, ErrSealed)
	}
	stored := map[string]bool{}
	for _, r := range rows {
		stored[r.ID] = true
	}
	keys.Retain(func(id string) bool { return stored[id] })
	if len(rows) > 1 {
		return v.retire(ctx)
	}
	return nil
}
