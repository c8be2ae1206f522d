// SPDX-License-Identifier: Apache-2.0

package script_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"github.com/itechsmart/operator/workloads/workflow/internal/script"
)

// mostMemory is the most memory that any run may use: the default limit, uncharged allocations of steps, and uncollected garbage.
const mostMemory = 256 << 20

const objects = "/memory/classes/heap/objects:bytes"

func heap() int64 {
	sample := []metrics.Sample{{Name: objects}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64())
}

// peak returns the maximum growth of the heap while f runs.
func peak(f func()) int64 {
	runtime.GC()
	before, most := heap(), int64(0)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			most = max(most, heap()-before)
			select {
			case <-done:
				most = max(most, heap()-before)
				return
			case <-time.After(time.Millisecond): // the sampling interval
			}
		}
	}()
	f()
	close(done)
	<-ended
	return most
}

// run compiles and runs a script.
func run(source string, vars map[string]any, limits script.Limits) (script.Result, error) {
	program, err := script.Compile(source)
	if err != nil {
		return script.Result{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	return program.Run(ctx, vars, limits)
}

func double(statement string, times string) string {
	return "def main():\n  x = START\n  for i in range(" + times + "):\n    " + statement + "\n  return len(x)\n"
}

// hostile are scripts that exceed limits. Each fails with an *Error that names the line.
var hostile = []struct {
	name, source string
	line         int
	says         string // part of the message
}{
	{"list", "def main():\n  x = [0] * 10**9\n", 2, "got '**'"}, // there is no such operator
	{"list of zeros", "def main():\n  n = 1000000000\n  x = [0] * n\n", 3, "memory"},
	{"tuple of zeros", "def main():\n  return 1000000000 * (0,)\n", 2, "memory"},
	{"string", "def main():\n  return 'x' * 1000000000\n", 2, "memory"},
	{"bytes", "def main():\n  return b'x' * 1000000000\n", 2, "memory"},
	{"times that overflow", "def main():\n  return 'xxxxxxxxxxxxxxxx' * (1 << 62)\n", 2, "memory"},
	{"times beyond 64 bits", "def main():\n  return 'xx' * (1 << 100)\n", 2, "memory"},
	{"string doubling", strings.Replace(double("x += x", "100"), "START", "'ab'", 1), 4, "memory"},
	{"string doubling by +", strings.Replace(double("x = x + x", "100"), "START", "'ab'", 1), 4, "memory"},
	{"list doubling", strings.Replace(double("x += x", "100"), "START", "[1]", 1), 4, "memory"},
	{"list doubling by extend", strings.Replace(double("x.extend(x)", "100"), "START", "[1]", 1), 4, "memory"},
	{"element doubling", "def main():\n  x = {'a': 'ab'}\n  for i in range(100):\n    x['a'] += x['a']\n", 4, "memory"},
	{"replace", strings.Replace(double("x = x.replace('a', 'aa' * 1000)", "100"), "START", "'a'", 1), 4, "memory"},
	{"replace nothing", "def main():\n  x = 'a' * 100000\n  return x.replace('', x)\n", 3, "memory"},
	{"join", "def main():\n  x = 'a' * 1000000\n  return x.join([x] * 1000)\n", 3, "memory"},
	{"format", "def main():\n  x = 'a' * 1000000\n  return ('{0}' * 10000).format(x)\n", 3, "memory"},
	{"percent", "def main():\n  x = 'a' * 1000000\n  return '%s' * 10 % tuple([x] * 10)\n", 3, "memory"},
	{"percent of a dict", "def main():\n  x = {'a': 'a' * 1000000}\n  return '%(a)s' * 10000 % x\n", 3, "memory"},
	{"upper", "def main():\n  x = 'a' * 1000000\n  for i in range(10000):\n    y = x.upper()\n", 4, "memory"},
	{"split", "def main():\n  return ('a ' * 3000000).split()\n", 2, "memory"},
	{"list of a range", "def main():\n  return list(range(1000000000))\n", 2, "memory"},
	{"set of a range", "def main():\n  return set(range(1000000000))\n", 2, "steps"},
	{"sorted range", "def main():\n  return sorted(range(1000000000))\n", 2, "memory"},
	{"zip of ranges", "def main():\n  return zip(range(1000000000), range(1000000000))\n", 2, "memory"},
	{"enumerate", "def main():\n  return enumerate(range(1000000000))\n", 2, "memory"},
	{"star", "def f(*args):\n  return args\ndef main():\n  return f(*range(1000000000))\n", 4, "memory"},
	{"star to a function of the language", "def main():\n  return max(*range(1000000000))\n", 2, "memory"},
	{"any", "def main():\n  return all(range(1, 2000000000))\n", 2, "steps"},
	{"max", "def main():\n  return max(range(2000000000))\n", 2, "steps"},
	{"slices", "def main():\n  x = [0] * 100000\n  return [x[:] for i in range(100000)]\n", 3, "memory"},
	{"string slices backwards", "def main():\n  x = 'ab' * 100000\n  return [x[::-1] for i in range(100000)]\n", 3, "memory"},
	{"dict growth", "def main():\n  x = {}\n  for i in range(100000000):\n    x[i] = i\n", 4, "steps"},
	{"dict growth by update", "def main():\n  x = {}\n  for i in range(100000000):\n    x.update([(i, i)])\n", 4, "memory"},
	{"dict growth by setdefault", "def main():\n  x = {}\n  for i in range(100000000):\n    x.setdefault(i, [])\n", 4, "steps"},
	{"dict comprehension", "def main():\n  return {i: i for i in range(100000000)}\n", 2, "steps"},
	{"dict unions", "def main():\n  x = {i: i for i in range(1000)}\n  return [x | x for i in range(100000)]\n", 3, "memory"},
	{"set growth", "def main():\n  x = set()\n  for i in range(100000000):\n    x.add(i)\n", 4, "steps"},
	{"set unions", "def main():\n  x = set(range(1000))\n  return [x | x for i in range(100000)]\n", 3, "memory"},
	{"list growth", "def main():\n  x = []\n  for i in range(100000000):\n    x.append([])\n", 4, "steps"},
	{"list comprehension", "def main():\n  return [[] for i in range(100000000)]\n", 2, "steps"},
	{"closures", "def main():\n  return [lambda: i for i in range(100000000)]\n", 2, "steps"},
	{"for ever", "def main():\n  while True:\n    pass\n", 2, "steps"},
	{"for ever at the top", "x = 0\nwhile True:\n  x += 1\nresult = x\n", 3, "steps"},
	{"recursion", "def f(n):\n  return f(n + 1)\ndef main():\n  return f(0)\n", 2, "recursively"},
	{"recursion of two", "def f(n):\n  return g(n)\ndef g(n):\n  return f(n)\ndef main():\n  return f(0)\n", 2, "recursively"},
	{"recursion by a lambda", "def main():\n  y = lambda f: f(f)\n  return y(y)\n", 2, "recursively"},
	{"power", "def main():\n  return 2**10**9\n", 2, "got '**'"},
	{"shift", "def main():\n  return 1 << 1000000000\n", 2, "shift"},
	{"squares", "def main():\n  x = 3\n  for i in range(100):\n    x = x * x\n", 4, "bits"},
	{"squares in place", "def main():\n  x = 3\n  for i in range(100):\n    x *= x\n", 4, "bits"},
	{"shifts", "def main():\n  x = 3\n  for i in range(1000):\n    x = x << 500\n", 4, "bits"},
	{"digits", "def main():\n  return int('9' * 1000000)\n", 2, "too long for a number"},
	{"tree that is shared, printed", shared("str(x)"), 5, "steps"},
	{"tree that is shared, compared", shared("x == y"), 5, "steps"},
	{"tree that is shared, ordered", shared("x < y"), 5, "steps"},
	{"tree that is shared, encoded", shared("json.encode(x)"), 5, "steps"},
	{"tree that is shared, as a key", strings.NewReplacer("[x, x]", "(x, x)", "[y, y]", "(y, y)").Replace(shared("{x: 1}")), 5, "too much for a key"},
	{"tree that is shared, looked up", strings.NewReplacer("[x, x]", "(x, x)", "[y, y]", "(y, y)").Replace(shared("{}.get(x)")), 5, "too much for a key"},
	{"tree that is shared, in a set", strings.NewReplacer("[x, x]", "(x, x)", "[y, y]", "(y, y)").Replace(shared("set([x])")), 5, "too much for a key"},
	{"tree that is shared, formatted", shared("'%s' % [x]"), 5, "steps"},
	{"tree that is shared, in a list", shared("x in [y]"), 5, "steps"},
	{"tree that is shared, sorted", shared("sorted([x, y])"), 5, "steps"},
	{"deep", "def main():\n  x = []\n  for i in range(100000):\n    x = [x]\n  return str(x)\n", 5, "nested deeper"},
	{"list in itself", "def main():\n  x = []\n  x.append(x)\n  return x == [x]\n", 4, "nested deeper"},
	{"deep JSON", "def main():\n  return json.decode('[' * 100000)\n", 2, "nested deeper"},
	{"long number in JSON", "def main():\n  return json.decode('9' * 1000000)\n", 2, "bits"},
	{"wide JSON", "def main():\n  return json.decode('[' + '[],' * 2000000 + '[]]')\n", 2, "memory"},
	{"deep source", "def main():\n  return " + strings.Repeat("(", 30000) + strings.Repeat(")", 30000) + "\n", 2, "excessive nesting"},
	{"print", "def main():\n  while True:\n    print('x' * 1000)\n", 3, "memory"},
	{"print with a separator", "def main():\n  x = 'x' * 1000000\n  print(sep = x, *([1] * 1000))\n", 3, "memory"},
	{"fail with a separator", "def main():\n  x = 'x' * 1000000\n  fail(sep = x, *([1] * 1000))\n", 3, "memory"},
	{"lines", "def main():\n  return [('\\n' * 1000000).splitlines() for i in range(10)]\n", 2, "memory"},
	{"long name, printed often", "def " + strings.Repeat("f", 30000) + "():\n  pass\ndef main():\n  return str([" + strings.Repeat("f", 30000) + "] * 100000)\n", 4, "memory"},
	{"elements, printed often", "def main():\n  x = ('x' * 1000000).elems()\n  return str([x] * 1000)\n", 3, "memory"},
	{"characters, printed often", "def main():\n  x = ('x' * 1000000).codepoints()\n  return str([x] * 1000)\n", 3, "no known length"},
	{"keyword arguments", "def f(**k):\n  return k\ndef main():\n  x = {str(i): i for i in range(50000)}\n  return [f(**x) for i in range(1000)]\n", 5, "memory"},
	{"load", "load('x.star', 'y')\nresult = 1\n", 1, "load"},
	{"getattr", "result = getattr('', 'join')([])\n", 1, "not available"},
	{"unknown name", "def main():\n  return open('/etc/passwd')\n", 2, "undefined: open"},
	{"unknown method", "def main():\n  return 'a'.encode()\n", 2, "string has no .encode"},
	{"list of unknown length", "def main():\n  return list('a'.codepoints())\n", 2, "no known length"},
	{"fail", "def main():\n  fail('no', 3)\n", 2, "fail: no 3"},
}

// shared returns a script that builds two values with 2^60 leaves in 60 steps.
func shared(use string) string {
	return "def main():\n  x, y = [], []\n  for i in range(60):\n    x, y = [x, x], [y, y]\n  return " + use + "\n"
}

func TestHostile(t *testing.T) {
	worst, which := int64(0), ""
	for _, test := range hostile {
		t.Run(test.name, func(t *testing.T) {
			var err error
			most := peak(func() { _, err = run(test.source, nil, script.Limits{}) })
			var fault *script.Error
			if !errors.As(err, &fault) {
				t.Fatalf("got %v, want an *Error", err)
			}
			inLine := fault.Line == test.line || test.says == "steps" && fault.Line > 0 && fault.Line < test.line // a loop's own line
			if !inLine || !strings.Contains(fault.Message, test.says) {
				t.Errorf("got %q in line %d, want %q in line %d", fault.Message, fault.Line, test.says, test.line)
			}
			if most > mostMemory {
				t.Errorf("the heap grew by %d MiB, at most %d are allowed", most>>20, mostMemory>>20)
			}
			if most > worst {
				worst, which = most, test.name
			}
		})
	}
	t.Logf("the heap grew by at most %d MiB, for %q", worst>>20, which)
}

// TestLargeSource: the parser and the compiler stay within the limits for any 64 KiB of source.
func TestLargeSource(t *testing.T) {
	sum := strings.Repeat("1+", script.MaxSource/2-20)
	for name, source := range map[string]string{
		"sum": "result = " + sum + "1", "sum at run time": "x = 1\nresult = " + strings.ReplaceAll(sum, "1", "x")[:script.MaxSource-40] + "1",
		"not": "result = " + strings.Repeat("not ", 16000) + "1", "minus": "result = " + strings.Repeat("-", 65000) + "1", "lambda": "result = " + strings.Repeat("lambda:", 9000) + "1",
		"else": "result = " + strings.Repeat("1 if 0 else ", 5400) + "1", "dots": "result = ''" + strings.Repeat(".a", 32000), "indexes": "result = ''" + strings.Repeat("[0]", 21000),
		"calls": "result = len" + strings.Repeat("()", 32000), "statements": strings.Repeat("x=1\n", 16000) + "result = x", "parameters": "def main():\n  pass\ndef f(" + parameters(9000) + "):\n  pass\n",
		"functions": strings.Repeat("def f(): pass\n", 4600) + "result = 1", "blocks": blocks(), "list": "result = [" + strings.Repeat("[],", 21000) + "]", "dict": "result = {" + strings.Repeat("(): 1,", 10000) + "}",
		"brackets": "result = " + strings.Repeat("(", 60000), "lists": "result = " + strings.Repeat("[", 60000), "calls in calls": "result = " + strings.Repeat("len(", 15000),
	} {
		t.Run(name, func(t *testing.T) {
			var err error
			most := peak(func() { _, err = run(source, nil, script.Limits{}) })
			var fault *script.Error
			if err != nil && !errors.As(err, &fault) {
				t.Errorf("got %v, want none or an *Error", err)
			}
			if most > mostMemory {
				t.Errorf("the heap grew by %d MiB, at most %d are allowed", most>>20, mostMemory>>20)
			}
			t.Logf("%d MiB, %v", most>>20, err)
		})
	}
}

func parameters(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "p%d,", i)
	}
	return b.String()
}

// blocks returns the deepest blocks that the limit of the source allows.
func blocks() string {
	var b strings.Builder
	for depth := 0; b.Len() < script.MaxSource-1000; depth++ {
		b.WriteString(strings.Repeat(" ", depth) + "if 1:\n")
	}
	return b.String() + strings.Repeat(" ", 400) + "result = 1\n"
}

// TestLargeData: data counts like allocations of the script.
func TestLargeData(t *testing.T) {
	list := make([]any, 1_000_000)
	for i := range list {
		list[i] = []any{}
	}
	var err error
	most := peak(func() {
		_, err = run("def main(inputs):\n  return len(inputs['a'])", map[string]any{"inputs": map[string]any{"a": list}}, script.Limits{})
	})
	var fault *script.Error
	if !errors.As(err, &fault) || !strings.Contains(fault.Message, "inputs.a[") || !strings.Contains(fault.Message, "memory") {
		t.Errorf("got %v, want an error with the path", err)
	}
	if most > mostMemory {
		t.Errorf("the heap grew by %d MiB, at most %d are allowed", most>>20, mostMemory>>20)
	}
}
