// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"encoding/hex"
	"maps"
	"slices"

	wire "github.com/itechsmart/operator/workloads/vault/client"
	"github.com/itechsmart/operator/workloads/vault/internal/keyring"
	"github.com/itechsmart/operator/workloads/vault/internal/material"
)

func (v *store) Diff(ctx context.Context, path string, from, to int64) (diff []wire.FieldDiff, err error) {
	if err := CheckPath(path); err != nil {
		return nil, err
	}
	if from < 0 || to < 0 {
		return nil, invalid(material.Invalid("version", "must be 0, the newest, or above"))
	}
	err = v.withKeys(ctx, func(keys *keyring.Keyring, _ int) error {
		key, err := v.macKey(ctx, keys)
		if err != nil {
			return err
		}
		defer key.Close()
		number, newer, err := v.sums(ctx, keys, key, path, to)
		if err != nil {
			return err
		}
		before := from
		if before == 0 {
			before = number - 1
		}
		var older map[string]string // nothing comes before version 1
		if before != 0 {
			if _, older, err = v.sums(ctx, keys, key, path, before); err != nil {
				return err
			}
		}
		diff = compare(older, newer)
		return nil
	})
	return diff, err
}

// sums returns the MACs of a version's fields: equal for equal values, here and in any other diff of the namespace. A
// file in parts is not read: its MAC was stored when it was written.
func (v *store) sums(ctx context.Context, keys *keyring.Keyring, key *keyring.DataKey, path string, version int64) (int64, map[string]string, error) {
	x, err := v.version(ctx, v.pool, path, version)
	if err != nil {
		return 0, nil, err
	}
	plaintext, err := v.open(keys, path, x)
	if err != nil {
		return 0, nil, err
	}
	defer keyring.Zero(plaintext)
	out := map[string]string{}
	var value wire.Value
	if material.IsManifest(plaintext) {
		m, err := material.DecodeManifest(plaintext)
		if err != nil {
			return 0, nil, err
		}
		out[wire.FieldFile] = hex.EncodeToString(m.MAC)
		if m.Filename != "" {
			value = wire.Value{wire.FieldFilename: []byte(m.Filename)}
		}
	} else if value, err = material.Decode(plaintext); err != nil {
		return 0, nil, err
	}
	defer material.Zero(value)
	for name, data := range value {
		sum, err := key.MAC([]byte("field"), []byte(name), data)
		if err != nil {
			return 0, nil, err
		}
		out[name] = hex.EncodeToString(sum)
	}
	return x.Version.Version, out, nil
}

// compare never returns a value.
func compare(from, to map[string]string) []wire.FieldDiff {
	names := slices.Collect(maps.Keys(from))
	for name := range to {
		if _, both := from[name]; !both {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	diff := make([]wire.FieldDiff, 0, len(names))
	for _, name := range names {
		d := wire.FieldDiff{Field: name, From: from[name], To: to[name], Change: "changed"}
		switch {
		case d.From == "":
			d.Change = "added"
		case d.To == "":
			d.Change = "removed"
		case d.From == d.To:
			d.Change = "same"
		}
		diff = append(diff, d)
	}
	return diff
}
