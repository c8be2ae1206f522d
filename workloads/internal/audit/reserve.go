// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"fmt"
)

// reservedBytes is room for one event of a usual size.
const reservedBytes = 4 << 10

// Reservation is room in the spill for one event, taken before something is done that must not happen without it.
type Reservation struct {
	log  *Log
	open bool
}

// Reserve takes room for one event, or answers ErrFull: then nothing must be done. Release it, or Record with it.
func (l *Log) Reserve() (*Reservation, error) {
	if err := l.spool.reserve(reservedBytes); err != nil {
		l.metrics.refused.Inc()
		return nil, err
	}
	return &Reservation{log: l, open: true}, nil
}

// Record appends the event of what was done. It fails only when the disk does.
func (r *Reservation) Record(_ context.Context, event Event) error {
	if !r.open {
		return fmt.Errorf("%w: the reservation is used", ErrFull)
	}
	r.open = false
	return r.log.record(event, reservedBytes)
}

// Release gives the room back, unless it was used.
func (r *Reservation) Release() {
	if r.open {
		r.open = false
		r.log.spool.release(reservedBytes)
	}
}
