// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"bytes"
	"reflect"
	"unicode/utf8"
	"unsafe"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"github.com/tidwall/gjson"

	"github.com/itechsmart/operator/workloads/dataflow/worker/config/tree"
)

// lazyObject is a JSON object that is still bytes: a selection scans for its field, and
// everything else decodes it. Malformed JSON beyond the fields that are read goes unnoticed.
type lazyObject struct {
	raw      []byte
	bindings *bindings
	root     bool
	decoded  traits.Mapper
}

// looksLikeObject is a cheap test that tells a whole object from cut or foreign data.
func looksLikeObject(raw []byte) bool {
	trimmed := bytes.TrimSpace(raw)
	return len(trimmed) > 1 && trimmed[0] == '{' && trimmed[len(trimmed)-1] == '}'
}

// text shares the bytes: a record's bytes are never changed in place.
func text(raw []byte) string { return unsafe.String(unsafe.SliceData(raw), len(raw)) }

// lookup finds a field of an object by its name, whatever characters it has.
func lookup(raw string, name string) gjson.Result {
	if plainName(name) {
		return gjson.Get(raw, name)
	}
	var found gjson.Result
	gjson.Parse(raw).ForEach(func(key, value gjson.Result) bool {
		if key.String() == name {
			found = value
			return false
		}
		return true
	})
	return found
}

// plainName: the name means itself as a gjson path.
func plainName(name string) bool {
	if name == "" {
		return false
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		if c != '_' && c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}

// Find gives one field.
func (o *lazyObject) Find(key ref.Val) (ref.Val, bool) {
	name, ok := key.(types.String)
	if !ok {
		return o.whole().Find(key)
	}
	result := lookup(text(o.raw), string(name))
	if !result.Exists() {
		if o.root && !gjson.ValidBytes(o.raw) {
			return o.notJSON(), false
		}
		return nil, false
	}
	return o.value(result), true
}

// notJSON lets the record's own decoder say what is wrong.
func (o *lazyObject) notJSON() ref.Val {
	_, err := o.bindings.view.Tree()
	if err == nil {
		return types.NewErr("no such key")
	}
	o.bindings.err = err
	return types.WrapErr(err)
}

func (o *lazyObject) value(result gjson.Result) ref.Val {
	switch result.Type {
	case gjson.Null:
		return types.NullValue
	case gjson.True:
		return types.True
	case gjson.False:
		return types.False
	case gjson.String:
		if !utf8.ValidString(result.Str) {
			return o.notJSON()
		}
		return types.String(result.Str)
	case gjson.Number:
		return number(result.Raw)
	default:
		raw := unsafe.Slice(unsafe.StringData(result.Raw), len(result.Raw))
		if len(raw) > 0 && raw[0] == '{' {
			return &lazyObject{raw: raw, bindings: o.bindings}
		}
		decoded, err := tree.Decode(raw)
		if err != nil {
			return o.notJSON()
		}
		return types.DefaultTypeAdapter.NativeToValue(decoded)
	}
}

// number gives a number's token the type that the decoder gives it.
func number(raw string) ref.Val {
	switch kind, whole, float := parseNumber(raw); kind {
	case scanInt:
		return types.Int(whole)
	case scanFloat:
		return types.Double(float)
	}
	return types.String(raw)
}

// tree returns the decoded object; the caller may keep it.
func (o *lazyObject) tree() (any, error) {
	return tree.Decode(o.raw)
}

// whole decodes the object, for what needs more than single fields.
func (o *lazyObject) whole() traits.Mapper {
	if o.decoded != nil {
		return o.decoded
	}
	o.decoded = emptyObject
	read := o.tree
	if o.root {
		read = o.bindings.view.Tree
	}
	decoded, err := read()
	if err != nil {
		if o.bindings.err == nil {
			o.bindings.err = err
		}
		return o.decoded
	}
	if mapper, ok := types.DefaultTypeAdapter.NativeToValue(decoded).(traits.Mapper); ok {
		o.decoded = mapper
	}
	return o.decoded
}

var emptyObject = types.NewStringInterfaceMap(types.DefaultTypeAdapter, map[string]any{})

func (o *lazyObject) Get(key ref.Val) ref.Val {
	value, found := o.Find(key)
	if !found && value == nil {
		return types.NewErr("no such key: %v", key)
	}
	return value
}

func (o *lazyObject) Contains(key ref.Val) ref.Val {
	value, found := o.Find(key)
	if value != nil && types.IsError(value) {
		return value
	}
	return types.Bool(found)
}

func (o *lazyObject) ConvertToNative(t reflect.Type) (any, error) {
	return o.whole().ConvertToNative(t)
}
func (o *lazyObject) ConvertToType(t ref.Type) ref.Val { return o.whole().ConvertToType(t) }
func (o *lazyObject) Equal(other ref.Val) ref.Val      { return o.whole().Equal(other) }
func (o *lazyObject) Iterator() traits.Iterator        { return o.whole().Iterator() }
func (o *lazyObject) Size() ref.Val                    { return o.whole().Size() }
func (o *lazyObject) Type() ref.Type                   { return types.MapType }
func (o *lazyObject) Value() any                       { return o.whole().Value() }

// String never shows content.
func (o *lazyObject) String() string { return "object" }
