// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// maxLine limits a line of an export in bytes.
const maxLine = 1 << 20

// Report is the result of Verify for an export.
type Report struct {
	// Lines were read; Events of them are events, First to Last their sequence numbers.
	Lines  int   `json:"lines"`
	Events int64 `json:"events"`
	First  int64 `json:"first"`
	Last   int64 `json:"last"`
	// Anchored: retention has deleted the events before First, and has signed that.
	Anchored bool `json:"anchored"`
	// Signatures counts the valid checkpoints; Signed is the last event that one covers, SignedAt when.
	Signatures int       `json:"signatures"`
	Signed     int64     `json:"signed"`
	SignedAt   time.Time `json:"signedAt"`
}

// BrokenError names the first line that is not as it was written.
type BrokenError struct {
	Line   int   // from 1
	Seq    int64 // of the event on or before the line; 0: none
	Reason string
}

func (e *BrokenError) Error() string {
	return fmt.Sprintf("line %d (event %d): %s", e.Line, e.Seq, e.Reason)
}

// Verify reads an export (JSON lines) and checks each hash, the order, and each signature with the service's public key.
// It returns a *BrokenError for the first line that was changed, removed, added or swapped, also if the end is not
// signed: lines may be missing there. It needs no service and no database.
func Verify(r io.Reader, key ed25519.PublicKey) (Report, error) {
	v := verifier{key: key, keyID: KeyID(key)}
	if len(key) != ed25519.PublicKeySize {
		return v.report, fmt.Errorf("public key of %d bytes, want %d", len(key), ed25519.PublicKeySize)
	}
	in := bufio.NewReaderSize(r, maxLine)
	for {
		text, err := in.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(text) == 0 {
			break
		}
		v.report.Lines++
		if errors.Is(err, bufio.ErrBufferFull) || errors.Is(err, io.EOF) {
			return v.report, v.broken("the line is cut off or too long")
		}
		if err != nil {
			return v.report, fmt.Errorf("read line %d: %w", v.report.Lines, err)
		}
		if err := v.line(text); err != nil {
			return v.report, err
		}
	}
	if v.report.Signed < v.report.Last || !v.ended {
		v.report.Lines++
		return v.report, v.broken("the end is not signed: lines are missing, or the export was interrupted")
	}
	return v.report, nil
}

type verifier struct {
	key    ed25519.PublicKey
	keyID  string
	report Report
	last   Hash
	// lastLine is the line of the event report.Last; sinceLine is the first line that no signature covers yet.
	lastLine, sinceLine int
	ended               bool
}

func (v *verifier) broken(format string, args ...any) error {
	return &BrokenError{Line: v.report.Lines, Seq: v.report.Last, Reason: fmt.Sprintf(format, args...)}
}

// wireLine is the line of an event or a mark.
type wireLine struct {
	Seq       int64           `json:"seq"`
	Prev      string          `json:"prev"`
	Hash      string          `json:"hash"`
	Event     json.RawMessage `json:"event"`
	Mark      string          `json:"mark"`
	Product   string          `json:"product"`
	Time      time.Time       `json:"time"`
	KeyID     string          `json:"keyID"`
	Signature []byte          `json:"signature"`
}

func (v *verifier) line(text []byte) error {
	if v.ended {
		return v.broken("lines were added after the signed end")
	}
	var w wireLine
	if err := json.Unmarshal(text, &w); err != nil {
		return v.broken("not a line of an export")
	}
	hash, ok := parseHash(w.Hash)
	if !ok {
		return v.broken("its hash is not one")
	}
	if w.Mark != "" {
		m := mark{kind: w.Mark, product: w.Product, seq: w.Seq, hash: hash, time: w.Time, keyID: w.KeyID, signature: w.Signature}
		// Encoded again it must be the same line: other spellings or duplicate keys hide nothing.
		if !bytes.Equal(m.appendLine(nil), text) {
			return v.broken("the line was changed")
		}
		return v.mark(&m)
	}
	prev, ok := parseHash(w.Prev)
	if !ok {
		return v.broken("its hash is not one")
	}
	r := row{seq: w.Seq, prev: prev, hash: hash, canonical: w.Event}
	if !bytes.Equal(r.appendLine(nil), text) {
		return v.broken("the line was changed")
	}
	return v.event(&r)
}

func parseHash(text string) (Hash, bool) {
	var h Hash
	if len(text) != hex.EncodedLen(len(h)) {
		return h, false
	}
	_, err := hex.Decode(h[:], []byte(text))
	return h, err == nil
}

func (v *verifier) event(r *row) error {
	if want := v.report.Last + 1; r.seq != want {
		return v.broken("event %d is here in place of %d: lines were removed, added or swapped", r.seq, want)
	}
	if link(r.prev, r.seq, r.canonical) != r.hash {
		return v.broken("event %d was changed", r.seq)
	}
	if r.prev != v.last {
		// This line is consistent: the previous one was replaced, including its hash.
		if v.lastLine > 0 {
			v.report.Lines = v.lastLine
			return v.broken("event %d was replaced", r.seq-1)
		}
		return v.broken("event %d does not follow the beginning: lines were removed", r.seq)
	}
	if v.report.Events == 0 {
		v.report.First = r.seq
	}
	v.report.Events++
	v.report.Last, v.last, v.lastLine = r.seq, r.hash, v.report.Lines
	if v.sinceLine == 0 {
		v.sinceLine = v.report.Lines
	}
	return nil
}

func (v *verifier) mark(m *mark) error {
	if m.keyID != v.keyID {
		return v.broken("signed with key %q, not with %s: another service's export, or a forged signature", m.keyID, v.keyID)
	}
	if !m.signedBy(v.key) {
		return v.broken("the signature does not hold")
	}
	switch m.kind {
	case markAnchor:
		if v.report.Lines != 1 {
			return v.broken("an anchor is only allowed at the beginning")
		}
		v.report.Anchored, v.report.Last, v.last = true, m.seq, m.hash
	case markCheckpoint, markHead:
		if m.seq != v.report.Last {
			return v.broken("signed at event %d, here after %d: lines were removed or swapped", m.seq, v.report.Last)
		}
		if m.hash != v.last {
			since := v.sinceLine
			v.report.Lines = max(since, 1)
			return v.broken("lines from here on were rewritten: the signature at event %d is of other lines", m.seq)
		}
		v.ended = m.kind == markHead
	default:
		return v.broken("unknown mark %q", m.kind)
	}
	v.report.Signatures++
	v.report.Signed, v.report.SignedAt, v.sinceLine = m.seq, m.time, 0
	return nil
}
