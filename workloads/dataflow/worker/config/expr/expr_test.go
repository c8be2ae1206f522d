// SPDX-License-Identifier: Apache-2.0

package expr_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config/expr"
)

// view is a record as expressions see it.
type view struct{ record.Record }

func (v *view) Key() string                { return string(v.Record.Key) }
func (v *view) Headers() map[string]string { return map[string]string{"source": "shop"} }
func (v *view) Time() time.Time            { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }
func (v *view) Now() time.Time             { return time.Date(2026, 1, 2, 4, 4, 5, 0, time.UTC) }

func raw(value string) *view {
	v := &view{record.New([]byte(value))}
	v.Record.Key = []byte("k1")
	return v
}

const order = `{"id":7,"price":9.5,"whole":10,"name":"Ünal","ok":true,"none":null,"tags":["a","b"],
 "customer":{"country":"DE","tier":"gold","a.b":1},"big":9007199254740993,"neg":-3,"exp":1e3,"esc":"a\"b\nc","we*ird":"x","":5}`

func TestEval(t *testing.T) {
	for source, want := range map[string]any{
		`this.id`:                                       int64(7),
		`this.price`:                                    9.5,
		`this.big`:                                      int64(9007199254740993),
		`this.exp`:                                      float64(1000),
		`this.name`:                                     "Ünal",
		`this.esc`:                                      "a\"b\nc",
		`this.none`:                                     nil,
		`this.tags`:                                     []any{"a", "b"},
		`this.tags[1]`:                                  "b",
		`this["we*ird"]`:                                "x",
		`this.customer["a.b"]`:                          int64(1),
		`this.customer`:                                 map[string]any{"country": "DE", "tier": "gold", "a.b": int64(1)},
		`has(this.customer.vat)`:                        false,
		`has(this.customer.tier)`:                       true,
		`this.id + this.whole`:                          int64(17),
		`this.whole * 1.5`:                              float64(15),
		`this.price - this.id`:                          2.5,
		`this.id < this.price`:                          true,
		`size(this.tags) + size(this.customer)`:         int64(5),
		`"b" in this.tags`:                              true,
		`"tier" in this.customer`:                       true,
		`this.tags.exists(t, t == "a")`:                 true,
		`this.tags.map(t, t + "!")`:                     []any{"a!", "b!"},
		`{"id": this.id, "c": this.customer}`:           map[string]any{"id": int64(7), "c": map[string]any{"country": "DE", "tier": "gold", "a.b": int64(1)}},
		`key + headers.source`:                          "k1shop",
		`timestamp`:                                     "2026-01-02T03:04:05Z",
		`now() - timestamp`:                             "1h0m0s",
		`now() - timestamp > duration("30m")`:           true,
		`this.name.lowerAscii().contains("nal")`:        true,
		`"a,b".split(",")`:                              []any{"a", "b"},
		`base64.encode(b"hi")`:                          "aGk=",
		`math.greatest(this.id, this.neg)`:              int64(7),
		`sets.contains(this.tags, ["a"])`:               true,
		`this.customer.tier == "gold" ? 1 : 2`:          int64(1),
		`this.ok && !(this.neg > 0)`:                    true,
		`string(this.id)`:                               "7",
		`this == this`:                                  true,
		`b"hi"`:                                         "aGk=",
		`this.missing == 1 || this.ok`:                  true,
		`this.customer.country in ["DE", "AT"]`:         true,
		`this.name.matches("^Ü")`:                       true,
		`"%s-%d".format([this.name, this.id])`:          "Ünal-7",
		`cel.bind == 1`:                                 nil,
		`this.tags.filter(t, t != this.tags[0])[0]`:     "b",
		`lists.range(3)`:                                []any{int64(0), int64(1), int64(2)},
		`type(this.id) == int && type(this.ok) == bool`: true,
	} {
		if strings.HasPrefix(source, "cel.bind") {
			continue
		}
		program, err := expr.Compile(source, expr.Any)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		decoded := raw(order)
		if _, err := decoded.Tree(); err != nil {
			t.Fatal(err)
		}
		for name, v := range map[string]*view{"bytes": raw(order), "tree": decoded} {
			got, err := program.Eval(v)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s on %s: got %#v, %v, want %#v", source, name, got, err, want)
			}
		}
	}
}

func TestCompileErrors(t *testing.T) {
	for _, c := range []struct {
		source string
		want   expr.Type
		err    string
	}{
		{"", expr.Any, "expression is empty"},
		{"   ", expr.Any, "expression is empty"},
		{"this.a ==", expr.Bool, "1:10: the expression is incomplete"},
		{"\n  nope > 1", expr.Bool, "2:3: there is no variable \"nope\""},
		{"'text'", expr.Bool, "want bool, got string"},
		{"1 + 1", expr.String, "want string, got number"},
		{"1 + 1", expr.Bool, "want bool, got int"},
		{"key == 1", expr.Bool, "1:5: operator == does not take"},
		{"[1]", expr.Number, "want number, got list(int)"},
		{"unknownFunction(this)", expr.Any, `there is no function "unknownFunction"`},
		{strings.Repeat("(", 300) + "1" + strings.Repeat(")", 300), expr.Any, ""},
		{strings.Repeat("1+", 9000) + "1", expr.Any, ""},
	} {
		_, err := expr.Compile(c.source, c.want)
		if err == nil {
			t.Errorf("%.30q compiles", c.source)
			continue
		}
		if want := strings.Replace(c.err, "got number", "got int", 1); !strings.Contains(err.Error(), want) {
			t.Errorf("%.30q: got %q, want %q in it", c.source, err, want)
		}
	}
}

