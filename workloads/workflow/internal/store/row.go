// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"
)

// maxError bounds the stored text of an error, in bytes.
const maxError = 4 << 10

// row is the row of a step or item.
type row struct {
	run            string
	step, item     int
	name           string
	phase          Phase
	attempt        int
	claims         int
	owner          string
	due            *time.Time
	resumable      bool
	input          json.RawMessage // the items of a forEach; written once, if not nil
	output         json.RawMessage
	outputs        json.RawMessage
	detail         json.RawMessage
	resume         json.RawMessage
	failure        string
	started        *time.Time
	finished       *time.Time
	collect        bool // build the output from the items' outputs
	changed, isNew bool
}

// end records the outcome of the row. The owner stays: it is the claim that the outcome comes from.
func (r *row) end(phase Phase, now time.Time) {
	r.phase, r.due, r.resumable, r.resume, r.changed = phase, nil, false, nil, true
	r.finished = &now
}

// ready makes the row wait for a claim. The owner of an expired lease stays: until another worker claims the step, its outcome is
// accepted.
func (r *row) ready(due time.Time) {
	r.phase, r.resumable, r.changed = Ready, false, true
	r.due = &due
}

// clean returns a text that PostgreSQL accepts, cut to maxError.
func clean(text string) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "")
	if len(text) <= maxError {
		return text
	}
	cut := maxError
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}

// nullable returns nil for no data.
func nullable(data json.RawMessage) *string {
	if data == nil {
		return nil
	}
	text := string(data)
	return &text
}
