// SPDX-License-Identifier: Apache-2.0

// Package batchid names a batch by its content and origin, so that a destination can tell a repeated batch from
// another one with equal content.
package batchid

import (
	"crypto/rand"
	"encoding/hex"
	"strconv"

	"github.com/zeebo/xxh3"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

// Namer names one sink's batches. Records without an origin are distinguished by the sink's own count: equal
// batches are not duplicates there.
type Namer struct {
	nonce string
	done  uint64
}

// New returns a Namer whose count differs from every other's.
func New() *Namer {
	nonce := make([]byte, 8)
	_, _ = rand.Read(nonce) // never fails
	return &Namer{nonce: hex.EncodeToString(nonce)}
}

// ID returns 32 hexadecimal digits for a batch that is not empty; encoded is how it is sent.
func (n *Namer) ID(batch *record.Batch, encoded []byte) string {
	from, to := batch.Records[0].Origin, batch.Records[len(batch.Records)-1].Origin
	if from == "" || to == "" {
		from, to = n.nonce, strconv.FormatUint(n.done, 10)
	}
	sum := xxh3.New()
	_, _ = sum.Write(encoded)
	_, _ = sum.WriteString("\x00" + from + "\x00" + to)
	digest := sum.Sum128().Bytes()
	return hex.EncodeToString(digest[:])
}

// Done counts a durable batch, so that the next one without origins differs.
func (n *Namer) Done() { n.done++ }
