// SPDX-License-Identifier: Apache-2.0

package script_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	starjson "go.starlark.net/lib/json"
	starmath "go.starlark.net/lib/math"
	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"github.com/itechsmart/operator/workloads/workflow/internal/script"
)

var data = map[string]any{
	"inputs":  map[string]any{"name": "it", "n": int64(7), "list": []any{int64(1), 2.5, nil, true, "x"}, "empty": map[string]any{}},
	"steps":   map[string]any{"fetch": map[string]any{"output": map[string]any{"status": int64(200)}}},
	"item":    "thing",
	"index":   int64(3),
	"run":     map[string]any{"id": "r1"},
	"trigger": map[string]any{"headers": map[string]string{"a": "b"}, "at": time.Time{}, "scheduledAt": time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
}

func TestRun(t *testing.T) {
	for _, test := range []struct {
		name, source string
		want         any
	}{
		{"main", "def main(inputs, steps, item, index, run, trigger):\n  return [inputs['n'], steps['fetch']['output']['status'], item, index, run['id'], trigger['scheduledAt']]",
			[]any{int64(7), int64(200), "thing", int64(3), "r1", "2026-01-02T03:04:05Z"}},
		{"main of some", "def main(index, inputs):\n  return inputs['list'][:index]", []any{int64(1), 2.5, nil}},
		{"main as a lambda", "main = lambda item: item.upper()", "THING"},
		{"result", "result = {'a': inputs['name'] + '!', 'b': trigger['headers']['a']}", map[string]any{"a": "it!", "b": "b"}},
		{"no time", "result = trigger['at']", nil},
		{"nothing", "def main():\n  pass", nil},
		{"a variable of that name", "def main():\n  item = 5\n  return item", int64(5)},
		{"order of names", "def main(inputs):\n  return [k for k in inputs]", []any{"empty", "list", "n", "name"}},
		{"numbers", "result = [1, 1.0, 7 // 2, 7 / 2, -(1 << 62) * 2, 0.1]", []any{int64(1), 1.0, int64(3), 3.5, int64(math.MinInt64), 0.1}},
		{"tuples and sets", "result = [(1, 2), set([3]), ()]", []any{[]any{int64(1), int64(2)}, []any{int64(3)}, []any{}}},
		{"json", "result = json.decode(json.encode({'a': [1, 'ü', None]}))", map[string]any{"a": []any{int64(1), "ü", nil}}},
		{"math", "result = math.floor(2.7)", int64(2)},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := run(test.source, data, script.Limits{})
			if err != nil || !reflect.DeepEqual(got.Value, test.want) {
				t.Errorf("got %#v, %v, want %#v", got.Value, err, test.want)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	for _, test := range []struct {
		name, source string
		line         int
		says         string
	}{
		{"nothing to run", "x = 1", 0, "neither a function main nor"},
		{"main is no function", "main = 1", 0, "neither a function main nor"},
		{"syntax", "def main():\n  return (1", 2, "want ')'"},
		{"unknown parameter", "\ndef main(inputs, output):\n  pass", 2, `parameter "output"`},
		{"too long", strings.Repeat("#", script.MaxSource+1), 0, "at most"},
		{"no number", "result = {'a': [1, float('nan')]}", 0, "result.a[1]: JSON has no number"},
		{"too large a number", "result = 1 << 63", 0, "64 bits"},
		{"bytes", "result = b'x'", 0, "JSON has no bytes"},
		{"function", "result = {'f': len}", 0, "result.f: JSON has no builtin"},
		{"names that are no text", "result = {1: 2}", 0, "must be strings, not int"},
		{"no UTF-8", `result = b'\xff'.elems()`, 0, "JSON has no"},
		{"part of a character", "result = 'ü'[:1]", 0, "not valid UTF-8"},
		{"large", "result = 'x' * 300000", 0, "too large"},
		{"large by sharing", "x = 'x' * 1000\nresult = [[x] * 100] * 100", 0, "too large"},
		{"contains itself", "x = []\nx.append(x)\nresult = x", 0, "contains itself"},
		{"of the language", "def main(inputs):\n  y = inputs['n'] + 'a'", 2, "unknown binary op: int + string"},
		{"missing key", "def main(inputs):\n\n  return inputs['no']", 3, `key "no" not in dict`},
		{"within a function", "def f(x):\n  return x.y\ndef main():\n  return f(1)", 2, "int has no .y"},
		{"frozen language", "def main():\n  json.encode = 1", 2, "assign"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := run(test.source, data, script.Limits{})
			var fault *script.Error
			if !errors.As(err, &fault) || fault.Line != test.line || !strings.Contains(fault.Message, test.says) {
				t.Errorf("got %v, want line %d and %q", err, test.line, test.says)
			}
		})
	}
}

func TestLog(t *testing.T) {
	got, err := run("def main():\n  print('a', 1)\n  print('b')", nil, script.Limits{})
	if err != nil || got.Log != "a 1\nb\n" {
		t.Errorf("got %q, %v", got.Log, err)
	}
	got, err = run("def main():\n  for i in range(1000):\n    print('line', i)\n  fail('end')", nil, script.Limits{Log: 100})
	if err == nil || !strings.HasSuffix(got.Log, "\n… more was printed\n") || len(got.Log) > 130 {
		t.Errorf("got %q, %v, want the first 100 bytes and the error", got.Log, err)
	}
}

// TestContext: a running or waiting script ends with its context.
func TestContext(t *testing.T) {
	program, err := script.Compile("def main():\n  for i in range(1 << 40):\n    pass")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	const all = 64 // more than may run at once
	for range all {
		go func() {
			_, err := program.Run(ctx, nil, script.Limits{Steps: 1 << 60})
			ended <- err
		}()
	}
	cancel()
	for range all {
		select {
		case err := <-ended:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want context.Canceled", err)
			}
		case <-time.After(time.Minute):
			t.Fatal("a script did not end with its context")
		}
	}
}

// TestSame: a run does not modify the data of the next one.
func TestSame(t *testing.T) {
	program, err := script.Compile("def main(inputs):\n  inputs['list'].append(1)\n  inputs['new'] = 2\n  return len(inputs['list'])")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got, err := program.Run(context.Background(), data, script.Limits{}); err != nil || got.Value != int64(6) {
			t.Errorf("got %v, %v, want 6", got.Value, err)
		}
	}
	if _, ok := data["inputs"].(map[string]any)["new"]; ok {
		t.Error("the script modified its input")
	}
}

