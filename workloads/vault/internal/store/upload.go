// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	wire "github.com/itechsmart/operator/workloads/vault/client"
	"github.com/itechsmart/operator/workloads/vault/internal/keyring"
	"github.com/itechsmart/operator/workloads/vault/internal/material"
)

// chunkBytes is the size of a content's part, which is one row.
const chunkBytes = 256 << 10

func (v *store) Upload(ctx context.Context, path string, u Upload, in io.Reader, by string) (wire.Secret, error) {
	if err := u.check(path); err != nil {
		return wire.Secret{}, err
	}
	if v.Sealed() {
		return wire.Secret{}, ErrSealed
	}
	// A content that fits a value is stored as one, so that everything that reads values can read it.
	first := make([]byte, wire.MaxValueBytes-len(u.Filename)+1)
	defer keyring.Zero(first)
	n, ended, err := readFull(in, first)
	if err != nil {
		return wire.Secret{}, err
	}
	if ended {
		return v.uploadValue(ctx, path, u, first[:n], by)
	}
	return v.uploadContent(ctx, path, u, io.MultiReader(bytes.NewReader(first), in), by)
}

func (u Upload) check(path string) error {
	if err := CheckPath(path); err != nil {
		return err
	}
	if err := material.CheckFilename("filename", u.Filename); err != nil {
		return invalid(err)
	}
	return checkMetadata(u.Metadata)
}

// readFull reads until buf is full or the content has ended, which only io.EOF means: a truncated body returns
// io.ErrUnexpectedEOF, which io.ReadFull would also return for a short one.
func readFull(in io.Reader, buf []byte) (n int, ended bool, err error) {
	for n < len(buf) {
		k, err := in.Read(buf[n:])
		n += k
		if err == io.EOF { //nolint:errorlint // a reader says it bare; one that is wrapped is no end
			return n, true, nil
		}
		if err != nil {
			return n, false, fmt.Errorf("read content: %w", err)
		}
	}
	return n, false, nil
}

// uploadValue stores a small file like any value.
func (v *store) uploadValue(ctx context.Context, path string, u Upload, data []byte, by string) (secret wire.Secret, err error) {
	write := wire.Write{Type: wire.TypeFile, Value: wire.Value{wire.FieldFile: data}, CheckAndSet: u.CheckAndSet, Metadata: u.Metadata, ExpiresAt: u.ExpiresAt}
	if u.Filename != "" {
		write.Value[wire.FieldFilename] = []byte(u.Filename)
	}
	if u.CheckAndSet != nil && *u.CheckAndSet == 0 {
		return v.Create(ctx, path, write, by)
	}
	for range attempts {
		secret, err = v.Put(ctx, path, write, by)
		if !errors.Is(err, ErrNotFound) || u.Replace || u.CheckAndSet != nil {
			return secret, err
		}
		if secret, err = v.Create(ctx, path, write, by); !errors.Is(err, ErrExists) {
			return secret, err
		}
	}
	return secret, ErrChanged
}

// uploadContent stores a large file: first its parts and then, in the same transaction, their version.
func (v *store) uploadContent(ctx context.Context, path string, u Upload, in io.Reader, by string) (secret wire.Secret, err error) {
	select {
	case v.uploads <- struct{}{}:
		defer func() { <-v.uploads }()
	default:
		return secret, ErrBusy
	}
	w, err := v.newContentWriter(ctx, path, u)
	if err != nil {
		return secret, err
	}
	defer w.key.Close()
	// Not db.InTx: the content cannot be read again.
	err = pgx.BeginFunc(ctx, v.pool, func(tx pgx.Tx) error {
		m, err := w.write(ctx, tx, in)
		if err != nil {
			return err
		}
		m.Filename = u.Filename
		plaintext, err := m.Encode()
		if err != nil {
			return err
		}
		d := &draft{Type: wire.TypeFile, plaintext: plaintext, metadata: u.Metadata, expiresAt: utc(u.ExpiresAt), by: by,
			content: &content{id: m.Content, size: m.Size, key: w.key}}
		defer d.Close()
		secret, err = w.finish(ctx, tx, d)
		return err
	})
	switch {
	case errors.Is(err, errAgain), errors.Is(err, ErrExists) && u.CheckAndSet == nil:
		return wire.Secret{}, ErrChanged
	case err != nil:
		return wire.Secret{}, translate(err)
	}
	return secret, nil
}

