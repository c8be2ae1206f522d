// SPDX-License-Identifier: Apache-2.0

// Package batchid names a batch by its content and by where it came from, so that a
// destination can tell a repetition from an equal batch.
package batchid

import (
	"crypto/rand"
	"encoding/hex"
	"strconv"

	"github.com/zeebo/xxh3"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

// Namer names one sink's batches. Records without an origin are distinguished by the sink's own
// count: equal batches are no repetition there.
type Namer struct {
	nonce string
	done  uint64
}

// New makes a Namer whose count differs from every other's.
func New() *Namer {
	nonce := make([]byte, 8)
	_, _ = rand.Read(nonce) // never fails
	return &Namer{nonce: hex.EncodeToString(nonce)}
}

// ID returns 32 hexadecimal digits for a batch that is not empty; encoded is what is sent of it.
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

// Done counts a batch that is durable: the next one without origins is another.
func (n *Namer) Done() { n.done++ }
