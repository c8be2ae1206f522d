// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"fmt"
)

// reservedBytes is room for one event of a usual size.
const reservedBytes = 4 << 10

// Reservation is room in the spill for one event, reserved before an action that must not happen without it.
type Reservation struct {
	log  *Log
	open bool
}

// Reserve reserves room for one event, or returns ErrFull: then nothing must be done. Release it, or Record with it.
func (l *Log) Reserve() (*Reservation, error) {
	if err := l.spool.reserve(reservedBytes); err != nil {
		l.metrics.refused.Inc()
		return nil, err
	}
	return &Reservation{log: l, open: true}, nil
}

// Record appends the event of the action. It fails only if the disk does.
func (r *Reservation) Record(_ context.Context, event Event) error {
	if !r.open {
		return fmt.Errorf("%w: the reservation is used", ErrFull)
	}
	r.open = false
	return r.log.record(event, reservedBytes)
}

// Release returns the room, unless it was used.
func (r *Reservation) Release() {
	if r.open {
		r.open = false
		r.log.spool.release(reservedBytes)
	}
}
