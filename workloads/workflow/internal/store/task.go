// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/itechsmart/operator/internal/backend"
)

// Task is a message in the queue: a step that a worker may claim. It may be delivered late and more than once.
type Task struct {
	Run  string `json:"run"`
	Step int    `json:"step"`
	Item int    `json:"item"` // -1 for the step itself
	// Workflow and Hash identify the definition, so that a worker can load it before it locks the run.
	Workflow string `json:"workflow"`
	Hash     string `json:"hash"`
}

// maxTask bounds a body, before it is parsed.
const maxTask = 1 << 10

// Body returns the task as a message.
func (t Task) Body() string {
	data, _ := json.Marshal(t) // strings and numbers cannot fail
	return string(data)
}

// ParseTask parses a message. It returns backend.ErrInvalid if no engine wrote it.
func ParseTask(body []byte) (Task, error) {
	t := Task{Step: -1, Item: -1}
	if len(body) > maxTask {
		return t, fmt.Errorf("task of %d bytes: %w", len(body), backend.ErrInvalid)
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&t)
	id, idErr := uuid.Parse(t.Run)
	if err = errors.Join(err, idErr); err != nil {
		return t, fmt.Errorf("task: %w: %w", backend.ErrInvalid, err)
	}
	if t.Workflow == "" || t.Hash == "" || t.Step < 0 || t.Item < wholeStep {
		return t, fmt.Errorf("task of workflow %q, definition %q, step %d, item %d: %w", t.Workflow, t.Hash, t.Step, t.Item, backend.ErrInvalid)
	}
	t.Run = id.String()
	return t, nil
}