// asIs are expressions that must have the same result with and without rewriting.
var asIs = []string{
	"1 + 2 * 3 - 4 // 3 % 2", "'a' + 'b' * 3", "[1] + [2] * 2", "(1,) + (2,)", "7 & 3 | 8 ^ 1 << 2 >> 1", "1 < 2", "'a' <= 'b'", "[1, 2] == [1, 2]", "1 != 1.0",
	"3 in [1, 2, 3]", "'a' in {'a': 1}", "'x' not in 'axb'", "{'a': 1} | {'b': 2}", "set([1, 2]) | set([3])", "set([1, 2]) & set([2])", "set([1, 2]) - set([2])", "set([1]) ^ set([2])",
	"'%s and %d %%' % ('x', 3)", "'%(a)s' % {'a': 1}", "'{} {x}'.format(1, x = 2)", "[1, 2, 3][1:]", "'abc'[::-1]", "(1, 2, 3)[-1]", "'a,b'.split(',')", "' x '.strip()",
	"'-'.join(['a', 'b'])", "'aXbX'.replace('X', '--')", "sorted([3, 1, 2], reverse = True)", "sorted(['bb', 'a'], key = len)", "[x * 2 for x in range(5) if x % 2]", "{k: v for k, v in [('a', 1)]}",
	"{x for x in [1, 1, 2]}", "dict([('a', 1)], b = 2)", "max(1, 5, 3)", "min([3, 1])", "zip([1, 2], 'ab'.elems())", "enumerate(['x'])", "list(reversed([1, 2]))", "any([0, 1])", "all([])",
	"str([1, 'a', None])", "repr('a')", "int('12', 8)", "float('1.5')", "abs(-3)", "type([])", "len('abc')", "bool([])", "1 if [] else 2", "[] or 3", "0 and fail('x')", "not 1", "-5", "~5", "+5",
	"(lambda x, y = 2, *a, **k: [x, y, a, k])(1, 3, 4, z = 5)", "(lambda *a: a)(*[1, 2])", "(lambda **k: k)(**{'a': 1})", "{'a': 1}.get('b', 2)", "{'a': 1}.items()", "[1, 2].index(2)",
	"math.sqrt(4)", "json.encode({'b': 1, 'a': [True]})", "1 / 0", "[][0]", "{}['a']", "'a' + 1", "{[]: 1}", "'a'.nope", "int('x')", "[1, 'a'] < [1, 2]", "len(1)", "(1)(2)", "ord('ab')", "chr(65)",
	"dict([(1, 2, 3)])", "'%d' % 'a'", "'%s'", "'%s' % ()", "[3, 1][0:1:0]", "1 << 600", "zip(1)", "hasattr", "bytes('a')", "b'abc'[1]", "[x for x in b'ab'.elems()]", "[x for x in 'aü'.codepoints()]", "{(1, 2): 3}[(1, 2)]",
	"set([1]).union([2])", "set([1]).issubset([1, 2])", "{'a': 1}.setdefault('b', [])", "'A'.lower()", "'a b c'.split(None, 1)", "'aXb'.partition('X')", "'a\\nb'.splitlines()",
}

