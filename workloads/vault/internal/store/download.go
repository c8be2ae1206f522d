// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5"

	wire "github.com/itechsmart/operator/workloads/vault/client"
	"github.com/itechsmart/operator/workloads/vault/internal/keyring"
	"github.com/itechsmart/operator/workloads/vault/internal/material"
)

// Content is a version of a File with its content as a stream. Close it.
type Content struct {
	wire.Version
	Filename string
	Size     int64 // of the content, always
	io.ReadCloser
}

func (v *store) Content(ctx context.Context, path string, version int64) (content *Content, err error) {
	if err := CheckPath(path); err != nil {
		return nil, err
	}
	if version < 0 {
		return nil, invalid(material.Invalid("version", "must be 0, the newest, or above"))
	}
	err = v.withKeys(ctx, func(keys *keyring.Keyring, _ int) error {
		x, err := v.version(ctx, v.pool, path, version)
		if err != nil {
			return err
		}
		if x.Type != wire.TypeFile {
			return invalid(material.Invalid("path", "the secret is of type %s, and only a File can be streamed", x.Type))
		}
		plaintext, err := v.open(keys, path, x)
		if err != nil {
			return err
		}
		defer keyring.Zero(plaintext)
		if material.IsManifest(plaintext) {
			content, err = v.openParts(ctx, keys, path, x, plaintext)
			return err
		}
		value, err := material.Decode(plaintext)
		if err != nil {
			return err
		}
		data := value[wire.FieldFile]
		content = &Content{Version: x.Version, Filename: string(value[wire.FieldFilename]), Size: int64(len(data)),
			ReadCloser: small{bytes.NewReader(data), data}}
		return nil
	})
	return content, err
}

// small is the content of a file that is stored as a value.
type small struct {
	io.Reader
	data []byte
}

// Close implements io.Closer.
func (s small) Close() error {
	keyring.Zero(s.data)
	return nil
}

// openParts opens a content that is stored in parts.
func (v *store) openParts(ctx context.Context, keys *keyring.Keyring, path string, x stored, plaintext []byte) (*Content, error) {
	m, err := material.DecodeManifest(plaintext)
	if err != nil {
		return nil, err
	}
	if err := v.countParts(ctx, m); err != nil {
		return nil, v.destroyed(ctx, path, x, err)
	}
	key, err := x.key.open(keys)
	if err != nil {
		return nil, err
	}
	p := &parts{
		manifest: m, key: key, at: keyring.Chunk{Binding: v.binding(path, x.Version.Version, x.Type), Content: m.Content},
		read: func(at keyring.Chunk) ([]byte, error) {
			part, err := v.part(ctx, key, m, at)
			return part, v.destroyed(ctx, path, x, err)
		},
	}
	if err := p.load(); err != nil {
		_ = p.Close()
		return nil, err
	}
	x.Size = m.Size // the size in the row is not authenticated
	return &Content{Version: x.Version, Filename: m.Filename, Size: m.Size, ReadCloser: p}, nil
}

// destroyed distinguishes a version that was destroyed while it was read from a damaged one: only the latter is
// ErrCorrupt.
func (v *store) destroyed(ctx context.Context, path string, x stored, err error) error {
	if !errors.Is(err, ErrCorrupt) {
		return err
	}
	now, gone := v.version(ctx, v.pool, path, x.Version.Version)
	switch {
	case errors.Is(gone, ErrNotFound), errors.Is(gone, ErrDestroyed):
		return gone
	case gone == nil && !bytes.Equal(now.ciphertext, x.ciphertext): // the path is another secret's now
		return ErrDestroyed
	}
	return err
}

// countParts detects missing and extra parts and another length before the first byte.
func (v *store) countParts(ctx context.Context, m material.Manifest) error {
	var parts, size int64
	err := v.pool.QueryRow(ctx, `SELECT count(*), coalesce(sum(octet_length(ciphertext)), 0)::bigint FROM chunks WHERE content_id = $1`, m.Content).
		Scan(&parts, &size)
	if err != nil {
		return fmt.Errorf("count content: %w", err)
	}
	if want := m.Chunks(); parts != want || size != m.Size+want*keyring.Overhead {
		return fmt.Errorf("the content has %d parts of %d bytes, not %d of %d: %w", parts, size, want, m.Size+want*keyring.Overhead, ErrCorrupt)
	}
	return nil
}

// part reads and opens one part; the caller zeroes it. ErrCorrupt, ErrSealed.
func (v *store) part(ctx context.Context, key *keyring.DataKey, m material.Manifest, at keyring.Chunk) ([]byte, error) {
	if v.Sealed() { // meanwhile
		return nil, ErrSealed
	}
	var ciphertext []byte
	err := v.pool.QueryRow(ctx, `SELECT ciphertext FROM chunks WHERE content_id = $1 AND number = $2`, m.Content, at.Number).Scan(&ciphertext)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("part %d of the content is missing: %w", at.Number, ErrCorrupt)
	}
	if err != nil {
		return nil, fmt.Errorf("read content: %w", err)
	}
	at.Last = at.Number == m.Chunks()-1
	plaintext, err := key.OpenChunk(at, ciphertext)
	if err != nil {
		return nil, translate(fmt.Errorf("part %d of the content: %w", at.Number, err))
	}
	if int64(len(plaintext)) != m.ChunkSize(at.Number) {
		keyring.Zero(plaintext)
		return nil, fmt.Errorf("part %d of the content has another length: %w", at.Number, ErrCorrupt)
	}
	return plaintext, nil
}

// parts reads a content one part at a time, of which one is in memory. io.EOF is returned only after the last one.
type parts struct {
	manifest material.Manifest
	key      *keyring.DataKey
	at       keyring.Chunk // the next part
	read     func(keyring.Chunk) ([]byte, error)

	part, rest []byte
}

func (p *parts) load() (err error) {
	keyring.Zero(p.part)
	p.part, err = p.read(p.at)
	p.rest = p.part
	if err == nil {
		p.at.Number++
	}
	return err
}

// Read implements io.Reader.
func (p *parts) Read(buf []byte) (int, error) {
	if len(p.rest) == 0 {
		if p.at.Number == p.manifest.Chunks() {
			return 0, io.EOF
		}
		if err := p.load(); err != nil {
			return 0, err
		}
	}
	n := copy(buf, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// Close implements io.Closer.
func (p *parts) Close() error {
	keyring.Zero(p.part)
	p.key.Close()
	return nil
}

// rollbackContent adds a new version with an older one's content: sealed again, for its new place.
func (v *store) rollbackContent(ctx context.Context, path string, version int64, by string) (wire.Secret, error) {
	old, err := v.Content(ctx, path, version)
	if err != nil {
		return wire.Secret{}, err
	}
	defer old.Close()
	return v.uploadContent(ctx, path, Upload{Filename: old.Filename, Metadata: old.Metadata, ExpiresAt: old.ExpiresAt, Replace: true}, old, by)
}
