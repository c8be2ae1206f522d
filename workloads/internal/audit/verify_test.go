// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// chainOf returns an export of n events with a checkpoint after event 5, as lines.
func chainOf(n int) []string {
	var lines []string
	var prev Hash
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	sign := func(kind string, seq int64) {
		m := mark{kind: kind, product: "vault", seq: seq, hash: prev, time: at}
		m.sign(testKey)
		lines = append(lines, string(m.appendLine(nil)))
	}
	for seq := int64(1); seq <= int64(n); seq++ {
		e := event(int(seq))
		normalize(&e, at)
		r := extend(seq-1, prev, [][]byte{appendCanonical(nil, &e)})[0]
		lines = append(lines, string(r.appendLine(nil)))
		prev = r.hash
		if seq == 5 {
			sign(markCheckpoint, seq)
		}
	}
	sign(markHead, int64(n))
	return lines
}

// rewritten returns the export after an attacker without the key has changed event seq and linked all later ones again.
func rewritten(lines []string, seq int64) []string {
	var prev Hash
	for i, line := range lines {
		var w wireLine
		if err := json.Unmarshal([]byte(line), &w); err != nil {
			panic(err)
		}
		if w.Mark != "" {
			continue
		}
		if w.Seq == seq {
			w.Event = bytes.Replace(w.Event, []byte("ada@"), []byte("eve@"), 1)
		}
		r := extend(w.Seq-1, prev, [][]byte{w.Event})[0]
		lines[i], prev = string(r.appendLine(nil)), r.hash
	}
	return lines
}

func TestVerifyNamesTheFirstWrongLine(t *testing.T) {
	public := testKey.Public().(ed25519.PublicKey)
	good := chainOf(10) // lines 1-5 events, 6 a checkpoint, 7-11 events, 12 the head
	if _, err := Verify(strings.NewReader(strings.Join(good, "")), public); err != nil {
		t.Fatal(err)
	}
	forge := func(line, text string) string { // one event and its own hash
		var w wireLine
		if err := json.Unmarshal([]byte(line), &w); err != nil {
			t.Fatal(err)
		}
		prev, _ := parseHash(w.Prev)
		event := bytes.Replace(w.Event, []byte("ada@"), []byte(text), 1)
		r := row{seq: w.Seq, prev: prev, hash: link(prev, w.Seq, event), canonical: event}
		return string(r.appendLine(nil))
	}
	for _, c := range []struct {
		name   string
		line   int
		change func([]string) []string
	}{
		{"a user changed", 3, func(l []string) []string { l[2] = strings.Replace(l[2], "ada@", "eve@", 1); return l }},
		{"a user and the hash changed", 3, func(l []string) []string { l[2] = forge(l[2], "eve@"); return l }},
		{"the last event and its hash changed", 7, func(l []string) []string { l[10] = forge(l[10], "eve@"); return l }},
		{"a member added", 3, func(l []string) []string { l[2] = strings.Replace(l[2], `{"seq"`, `{"x":1,"seq"`, 1); return l }},
		{"a double member", 3, func(l []string) []string { l[2] = strings.Replace(l[2], `{"seq"`, `{"event":{},"seq"`, 1); return l }},
		{"white space", 3, func(l []string) []string { l[2] = strings.Replace(l[2], `{"seq"`, `{ "seq"`, 1); return l }},
		{"an event removed", 4, func(l []string) []string { return slices.Delete(l, 3, 4) }},
		{"the first removed", 1, func(l []string) []string { return l[1:] }},
		{"two swapped", 2, func(l []string) []string { l[1], l[3] = l[3], l[1]; return l }},
		{"one repeated", 3, func(l []string) []string { return slices.Insert(l, 2, l[1]) }},
		{"one inserted after the head", 13, func(l []string) []string { return append(l, l[10]) }},
		{"the last event removed", 11, func(l []string) []string { return slices.Delete(l, 10, 11) }},
		{"the head removed", 12, func(l []string) []string { return l[:11] }},
		{"cut after a checkpoint", 7, func(l []string) []string { return l[:6] }},
		{"a line cut", 9, func(l []string) []string { l[8] = l[8][:len(l[8])/2]; return l[:9] }},
		{"a signature changed", 6, func(l []string) []string { l[5] = strings.Replace(l[5], "2026", "2027", 1); return l }},
		{"no line at all", 2, func(l []string) []string { l[1] = "{}\n"; return l }},
		{"not JSON", 2, func(l []string) []string { l[1] = "][\n"; return l }},
		{"rewritten before the checkpoint", 1, func(l []string) []string { return rewritten(l, 3) }},
		{"rewritten after the checkpoint", 7, func(l []string) []string { return rewritten(l, 8) }},
		{"nothing", 1, func([]string) []string { return nil }},
	} {
		_, err := Verify(strings.NewReader(strings.Join(c.change(slices.Clone(good)), "")), public)
		var broken *BrokenError
		if !errors.As(err, &broken) {
			t.Errorf("%s: %v, want a broken chain", c.name, err)
			continue
		}
		if broken.Line != c.line {
			t.Errorf("%s: line %d (%s), want line %d", c.name, broken.Line, broken.Reason, c.line)
		}
	}
	stranger := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public().(ed25519.PublicKey)
	if _, err := Verify(strings.NewReader(strings.Join(good, "")), stranger); err == nil {
		t.Error("another key verifies")
	}
	if _, err := Verify(strings.NewReader(""), nil); err == nil {
		t.Error("no key verifies")
	}
}

