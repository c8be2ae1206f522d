// SPDX-License-Identifier: Apache-2.0

package transform

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/zeebo/xxh3"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/internal/schema"
)

// AssignIDConfig configures the type assignId.
type AssignIDConfig struct {
	Field     schema.FieldPath `json:"field,omitempty" jsonschema:"description=The field that gets the identifier"`
	Key       bool             `json:"key,omitempty" jsonschema:"description=Use it as the record's key"`
	Kind      string           `json:"kind,omitempty" jsonschema:"enum=uuidv7,enum=uuidv4,enum=content,default=uuidv7,description=uuidv7 sorts by time; content is a hash of the value\\, the same when the record is read again"`
	Overwrite bool             `json:"overwrite,omitempty" jsonschema:"description=Replace an existing identifier"`
}

type idAssigner struct {
	field     *field
	key       bool
	kind      string
	overwrite bool
}

func assignIDSpec() Spec {
	return specOf("assignId", "Gives records an identifier: UUID version 4 or 7, or a hash of the content.", newAssignID)
}

func newAssignID(cfg AssignIDConfig, _ Env) (any, error) {
	if cfg.Field == "" && !cfg.Key {
		return nil, errors.New(": want 'field' or 'key'")
	}
	at, err := optionalField("field", cfg.Field)
	return &idAssigner{field: at, key: cfg.Key, kind: cfg.Kind, overwrite: cfg.Overwrite}, err
}

// Map assigns an identifier.
func (a *idAssigner) Map(_ context.Context, r *record.Record) error {
	id, err := a.make(r)
	if err != nil {
		return err
	}
	if a.field != nil {
		object, err := r.Object()
		if err != nil {
			return err
		}
		if current, ok := a.field.get(object); !ok || current == nil || a.overwrite {
			r.Changed()
			if err := a.field.set(object, id); err != nil {
				return err
			}
		}
	}
	if a.key && (len(r.Key) == 0 || a.overwrite) {
		r.Key = []byte(id)
	}
	return nil
}

func (a *idAssigner) make(r *record.Record) (string, error) {
	if a.kind == "content" {
		data, err := r.Bytes()
		if err != nil {
			return "", err
		}
		sum := xxh3.Hash128(data).Bytes()
		return hex.EncodeToString(sum[:]), nil
	}
	generate := uuid.NewV7
	if a.kind == "uuidv4" {
		generate = uuid.NewRandom
	}
	id, err := generate()
	if err != nil {
		return "", fmt.Errorf("generate an identifier: %w", err)
	}
	return id.String(), nil
}