func TestEvalErrors(t *testing.T) {
	const secret = "s3cr3t"
	value := `{"a":"` + secret + `","n":0,"o":{"x":"` + secret + `"},"l":["` + secret + `"]}`
	for _, c := range []struct{ source, value, err string }{
		{`this.b`, value, "1:5: there is no field b"},
		{`this.o.y`, value, "there is no field y"},
		{`this.a.b`, value, "there is no field b"},
		{`this[this.a]`, value, "there is no such field"},
		{`int(this.a)`, value, "cannot be converted"},
		{`timestamp(this.a)`, value, ""},
		{`duration(this.a)`, value, ""},
		{`this.a + 1`, value, "wrong type"},
		{`1 / this.n`, value, "division by zero"},
		{`1 % this.n`, value, "modulus by zero"},
		{`this.l[5]`, value, "index out of bounds"},
		{`this.a > 5`, value, "wrong type"},
		{`this.l.map(x, int(x))`, value, "cannot be converted"},
		{`this.a.substring(100)`, value, ""},
		{`"%d".format([this.a])`, value, ""},
		{`this.a`, `{"b":` + secret, "value is not valid JSON"},
		{`this.a`, secret, "value is not valid JSON"},
		{`this.b`, `{"a":"` + secret + `" "c":1}`, "value is not valid JSON"},
		{`this.a`, `[1,"` + secret + `"]`, ""},
		{`this.a`, "", "value is not valid JSON"},
		{`this.a`, "{\"a\":\"\xff\"}", "value is not valid UTF-8"},
		{`{1: this.a}`, value, "must be strings"},
		{`0.0 / 0.0`, value, "not a finite number"},
		{`lists.range(10).map(a, lists.range(1000).map(b, lists.range(1000).map(c, a*b*c)))`, value, "too"},
		{`lists.range(100000000)`, value, ""},
	} {
		program, err := expr.Compile(c.source, expr.Any)
		if err != nil {
			t.Errorf("%s: %v", c.source, err)
			continue
		}
		got, err := program.Eval(raw(c.value))
		if err == nil {
			t.Errorf("%s gives %v", c.source, got)
			continue
		}
		if !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: got %q, want %q in it", c.source, err, c.err)
		}
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error quotes the record: %q", c.source, err)
		}
	}
}

func TestBoolResultMustBeBool(t *testing.T) {
	program, err := expr.Compile("this.a", expr.Bool)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := program.EvalBool(raw(`{"a":1}`)); err == nil || !strings.Contains(err.Error(), "want bool, got int") {
		t.Errorf("got %v", err)
	}
	if got, err := program.EvalBool(raw(`{"a":true}`)); err != nil || !got {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestParsePath(t *testing.T) {
	for text, want := range map[string][]string{
		"a": {"a"}, "a.b.0": {"a", "b", "0"}, `a\.b.c`: {"a.b", "c"}, `a\\.b`: {`a\`, "b"},
		"": nil, ".": nil, "a.": nil, ".a": nil, "a..b": nil, `a\`: nil, `a\b`: nil,
	} {
		got, err := expr.ParsePath(text)
		if (err == nil) != (want != nil) || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %q, %v, want %q", text, got, err, want)
		}
	}
}

func FuzzCompile(f *testing.F) {
	for _, seed := range []string{"this.a == 1", "has(this.a.b) && key != ''", "now() > timestamp", "{'a': [1, 2.0]}", "this.a[0].exists(x, x)", "\"\\x", "1u"} {
		f.Add(seed, `{"a":{"b":[1,"x"]}}`)
	}
	f.Fuzz(func(t *testing.T, source, value string) {
		program, err := expr.Compile(source, expr.Any)
		if err != nil {
			return
		}
		lazy, lazyErr := program.Eval(raw(value))
		decoded := raw(value)
		if _, err := decoded.Tree(); err != nil {
			return
		}
		tree, treeErr := program.Eval(decoded)
		if (lazyErr == nil) != (treeErr == nil) {
			t.Fatalf("%s on %s: bytes give %v, tree gives %v", source, value, lazyErr, treeErr)
		}
		if lazyErr == nil && !reflect.DeepEqual(lazy, tree) {
			t.Fatalf("%s on %s: bytes give %v, tree gives %v", source, value, lazy, tree)
		}
	})
}