// Canonical JSON equals encoding/json's, with sorted keys, whatever a client sends.
func TestCanonical(t *testing.T) {
	for _, text := range []string{
		"", "plain", `"quoted"\`, "line\nbreak\r\t\b\f\x01\x1f", "<html>&", "umlaut ü, astral 𝒳, separator \u2028", "nul\x00", "broken \xff\xfe",
		strings.Repeat("ü", 2000),
	} {
		e := event(1)
		e.UserAgent, e.Object, e.Details = text, text, map[string]string{text: text, "b": "1", "a": "2"}
		normalize(&e, time.Now())
		line := appendCanonical(nil, &e)
		if bytes.ContainsAny(line, "\n\x00") {
			t.Errorf("%q: a line of %q", text, line)
		}
		var back Event
		if err := json.Unmarshal(line, &back); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if !reflect.DeepEqual(back, e) {
			t.Errorf("%q: back %+v, want %+v", text, back, e)
		}
		var generic map[string]any
		if err := json.Unmarshal(line, &generic); err != nil {
			t.Fatal(err)
		}
		var sorted bytes.Buffer
		encoder := json.NewEncoder(&sorted)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(generic); err != nil {
			t.Fatal(err)
		}
		want := strings.NewReplacer("\\u2028", "\u2028").Replace(strings.TrimSuffix(sorted.String(), "\n"))
		if string(line) != want {
			t.Errorf("canonical %s\nwant %s", line, want)
		}
		if len(line) > 16*1024*6 {
			t.Errorf("an event of %d bytes", len(line))
		}
	}
}

func TestNormalize(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 123456789, time.FixedZone("x", 3600))
	details := map[string]string{}
	for i := range 100 {
		details[fmt.Sprint(i)] = "x"
	}
	e := Event{Details: details}
	normalize(&e, now)
	if e.User != "anonymous" || len(e.Details) != maxDetails || !e.Time.Equal(now.Truncate(time.Microsecond)) || e.Time.Location() != time.UTC {
		t.Errorf("normalized %+v", e)
	}
	if len(details) != 100 {
		t.Error("the caller's map was changed")
	}
}

func FuzzVerify(f *testing.F) {
	good := strings.Join(chainOf(7), "")
	f.Add(good)
	f.Add(strings.Replace(good, "ada@", "eve@", 1))
	f.Add(good[:len(good)/2])
	public := testKey.Public().(ed25519.PublicKey)
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := Verify(strings.NewReader(text), public); err == nil && text != good {
			t.Errorf("%q verifies", text)
		}
	})
}

func FuzzSpoolLine(f *testing.F) {
	f.Add(appendLine(nil, 7, []byte(`{"a":1}`)))
	f.Add([]byte("7 zz {}\n"))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, ok := parseLine(line)
		if !ok {
			return
		}
		if again, ok := parseLine(appendLine(nil, r.number, r.payload)); !ok || again.number != r.number || !bytes.Equal(again.payload, r.payload) {
			t.Errorf("line %q: %v, again %v", line, r, again)
		}
	})
}
