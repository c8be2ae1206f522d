// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
)

// scanLines passes each delimited piece of r, without its delimiter, in memory that is only valid during the
// call. Pieces over limit bytes go to tooLarge, which may end the scan.
func scanLines(ctx context.Context, r *bufio.Reader, delimiter []byte, limit int64, piece func(number int64, data []byte) error, tooLarge func(number int64) error) error {
	last := delimiter[len(delimiter)-1]
	var long []byte // a piece that does not fit the reader's buffer
	oversize := false
	for number := int64(1); ; {
		part, err := r.ReadSlice(last)
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) && !errors.Is(err, io.EOF) {
			return err
		}
		data := part
		if len(long) > 0 || err != nil || (len(delimiter) > 1 && !bytes.HasSuffix(part, delimiter)) {
			if !oversize {
				long = append(long, part...)
			}
			data = long
		}
		end := errors.Is(err, io.EOF)
		complete := err == nil && (bytes.HasSuffix(data, delimiter) || oversize)
		if complete {
			data = bytes.TrimSuffix(data, delimiter)
		}
		if int64(len(data)) > limit+int64(len(delimiter)) || (complete && int64(len(data)) > limit) || (end && int64(len(data)) > limit) {
			oversize = true
			long = long[:0]
		}
		if !complete && !end {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if oversize {
			if err := tooLarge(number); err != nil {
				return err
			}
		} else if complete || len(data) > 0 {
			if err := piece(number, data); err != nil {
				return err
			}
		}
		if end {
			return nil
		}
		long, oversize = long[:0], false
		number++
	}
}

// budget fails a read once more than left bytes were read since the last reset. It bounds what the parser above
// it can hold for one record.
type budget struct {
	r    io.Reader
	left int64
}

func (b *budget) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, ErrTooLarge
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.r.Read(p)
	b.left -= int64(n)
	return n, err
}

func atLine(number int64, err error) error { return fmt.Errorf("line %d: %w", number, err) }
