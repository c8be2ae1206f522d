// SPDX-License-Identifier: Apache-2.0

package schema_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/itechsmart/operator/workloads/internal/schema"
)

const document = `{"type": "object", "required": ["name"], "additionalProperties": false, "properties": {
 "name": {"type": "string", "format": "ours", "minLength": 2}, "list": {"type": "array", "items": {"type": "integer"}}, "mode": {"enum": ["a", "b"], "default": "a"}}}`

func TestCheckNamesTheFieldAndQuotesNothing(t *testing.T) {
	s, err := schema.Compile(json.RawMessage(document), map[string]func(string) error{
		"ours": func(text string) error {
			if strings.Contains(text, "secret") {
				return errors.New("is not ours")
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for value, want := range map[string]string{
		`{"name": "ok", "list": [1], "mode": "b"}`: "[]",
		``:                                 "[at.name: is required]",
		`{"name": "secret"}`:               "[at.name: is not ours]",
		`{"name": "x"}`:                    "[at.name: want at least 2 characters]",
		`{"name": "ok", "list": [1, ""]}`:  "[at.list[1]: want integer, got string]",
		`{"name": "ok", "mode": "secret"}`: "[at.mode: want one of a, b]",
		`{"name": "ok", "a.b": 1}`:         `[at["a.b"]: is not a known field]`,
		`{`:                                "[at: is not valid JSON]",
	} {
		if got := fmt.Sprint(s.Check(json.RawMessage(value), "at")); got != want {
			t.Errorf("%s: got %s, want %s", value, got, want)
		}
	}
	if full, err := s.Defaults(json.RawMessage(`{"name": "ok"}`)); err != nil || string(full) != `{"mode":"a","name":"ok"}` {
		t.Error(string(full), err)
	}
	if _, err := schema.Compile(json.RawMessage(`{"$ref": "file:///etc/hostname"}`), nil); err == nil {
		t.Error("a reference to a file was followed")
	}
}
