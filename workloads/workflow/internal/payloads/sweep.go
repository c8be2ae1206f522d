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
	// minAge is the age below which a folder may belong to a run that is being started.
	minAge = time.Hour
	// sweepAtOnce is the number of folders per sweep.
	sweepAtOnce = 500
)

// Sweep deletes the folders that unused returns from their names, and returns their number. Folders younger than an hour and
// foreign folders stay. A crash at any point leaves nothing that a later sweep does not find.
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
			id, own := strings.CutPrefix(name, ours)
			if more = more && own; own && created(id).Before(now.Add(-minAge)) {
				old = append(old, id)
			}
		}
		if old, err = unused(ctx, old); err != nil {
			return deleted, err
		}
		for _, id := range old {
			if err := s.bucket.DeleteFolder(ctx, ours+id); err != nil {
				s.fail(ctx, opDelete, err)
				return deleted, fmt.Errorf("delete from object storage: %w", err)
			}
			s.counts.swept.Inc()
			deleted++
		}
	}
	return deleted, nil
}

// never is the creation time of a folder with a foreign name.
var never = time.Unix(1<<40, 0)

// created returns when the name of a folder was created.
func created(folder string) time.Time {
	id, err := uuid.Parse(folder)
	if err != nil || id.Version() != 7 || id.String() != folder {
		return never
	}
	return time.Unix(id.Time().UnixTime())
}
