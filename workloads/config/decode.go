// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Decode parses one JSON document into the value that into points to, and returns the sorted paths of the keys that have no
// field there, such as auth.keys[*].curve: a newer controller wrote them, and they have no effect. A value of the wrong type,
// a second document and trailing text are errors.
func Decode(data []byte, into any) (unknown []string, err error) {
	if err := json.Unmarshal(data, into); err != nil {
		return nil, err
	}
	w := &walk{decoder: json.NewDecoder(bytes.NewReader(data))}
	if err := w.value(reflect.TypeOf(into), ""); err != nil {
		return nil, fmt.Errorf("list unknown keys: %w", err)
	}
	slices.Sort(w.unknown)
	return slices.Compact(w.unknown), nil
}

// walk goes through a document beside the type that it was decoded into.
type walk struct {
	decoder *json.Decoder
	unknown []string
}

// value reads one value, which is decoded into a t; nil: whatever is in it counts as known.
func (w *walk) value(t reflect.Type, path string) error {
	token, err := w.decoder.Token()
	if err != nil {
		return err
	}
	switch token {
	case json.Delim('{'):
		err = w.object(structure(t), path)
	case json.Delim('['):
		err = w.list(structure(t), path)
	default:
		return nil
	}
	if err != nil {
		return err
	}
	_, err = w.decoder.Token() // the closing delimiter
	return err
}

func (w *walk) object(t reflect.Type, path string) error {
	for w.decoder.More() {
		token, err := w.decoder.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string)
		var of reflect.Type
		at := join(path, "*")
		switch {
		case t != nil && t.Kind() == reflect.Map:
			of = t.Elem()
		case t != nil && t.Kind() == reflect.Struct:
			at = join(path, name)
			if of = field(t, name); of == nil {
				w.unknown = append(w.unknown, at)
			}
		}
		if err := w.value(of, at); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) list(t reflect.Type, path string) error {
	var of reflect.Type
	if t != nil && (t.Kind() == reflect.Slice || t.Kind() == reflect.Array) {
		of = t.Elem()
	}
	for w.decoder.More() {
		if err := w.value(of, path+"[*]"); err != nil {
			return err
		}
	}
	return nil
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// structure returns the type behind pointers; nil for one that decodes itself.
func structure(t reflect.Type) reflect.Type {
	for t != nil {
		p := reflect.PointerTo(t)
		if p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
			return nil
		}
		if t.Kind() != reflect.Pointer {
			return t
		}
		t = t.Elem()
	}
	return nil
}

// field returns the type of the field that encoding/json decodes a key into; nil: there is none. Case does not matter there.
func field(t reflect.Type, key string) reflect.Type {
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case !f.IsExported() || f.Tag.Get("json") == "-" || f.Anonymous && name == "":
			continue
		case name == "":
			name = f.Name
		}
		if strings.EqualFold(name, key) {
			return f.Type
		}
	}
	return nil
}
