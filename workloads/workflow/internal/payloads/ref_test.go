// SPDX-License-Identifier: Apache-2.0

package payloads_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"strconv"
	"strings"
	"testing"

	"github.com/itechsmart/operator/internal/backend/s3"
	"github.com/itechsmart/operator/workloads/workflow/internal/payloads"
)

func newStore(t testing.TB) (*payloads.Store, *s3.Fake) {
	t.Helper()
	bucket := s3.NewFake()
	return payloads.New(bucket, func(context.Context) (string, error) { return "owner", nil }, slog.New(slog.DiscardHandler)), bucket
}

const folder = "019a0000-0000-7000-8000-000000000001"

func put(t testing.TB, s *payloads.Store, value string) json.RawMessage {
	t.Helper()
	ref, err := s.Put(t.Context(), folder, "x", json.RawMessage(value), nil)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func TestCheckValue(t *testing.T) {
	s, _ := newStore(t)
	for _, value := range []string{
		`{"$object":{"key":"a/b","bytes":1,"sha256":""}}`, `{"$object":null}`, ` { "$object" : 1 } `, `{"\u0024object":1}`, `{"$object":1,"$object":2}`,
		string(put(t, s, `1`)),
	} {
		if payloads.CheckValue(json.RawMessage(value)) == nil {
			t.Errorf("CheckValue allows %s", value)
		}
	}
	for _, value := range []string{`{"$object":1,"a":2}`, `{"a":2,"$object":1}`, `[{"$object":1}]`, `{"a":{"$object":1}}`, `"$object"`, `null`, `1`, `{}`, ``} {
		if err := payloads.CheckValue(json.RawMessage(value)); err != nil {
			t.Errorf("%s: %v", value, err)
		}
	}
}

func TestCheckEach(t *testing.T) {
	forged := map[string]any{"$object": 1}
	for _, values := range []map[string]any{{"$object": 1}, {"a": forged}, {"a": 1, "b": forged}} {
		if payloads.CheckEach(values) == nil {
			t.Errorf("CheckEach allows %v", values)
		}
	}
	for _, values := range []map[string]any{nil, {"$object": 1, "a": 2}, {"a": []any{forged}}, {"a": map[string]any{"$object": 1, "b": 2}}} {
		if err := payloads.CheckEach(values); err != nil {
			t.Errorf("%v: %v", values, err)
		}
	}
}

// TestParseRefuses: Parse rejects invalid and foreign references, and never returns them as values.
func TestParseRefuses(t *testing.T) {
	for _, inner := range []string{
		`null`, `1`, `{}`, `{"key":"` + folder + `/x","bytes":0,"sha256":"s"}`, `{"key":"` + folder + `","bytes":1,"sha256":"s"}`,
		`{"key":"` + folder + `/x/y","bytes":1,"sha256":"s"}`, `{"key":"` + folder + `/../x","bytes":1,"sha256":"s"}`,
		`{"key":"019a0000-0000-7000-8000-000000000002/x","bytes":1,"sha256":"s"}`, `{"key":"` + folder + `/x","bytes":1,"sha256":"s","more":1}`,
	} {
		if _, err := payloads.Parse(json.RawMessage(`{"$object":`+inner+`}`), false, []string{folder}); err == nil {
			t.Errorf("%s was accepted", inner)
		}
	}
}

func TestWholeAndSummary(t *testing.T) {
	s, bucket := newStore(t)
	big := `"` + strings.Repeat("x", 100) + `"`
	one, two := put(t, s, big), put(t, s, `{"n":1}`)
	list := json.RawMessage(`[` + string(one) + `, 1, ` + string(two) + `, {"$object":{}, "a":1}]`)
	forged := json.RawMessage(`[{"$object":{"key":"019a0000-0000-7000-8000-000000000002/x","bytes":1,"sha256":"s"}}]`)
	folders := []string{folder}
	href := func(item int) string { return "/at/" + strconv.Itoa(item) }
	for name, c := range map[string]struct {
		data           json.RawMessage
		list           bool
		whole, summary string
	}{
		"a value":                     {json.RawMessage(`{"a":1}`), false, `{"a":1}`, `{"a":1}`},
		"a reference":                 {one, false, big, `{"$object":{"bytes":102,"href":"/at/-1"}}`},
		"a list of them":              {list, true, `[` + big + `,1,{"n":1},{"$object":{},"a":1}]`, `[{"$object":{"bytes":102,"href":"/at/0"}},1,{"$object":{"bytes":7,"href":"/at/2"}},{"$object":{},"a":1}]`},
		"a list that a step returned": {forged, false, string(forged), string(forged)},
		"nothing":                     {nil, false, ``, ``},
	} {
		reader := s.Reader(t.Context(), folders, 1000, nil)
		whole, err := reader.Whole(c.data, c.list)
		reader.Close()
		if err != nil || string(whole) != c.whole {
			t.Errorf("%s: whole = %s, %v", name, whole, err)
		}
		if got := payloads.Summary(c.data, folders, href); string(got) != c.summary {
			t.Errorf("%s: summary = %s, want %s", name, got, c.summary)
		}
	}
	if _, err := s.Reader(t.Context(), folders, 1000, nil).Whole(forged, true); err == nil {
		t.Error("an item of another run was accepted")
	}
	bucket.Fail("Get", context.Canceled)
	if _, err := s.Reader(t.Context(), folders, 1000, nil).Whole(one, false); err == nil {
		t.Error("a value was read without a store")
	}
}

// TestRequestsTakeTurns: only a few API requests read at a time; steps do not wait for them.
func TestRequestsTakeTurns(t *testing.T) {
	s, bucket := newStore(t)
	ref := put(t, s, `"x"`)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var readers []*payloads.Reader
	for {
		r := s.Reader(t.Context(), []string{folder}, 1000, nil)
		if len(readers) == 4 {
			cancel()
			r = s.Reader(ctx, []string{folder}, 1000, nil)
		}
		if _, err := r.Whole(ref, false); err != nil {
			break
		}
		readers = append(readers, r)
	}
	if len(readers) != 4 || bucket.Calls("Get") != 4 {
		t.Fatalf("%d readers at a time", len(readers))
	}
	step := s.Reader(t.Context(), []string{folder}, 1000, func(context.Context, int) bool { return false })
	if _, err := step.Whole(ref, false); err != nil {
		t.Errorf("a step waits for requests: %v", err)
	}
	readers[0].Close()
	readers[0].Close()
	if _, err := s.Reader(t.Context(), []string{folder}, 1000, nil).Whole(ref, false); err != nil {
		t.Error(err)
	}
}

// FuzzCheckValue: an allowed value is never parsed as a reference, and its summary is unchanged.
func FuzzCheckValue(f *testing.F) {
	for _, seed := range []string{`{"$object":1}`, ` {"\u0024object":{"key":"` + folder + `/x","bytes":1,"sha256":"s"}}`, `{"$object":1,"$object":2}`, `[{"$object":1}]`, `{`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		data := json.RawMessage(value)
		if !json.Valid(data) || payloads.CheckValue(data) != nil {
			return
		}
		s, bucket := newStore(t)
		whole, err := s.Reader(t.Context(), []string{folder}, 1<<20, nil).Whole(data, false)
		if err != nil && len(data) > 0 && json.Valid(data) && !strings.Contains(err.Error(), "number") {
			t.Errorf("%s: %v", data, err)
		}
		if err == nil && string(whole) != value || bucket.Total() > 0 {
			t.Errorf("%s was parsed as %s", value, whole)
		}
	})
}
