// SPDX-License-Identifier: Apache-2.0

package payloads

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
)

const (
	// young is the age up to which a folder may belong to a run that is being started.
	young = time.Hour
	// sweepAtOnce is the number of folders per sweep.
	sweepAtOnce = 500
)

// Sweep deletes the folders that nothing refers to, as unused says of their names, and tells how many. Younger ones than an
// hour stay, and so does what is no folder of ours. A crash at any place leaves nothing that it does not find.
func (s *Store) Sweep(ctx context.Context, now time.Time, unused func(context.Context, []string) ([]string, error)) (deleted int, err error) {
	ours, err := s.folder(ctx, "")
	if err != nil {
		return 0, err
	}
	for after, more := ours, true; more; {
		var names []string
		if names, more, err = s.bucket.Folders(ctx, after, sweepAtOnce); err != nil {
			s.fail(ctx, opList, err)
			return deleted, fmt.Errorf("list object storage: %w", err)
		}
		var old []string
		for _, name := range names {
			after = name
			id, mine := strings.CutPrefix(name, ours)
			if more = more && mine; mine && made(id).Before(now.Add(-young)) {
				old = append(old, id)
			}
		}
		if old, err = unused(ctx, old); err != nil {
			return deleted, err
		}
		for _, id := range old {
			if err := s.bucket.DeleteFolder(ctx, ours+id); err != nil {
				s.fail(ctx, opDelete, err)
				return deleted, fmt.Errorf("empty object storage: %w", err)
			}
			s.counts.swept.Inc()
			deleted++
		}
	}
	return deleted, nil
}

// never is the time for a folder that this package did not name.
var never = time.Unix(1<<40, 0)

// made returns when a folder was named.
func made(folder string) time.Time {
	id, err := uuid.Parse(folder)
	if err != nil || id.Version() != 7 || id.String() != folder {
		return never
	}
	return time.Unix(id.Time().UnixTime())
}