// contentWriter writes one content for the version after a head.
type contentWriter struct {
	v    *store
	path string
	head head // of version 0: there is no secret yet
	key  *keyring.DataKey
	mac  hash.Hash
	max  int64
}

// newContentWriter prepares the version of the content, and refuses an upload that cannot succeed.
func (v *store) newContentWriter(ctx context.Context, path string, u Upload) (*contentWriter, error) {
	w := &contentWriter{v: v, path: path, max: v.options.MaxFileBytes}
	err := v.withKeys(ctx, func(keys *keyring.Keyring, _ int) (err error) {
		w.head, err = v.head(ctx, v.pool, path, false)
		missing := errors.Is(err, ErrNotFound) && !u.Replace && (u.CheckAndSet == nil || *u.CheckAndSet == 0)
		switch {
		case missing:
			w.head, w.key, err = head{}, keyring.NewDataKey(), nil
		case err != nil:
		case u.CheckAndSet != nil && *u.CheckAndSet == 0:
			err = ErrExists
		case u.CheckAndSet != nil && *u.CheckAndSet != w.head.version:
			err = ErrStale
		case w.head.Type != wire.TypeFile:
			err = invalid(material.Invalid("type", "the secret is of type %s", w.head.Type))
		default:
			w.key, err = w.head.key.open(keys)
		}
		if err != nil {
			return err
		}
		macKey, err := v.macKey(ctx, keys)
		if err != nil {
			w.key.Close()
			return err
		}
		defer macKey.Close()
		w.mac, err = macKey.ContentMAC(wire.FieldFile)
		return err
	})
	return w, err
}

// write seals the parts and stores them.
func (w *contentWriter) write(ctx context.Context, tx pgx.Tx, in io.Reader) (material.Manifest, error) {
	m := material.Manifest{Content: uuid.NewString(), ChunkBytes: chunkBytes}
	at := keyring.Chunk{Binding: w.v.binding(w.path, w.head.version+1, wire.TypeFile), Content: m.Content}
	ahead := bufio.NewReaderSize(in, chunkBytes)
	part := make([]byte, chunkBytes)
	defer keyring.Zero(part)
	for ; !at.Last; at.Number++ {
		n, ended, err := readFull(ahead, part)
		if err != nil {
			return m, err
		}
		if m.Size += int64(n); m.Size > w.max {
			return m, invalid(material.Invalid("content", "must have at most %d bytes", w.max))
		}
		if at.Last = ended; !ended {
			_, err := ahead.Peek(1)
			if err != nil && err != io.EOF { //nolint:errorlint // as in readFull
				return m, fmt.Errorf("read content: %w", err)
			}
			at.Last = err != nil
		}
		_, _ = w.mac.Write(part[:n]) // never fails
		ciphertext, err := w.key.SealChunk(at, part[:n])
		if err != nil {
			return m, err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO chunks (content_id, number, ciphertext) VALUES ($1, $2, $3)`, m.Content, at.Number, ciphertext); err != nil {
			return m, fmt.Errorf("write content: %w", err)
		}
	}
	m.MAC = w.mac.Sum(nil)
	return m, nil
}

// finish writes the version. If another replica created a root key meanwhile, it is loaded.
func (w *contentWriter) finish(ctx context.Context, tx pgx.Tx, d *draft) (secret wire.Secret, err error) {
	changed := false
	err = w.v.withKeys(ctx, func(keys *keyring.Keyring, _ int) (err error) {
		if w.head.version == 0 {
			secret, err = w.v.create(ctx, tx, keys, w.path, d)
		} else {
			secret, err = w.v.add(ctx, tx, keys, w.path, w.head, d)
		}
		if changed = errors.Is(err, errAgain); changed {
			return nil // retrying does not help
		}
		return err
	})
	if changed {
		return secret, errAgain
	}
	return secret, err
}
