// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"
)

// maxError bounds the text of an error that is kept.
const maxError = 4 << 10

// row is a step, or an item of one, as it is stored.
type row struct {
	run           string
	step, item    int
	name          string
	phase         Phase
	attempt       int
	claims        int
	owner         string
	due           *time.Time
	resumable     bool
	input         json.RawMessage // of a forEach: its items. It is written once, when it is not nil
	output        json.RawMessage
	outputs       json.RawMessage
	detail        json.RawMessage
	resume        json.RawMessage
	failure       string
	started       *time.Time
	finished      *time.Time
	collect       bool // the output is the list of its items' outputs
	changed, made bool
}

// end gives the row its outcome. The owner stays: it is whose outcome this is.
func (r *row) end(phase Phase, now time.Time) {
	r.phase, r.due, r.resumable, r.resume, r.changed = phase, nil, false, nil, true
	r.finished = &now
}

// ready makes the row wait for somebody to claim it. An owner whose lease is over is kept: as long as nobody else took the
// step, its outcome is as good as any.
func (r *row) ready(due time.Time) {
	r.phase, r.resumable, r.changed = Ready, false, true
	r.due = &due
}

// line returns a text as PostgreSQL takes it, cut to what is worth keeping.
func line(text string) string {
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

// nullable returns nil for what is empty.
func nullable(data json.RawMessage) *string {
	if data == nil {
		return nil
	}
	text := string(data)
	return &text
}
