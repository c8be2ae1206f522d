// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// full returns a configuration with a value in every field, also in those that a later version adds.
func full(t testing.TB) *Service {
	t.Helper()
	s := &Service{}
	fill(t, reflect.ValueOf(s).Elem())
	s.Settings = json.RawMessage(`{"shares":5,"nested":{"empty":{},"list":[],"text":"a<b"}}`)
	return s
}

func fill(t testing.TB, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(t, v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(t, key)
		fill(t, value)
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint8:
		v.Set(reflect.ValueOf(7).Convert(v.Type()))
	default:
		t.Fatalf("nothing fills a %s", v.Type())
	}
}

func TestLoadRefuses(t *testing.T) {
	good, err := json.Marshal(full(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"nothing": "", "no JSON": "canary", "two documents": string(good) + "{}", "text after it": string(good) + "x",
		"a number for a text": `{"product":1}`, "a text for a number": `{"generation":"1"}`, "no duration": `{"auth":{"accessTTL":"soon"}}`, "a list": "[]",
		"a wrong type beside an unknown key": `{"canary":1,"product":1}`,
	} {
		if s, unknown, err := load(t, []byte(text)); err == nil || s != nil || unknown != nil || !strings.Contains(err.Error(), FileName) {
			t.Errorf("%s: %+v, %q, %v", name, s, unknown, err)
		}
	}
	if _, _, err := Load(t.TempDir()); err == nil {
		t.Error("a directory without the file is accepted")
	}
}

// own is a product's own part.
type own struct {
	Shares int `json:"shares,omitempty"`
	Nested *struct {
		Empty struct{}       `json:"empty"`
		List  []struct{}     `json:"list"`
		Text  string         `json:"text"`
		Times map[string]int `json:"times,omitempty"`
	} `json:"nested,omitempty"`
}

// An older version starts on a newer one's file, and lists what it does not know, at every level, without values.
func TestUnknownKeys(t *testing.T) {
	data, err := json.Marshal(full(t))
	if err != nil {
		t.Fatal(err)
	}
	if s, unknown, err := load(t, data); err != nil || len(unknown) > 0 {
		t.Fatalf("a file of known keys: %q, %v\n%+v", unknown, err, s)
	}
	var file map[string]any
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	want := addKeys(file, "")
	file["settings"] = map[string]any{"shares": 3, "newer": "canary", "nested": map[string]any{"text": "a", "newer": []any{"canary"}, "times": map[string]any{"any": 1}}}
	data, err = json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	s, unknown, err := load(t, data)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(want)
	if want = slices.Compact(want); !slices.Equal(unknown, want) || len(want) < 16 {
		t.Errorf("unknown:\n%q, want\n%q", unknown, want)
	}
	expected := full(t)
	expected.Settings = s.Settings
	if !reflect.DeepEqual(s, expected) {
		t.Errorf("what is known has changed: %+v", s)
	}
	settings, unknown, err := Settings[own](s)
	if err != nil || settings.Shares != 3 || settings.Nested.Text != "a" || !slices.Equal(unknown, []string{"settings.nested.newer", "settings.newer"}) {
		t.Errorf("settings %+v, unknown %q, %v", settings, unknown, err)
	}
}

// addKeys adds an unknown key to every object that is decoded into a struct, and returns their paths.
func addKeys(v any, path string) (paths []string) {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if path == "" && key == "settings" {
				continue
			}
			paths = append(paths, addKeys(value, join(path, key))...)
		}
		if _, isMap := v["text"]; !isMap { // the one key of a map
			v["newer"] = map[string]any{"deep": "canary"}
			paths = append(paths, join(path, "newer"))
		}
	case []any:
		for _, item := range v {
			paths = append(paths, addKeys(item, path+"[*]")...)
		}
	}
	return paths
}

func TestSettings(t *testing.T) {
	for _, none := range []string{"", "null", "{}"} {
		if settings, unknown, err := Settings[own](&Service{Settings: json.RawMessage(none)}); err != nil || len(unknown) > 0 || settings != (own{}) {
			t.Errorf("%q: %+v, %q, %v", none, settings, unknown, err)
		}
	}
	for _, wrong := range []string{`{"shares":"five"}`, "[]", "1"} {
		if _, _, err := Settings[own](&Service{Settings: json.RawMessage(wrong)}); err == nil || !strings.Contains(err.Error(), "settings in "+FileName) {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}

// A configuration that is read and written again has the same bytes: the controller compares hashes.
func TestStable(t *testing.T) {
	first, err := json.MarshalIndent(full(t), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	s, _, err := load(t, first)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := json.MarshalIndent(s, "", "  "); err != nil || !bytes.Equal(first, second) {
		t.Errorf("%s\ncomes back as\n%s, %v", first, second, err)
	}
}

// FuzzLoad: what Load accepts is one JSON object, and comes back the same, without unknown keys.
func FuzzLoad(f *testing.F) {
	data, err := json.Marshal(full(f))
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{string(data), "{}", "null", "[]", "", `{"auth":{"accessTTL":"-1h"}}`, `{"auth":{"accessTTL":"1h","accessTTL":""}}`, `{}{}`, `{"Product":"a"}`, `{"settings":null}`, `{"settings":[{"a":1}]}`, `{"canary":{"a":[{}]}}`, `{"auth":{"keys":[{"a":1},null]}}`, "{\"product\":\"\xff\"}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, _, err := load(t, data)
		if err != nil {
			return
		}
		if !json.Valid(data) {
			t.Fatalf("%q is accepted", data)
		}
		once, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		again, unknown, err := load(t, once)
		if err != nil || len(unknown) > 0 {
			t.Fatalf("%s: unknown %q, %v", once, unknown, err)
		}
		if twice, err := json.Marshal(again); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%s comes back as %s, %v", once, twice, err)
		}
	})
}

func load(t *testing.T, data []byte) (*Service, []string, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, FileName), data, 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(dir)
}
