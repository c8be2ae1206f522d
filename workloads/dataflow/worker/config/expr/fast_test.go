// SPDX-License-Identifier: Apache-2.0

package expr_test

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/itechsmart/operator/workloads/dataflow/worker/config/expr"
)

// predicates are of the kind that is evaluated on bytes, without the interpreter.
var predicates = []string{
	`this.a == 1`, `this.a != 1`, `this.a > 1`, `this.a >= 1.5`, `1 < this.a`, `this.a <= 9007199254740993`, `this.a == 'x'`, `this.a < 'm'`,
	`this.a == null`, `this.a != null`, `this.a == true`, `this.a`, `!this.a`, `this.a in [1, 'x', 2.5, null, true]`, `this.a.startsWith('x')`,
	`this.a.endsWith('é')`, `this.a.contains('"')`, `has(this.a)`, `!has(this.a.b)`, `has(this.a.b) && this.a.b == 2`, `this.a.b.c == 'x' || this.a == 1`,
	`this.a > 1 && this.z == 1`, `this.z == 1 || this.a == 1`, `this["a"] == 1`, `this.a.b > 0 && this.a.c in ['x']`, `!(this.a == 1) && !has(this.z)`,
	`this.a == 1 && this.a == 1.0`, `this.a == this.b`, `this != 1`, `has(this.a) && this == this.b`, `has(this.z) ? false : true`, `this.a > 0.1 && (this.b == 'x' || this.b == 'y')`,
}

var documents = []string{
	`{"a":1}`, `{"a":1.0}`, `{"a":2,"b":"x"}`, `{"a":-0}`, `{"a":1e0}`, `{"a":9007199254740993}`, `{"a":9007199254740992}`, `{"a":99999999999999999999}`, `{"a":1e999}`,
	`{"a":"x"}`, `{"a":"\u0078"}`, `{"\u0061":1}`, `{"a":"x\"y"}`, `{"a":"\\"}`, `{"a":"\\\""}`, `{"a":"xé"}`, "{\"a\":\"x\xff\"}", `{"a":""}`, `{"a":true}`, `{"a":false}`, `{"a":null}`,
	`{"a":{}}`, `{"a":{"b":2}}`, `{"a":{"b":2,"c":"x"}}`, `{"a":{"b":{"c":"x"}}}`, `{"a":[]}`, `{"a":["x",1]}`, `{"a":[{"b":2}]}`, `{}`, `{"z":1}`, `{"b":"}","a":1}`, `{"b":"{[","c":[{"d":"]"}],"a":1}`,
	` { "a" : 1 , "b" : "x" } `, `{"a":1,}`, `{"a":1`, `{"a":1}}`, `{"a" 1}`, `{"a":}`, `{"a":tru}`, `{"a":01}`, `{"a":+1}`, `{"a":NaN}`, `{,}`, `{"b":x,"a":1}`, ``, `1`, `[1]`, `null`, `"a"`, `{"aa":1,"a":2}`,
	`{"a":1,"b":"x","c":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`,
}

// TestPredicatesOnBytes expects the same from bytes as from the decoded value. A value that is not
// JSON at all may pass on bytes only when what is read of it is well-formed.
func TestPredicatesOnBytes(t *testing.T) {
	for _, source := range predicates {
		program, err := expr.Compile(source, expr.Bool)
		if err != nil {
			t.Fatalf("%s: %v", source, err)
		}
		for _, document := range documents {
			agree(t, program, source, document)
		}
	}
}

func agree(t *testing.T, program *expr.Program, source, document string) {
	t.Helper()
	onBytes, bytesErr := program.EvalBool(raw(document))
	decoded := raw(document)
	if _, err := decoded.Tree(); err != nil {
		return
	}
	onTree, treeErr := program.EvalBool(decoded)
	switch {
	case (bytesErr == nil) != (treeErr == nil):
		t.Errorf("%s on %.80s: bytes give %v, %v, the tree %v, %v", source, document, onBytes, bytesErr, onTree, treeErr)
	case bytesErr == nil && onBytes != onTree:
		t.Errorf("%s on %.80s: bytes give %v, the tree %v", source, document, onBytes, onTree)
	case bytesErr != nil && bytesErr.Error() != treeErr.Error():
		t.Errorf("%s on %.80s: bytes give %v, the tree %v", source, document, bytesErr, treeErr)
	}
}

func TestCutDocumentsFail(t *testing.T) {
	program, err := expr.Compile(`this.a == 1`, expr.Bool)
	if err != nil {
		t.Fatal(err)
	}
	for _, document := range []string{``, ` `, `{`, `{"a":1`, `{"a":1,"b":"x`, `{"a":1]`, `"a"`, `{"b":1,"a`, `a`} {
		if got, err := program.EvalBool(raw(document)); err == nil {
			t.Errorf("%s gives %v", document, got)
		}
	}
}

func TestPredicateAllocatesNothing(t *testing.T) {
	program, err := expr.Compile(`this.price > 5.0 && this.customer.country == 'DE' && this.customer.tier in ['gold', 'silver']`, expr.Bool)
	if err != nil {
		t.Fatal(err)
	}
	v := raw(order)
	if allocations := testing.AllocsPerRun(100, func() {
		if keep, err := program.EvalBool(v); err != nil || !keep {
			t.Error(keep, err)
		}
	}); allocations > 0 {
		t.Errorf("got %v allocations", allocations)
	}
}

func FuzzPredicate(f *testing.F) {
	for i, document := range documents {
		f.Add(predicates[i%len(predicates)], document)
	}
	f.Fuzz(func(t *testing.T, source, document string) {
		program, err := expr.Compile(source, expr.Bool)
		if err != nil || strings.Contains(source, "now") {
			return
		}
		if !repeats(json.NewDecoder(strings.NewReader(document))) { // RFC 8259 leaves repeated names open
			agree(t, program, source, document)
		}
	})
}

// repeats reports whether an object has a name twice.
func repeats(decoder *json.Decoder) bool {
	type level struct {
		names map[string]bool
		key   bool
	}
	var open []level
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return false
		}
		if err != nil {
			return true
		}
		top := len(open) - 1
		if name, ok := token.(string); ok && top >= 0 && open[top].names != nil && open[top].key {
			if open[top].names[name] {
				return true
			}
			open[top].names[name], open[top].key = true, false
			continue
		}
		switch token {
		case json.Delim('{'):
			open = append(open, level{names: map[string]bool{}, key: true})
			continue
		case json.Delim('['):
			open = append(open, level{})
			continue
		case json.Delim('}'), json.Delim(']'):
			open, top = open[:top], top-1
		}
		if top >= 0 {
			open[top].key = true
		}
	}
}