var asIsPrograms = []string{
	"x = [1]\ny = x\nx += [2]\nresult = y", "x = {'a': 1}\ny = x\nx |= {'b': 2}\nresult = y", "x = 1\nx += 1\nx *= 5\nx -= 1\nx //= 2\nx %= 3\nresult = x", "x = [1, 2]\nx[0] += 5\nx[-1] *= 3\nresult = x",
	"x = {'a': [1]}\nx['a'] += [2]\nresult = x", "x = {'a': {}}\nx['a'] |= {'b': 1}\nresult = x", "x = {}\nx['a'] += 1\nresult = x", "x = [1]\nx[5] += 1\nresult = x", "x = (1,)\nx[0] += 1\nresult = x",
	"a, (b, c) = 1, (2, 3)\nresult = [a, b, c]", "x = [0, 0]\nx[0], x[1] = 1, 2\nresult = x", "[a, b] = [1, 2]\nresult = a + b", "x = []\nx += x\nresult = x", "x = {'a': 1}\nx |= x\nresult = x",
	"x = []\nfor i, y in enumerate('ab'.elems()):\n  if i: continue\n  x.append(y)\nresult = x", "x = 3\nwhile x: x -= 1\nresult = x", "def f(a, b = 1 + 1, *c, d = 4, **e):\n  return [a, b, c, d, e]\nresult = f(1, 2, 3, d = 5, z = 6)",
	"x = [1]\nfor y in x:\n  x.append(y)\nresult = x", "x = 1\nx |= 6\nx &= 5\nx ^= 1\nx <<= 3\nx >>= 1\nresult = x", "x = 1\nx += 'a'\nresult = x", "def f():\n  x += 1\nresult = f()", "x = 8\nx /= 2\nresult = x",
}

// plain runs a script without rewriting.
func plain(source string) string {
	thread := &starlark.Thread{Print: func(*starlark.Thread, string) {}}
	options := &syntax.FileOptions{Set: true, While: true, TopLevelControl: true, GlobalReassign: true}
	globals, err := starlark.ExecFileOptions(options, thread, "script", source, starlark.StringDict{"json": starjson.Module, "math": starmath.Module})
	if err != nil {
		return "error"
	}
	encoded, err := starlark.Call(thread, starjson.Module.Members["encode"], starlark.Tuple{globals["result"]}, nil)
	if err != nil {
		return "error"
	}
	return string(encoded.(starlark.String))
}

func TestAsIs(t *testing.T) {
	var programs []string
	for _, expression := range asIs {
		programs = append(programs, "result = "+expression)
	}
	for _, source := range append(programs, asIsPrograms...) {
		want := plain(source)
		got, err := run(source, nil, script.Limits{})
		text, encodeErr := json.Marshal(got.Value)
		if err != nil || encodeErr != nil {
			text = []byte("error")
		}
		var a, b any
		if json.Unmarshal([]byte(want), &a) != nil || json.Unmarshal(text, &b) != nil {
			if want != string(text) {
				t.Errorf("%s: got %s (%v), want %s", source, text, err, want)
			}
			continue
		}
		if !reflect.DeepEqual(a, b) {
			t.Errorf("%s: got %s, want %s", source, text, want)
		}
	}
}

// TestComplete: every function and method of the language, also of a newer version, has a cost or is not available.
func TestComplete(t *testing.T) {
	for name, value := range starlark.Universe {
		builtin, ok := value.(*starlark.Builtin)
		if !ok {
			continue
		}
		if same := script.Predeclared()[name]; same == nil || same == builtin {
			t.Errorf("%s is available without a cost", name)
		}
	}
	for _, value := range []starlark.HasAttrs{starlark.String(""), starlark.Bytes(""), starlark.NewList(nil), starlark.NewDict(0), starlark.NewSet(0)} {
		for _, name := range value.AttrNames() {
			if !script.HasCost(value.Type(), name) {
				t.Errorf("%s.%s has no cost", value.Type(), name)
			}
		}
	}
}

// TestMembers: members that a script does not use cost nothing.
func TestMembers(t *testing.T) {
	large := make([]any, 10_000_000)
	vars := map[string]any{"steps": map[string]any{"a": map[string]any{"output": int64(1)}, "large": map[string]any{"output": large}}}
	for source, fits := range map[string]bool{
		"def main(steps):\n  return steps['a']['output']":                         true,
		"result = steps['a']['output']":                                           true,
		"def main(steps):\n  f = lambda: steps['a']\n  return f()['output']":      true,
		"def main(steps):\n  return [steps['a']['output'], steps['none']]":        true,
		"def main(steps):\n  steps['a'] = steps\n  return 1":                      false,
		"def main(steps):\n  name = 'a'\n  return steps[name]['output']":          false,
		"def main(steps):\n  return [x for x in steps]":                           false,
		"def f(steps):\n  return steps['a']\ndef main(steps):\n  return f(steps)": false,
		"def main(steps):\n  return [steps['a']['output'], len(steps['large'])]":  false,
	} {
		_, err := run(source, vars, script.Limits{})
		if refused := err != nil && strings.Contains(err.Error(), "steps.large"); refused == fits {
			t.Errorf("%s: got %v, want within limits: %v", source, err, fits)
		}
	}
	// Parameters and variables have the same values.
	got, err := run("def main(inputs):\n  return [inputs['name'], inputs['n']]", data, script.Limits{})
	if err != nil || !reflect.DeepEqual(got.Value, []any{"it", int64(7)}) {
		t.Errorf("got %v, %v", got.Value, err)
	}
}
