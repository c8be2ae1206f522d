// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"time"
)

// Hash is SHA-256 over the previous hash, the sequence number and the event's canonical JSON.
type Hash [sha256.Size]byte

func link(prev Hash, seq int64, canonical []byte) Hash {
	h := sha256.New()
	h.Write(prev[:])
	var number [8]byte
	binary.BigEndian.PutUint64(number[:], uint64(seq))
	h.Write(number[:])
	h.Write(canonical)
	return Hash(h.Sum(nil))
}

// Entry is an event in its place in the chain.
type Entry struct {
	Seq int64 `json:"seq" doc:"the event's place in the chain, from 1, without gaps"`
	Event
	// Prev and Hash are hexadecimal.
	Prev string `json:"prev"`
	Hash string `json:"hash"`
}

// row is an entry as stored in the database.
type row struct {
	seq        int64
	prev, hash Hash
	canonical  []byte
}

// appendLine appends the row as a line of an export, newline included. The verifier accepts only this form of a line.
func (r *row) appendLine(b []byte) []byte {
	b = append(b, `{"seq":`...)
	b = strconv.AppendInt(b, r.seq, 10)
	b = append(b, `,"prev":"`...)
	b = hex.AppendEncode(b, r.prev[:])
	b = append(b, `","hash":"`...)
	b = hex.AppendEncode(b, r.hash[:])
	b = append(b, `","event":`...)
	b = append(b, r.canonical...)
	return append(b, "}\n"...)
}

func (r *row) entry() (Entry, error) {
	e := Entry{Seq: r.seq, Prev: hex.EncodeToString(r.prev[:]), Hash: hex.EncodeToString(r.hash[:])}
	err := json.Unmarshal(r.canonical, &e.Event)
	return e, err
}

// Kinds of marks.
const (
	markHead       = "head"       // the chain ends here
	markAnchor     = "anchor"     // retention has deleted this event and those before
	markCheckpoint = "checkpoint" // the chain contains this event
)

// mark is a signed statement about one event of the chain.
type mark struct {
	kind, product string
	seq           int64
	hash          Hash
	time          time.Time
	keyID         string
	signature     []byte
}

// statement returns what is signed. A head and a checkpoint are signed alike; an anchor permits missing events, so it
// differs.
func (m *mark) statement() []byte {
	kind := m.kind
	if kind == markHead {
		kind = markCheckpoint
	}
	b := appendMember([]byte(`{"audit":"itechsmart.dev/v1",`), "hash", hex.EncodeToString(m.hash[:]))
	b = appendMember(append(b, ','), "kind", kind)
	b = appendMember(append(b, ','), "product", m.product)
	b = append(b, `,"seq":`...)
	b = strconv.AppendInt(b, m.seq, 10)
	b = appendMember(append(b, ','), "time", m.time.UTC().Format(timeFormat))
	return append(b, '}')
}

func (m *mark) sign(key ed25519.PrivateKey) {
	m.keyID = KeyID(key.Public().(ed25519.PublicKey))
	m.signature = ed25519.Sign(key, m.statement())
}

func (m *mark) signedBy(key ed25519.PublicKey) bool {
	return len(key) == ed25519.PublicKeySize && ed25519.Verify(key, m.statement(), m.signature)
}

// appendLine appends the mark as a line of an export, newline included.
func (m *mark) appendLine(b []byte) []byte {
	b = appendMember(append(b, '{'), "mark", m.kind)
	b = appendMember(append(b, ','), "product", m.product)
	b = append(b, `,"seq":`...)
	b = strconv.AppendInt(b, m.seq, 10)
	b = appendMember(append(b, ','), "hash", hex.EncodeToString(m.hash[:]))
	b = appendMember(append(b, ','), "time", m.time.UTC().Format(timeFormat))
	b = appendMember(append(b, ','), "keyID", m.keyID)
	b = appendMember(append(b, ','), "signature", base64.StdEncoding.EncodeToString(m.signature))
	return append(b, "}\n"...)
}

// KeyID returns the name of a public key: the first 8 bytes of its SHA-256, hexadecimal.
func KeyID(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:8])
}
