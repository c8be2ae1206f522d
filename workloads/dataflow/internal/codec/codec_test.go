// SPDX-License-Identifier: Apache-2.0

package codec_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/internal/codec"
	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

func open(t testing.TB, format, options string) codec.Codec {
	t.Helper()
	c, err := codec.New(format, json.RawMessage(options))
	if err != nil {
		t.Fatalf("New(%s, %s): %v", format, options, err)
	}
	return c
}

// scan returns what was yielded and the errors of refused records.
func scan(t *testing.T, c codec.Codec, input string, limit int64) (good []string, refused []error, err error) {
	t.Helper()
	err = c.Scan(context.Background(), strings.NewReader(input), limit,
		func(r record.Record) error {
			data, err := r.Bytes()
			good = append(good, string(data))
			return err
		},
		func(_ []byte, err error) error { refused = append(refused, err); return nil })
	return good, refused, err
}

func TestScan(t *testing.T) {
	long := strings.Repeat("x", 300_000)
	tests := []struct {
		name, format, options, input string
		limit                        int64
		want                         []string
		refused                      []error
	}{
		{name: "lines", format: "json", input: "{\"a\":1}\n\n {\"a\":2} \r\n{\"a\":3}", want: []string{`{"a":1}`, `{"a":2}`, `{"a":3}`}},
		{name: "byte-order mark", format: "json", input: "\xef\xbb\xbf{\"a\":1}\n", want: []string{`{"a":1}`}},
		{name: "empty", format: "json", input: " \n"},
		{name: "array", format: "json", input: ` [ {"a":1}, {"a":[2]} ] `, want: []string{`{"a":1}`, `{"a":[2]}`}},
		{name: "lines of arrays", format: "json", options: `{"layout":"lines"}`, input: "[1]\n[2]\n", want: []string{"[1]", "[2]"}},
		{name: "bad line in the middle", format: "json", input: "{\"a\":1}\n{\"a\":\n{\"a\":3}\n", want: []string{`{"a":1}`, `{"a":3}`}, refused: []error{record.ErrNotJSON}},
		{name: "two values on a line", format: "json", input: "{}{}\n{}\n", want: []string{`{}`}, refused: []error{record.ErrNotJSON}},
		{name: "invalid UTF-8", format: "json", input: "{\"a\":\"\xff\"}\n{\"a\":3}\n", want: []string{`{"a":3}`}, refused: []error{record.ErrNotUTF8}},
		{name: "invalid UTF-8 in an array", format: "json", input: "[{\"a\":\"\xff\"},1]", want: []string{`1`}, refused: []error{record.ErrNotUTF8}},
		{name: "long line", format: "json", input: "1\n\"" + long + "\"\n2\n", limit: 1000, want: []string{"1", "2"}, refused: []error{codec.ErrTooLarge}},
		{name: "line longer than the buffer", format: "json", input: "1\n\"" + long + "\"\n2", want: []string{"1", `"` + long + `"`, "2"}},
		{name: "line at the limit", format: "raw", input: "1234\n12345\n12", limit: 4, want: []string{"1234", "12"}, refused: []error{codec.ErrTooLarge}},
		{name: "long last line", format: "raw", input: "12\n12345", limit: 4, want: []string{"12"}, refused: []error{codec.ErrTooLarge}},
		{name: "raw lines", format: "raw", input: "a\n\nb", want: []string{"a", "", "b"}},
		{name: "raw with a longer delimiter", format: "raw", options: `{"delimiter":"\r\n"}`, input: "a\nb\r\nc\r\n", want: []string{"a\nb", "c"}},
		{name: "raw whole", format: "raw", options: `{"delimiter":""}`, input: "a\nb", want: []string{"a\nb"}},
		{name: "raw whole, too large", format: "raw", options: `{"delimiter":""}`, input: "a\nb", limit: 2, refused: []error{codec.ErrTooLarge}},
		{name: "csv", format: "csv", input: "a,b\n1,\"x, \"\"y\"\"\nz\"\n2,\n", want: []string{`{"a":"1","b":"x, \"y\"\nz"}`, `{"a":"2","b":""}`}},
		{name: "csv inferred", format: "csv", options: `{"infer":true,"delimiter":";"}`, input: "a;b;c;d\n1;-2.5e3;true;007\n;x;-;1e\n", want: []string{`{"a":1,"b":-2.5e3,"c":true,"d":"007"}`, `{"a":null,"b":"x","c":"-","d":"1e"}`}},
		{name: "csv without header", format: "csv", options: `{"header":false,"columns":["n","m"]}`, input: "1,2\n", want: []string{`{"n":"1","m":"2"}`}},
		{name: "csv with other names", format: "csv", options: `{"columns":["n"]}`, input: "a\n1\n", want: []string{`{"n":"1"}`}},
		{name: "csv wrong width", format: "csv", input: "a,b\n1\n2,3\n", want: []string{`{"a":"2","b":"3"}`}, refused: []error{codec.ErrMalformed}},
		{name: "csv stray quote", format: "csv", input: "a,b\nx\"y,1\n2,3\n", want: []string{`{"a":"2","b":"3"}`}, refused: []error{codec.ErrMalformed}},
		{name: "csv invalid UTF-8", format: "csv", input: "a\n\xff\n2\n", want: []string{`{"a":"2"}`}, refused: []error{record.ErrNotUTF8}},
		{name: "csv long row", format: "csv", input: "a\n" + long + "\n2\n", limit: 1000, want: []string{`{"a":"2"}`}, refused: []error{codec.ErrTooLarge}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.limit == 0 {
				test.limit = 1 << 20
			}
			good, refused, err := scan(t, open(t, test.format, test.options), test.input, test.limit)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(good, test.want) {
				t.Errorf("records %.200q, want %.200q", good, test.want)
			}
			if len(refused) != len(test.refused) {
				t.Fatalf("refused %v, want %v", refused, test.refused)
			}
			for i, want := range test.refused {
				if !errors.Is(refused[i], want) || !errors.Is(refused[i], backend.ErrInvalid) {
					t.Errorf("refused %v, want %v wrapping backend.ErrInvalid", refused[i], want)
				}
				if strings.Contains(refused[i].Error(), "xxx") {
					t.Errorf("error quotes the record: %v", refused[i])
				}
			}
		})
	}
}

// A CSV message without a header of its own has the configured columns.
func TestUnmarshalCSV(t *testing.T) {
	for _, test := range []struct{ options, input, want string }{
		{``, "a,b\n1,2\n", `{"a":"1","b":"2"}`},
		{`{"columns":["a","b"],"infer":true}`, "1,2", `{"a":1,"b":2}`},
	} {
		got, err := open(t, "csv", test.options).Unmarshal([]byte(test.input))
		if err != nil || len(got) != 1 {
			t.Fatalf("%s: %d records, %v", test.input, len(got), err)
		}
		if data, _ := got[0].Bytes(); string(data) != test.want {
			t.Errorf("%s: %s, want %s", test.input, data, test.want)
		}
	}
}

// A broken array must not be mistaken for a shorter one.
func TestBrokenArrayIsAnError(t *testing.T) {
	for _, input := range []string{`[{"a":1},{"a"]`, `[{"a":1}`, `[{"a":1}{"a":2}]`, "[1,\"" + strings.Repeat("x", 100_000) + "\",2]"} {
		_, _, err := scan(t, open(t, "json", ""), input, 1000)
		if !errors.Is(err, backend.ErrInvalid) {
			t.Errorf("scan of %.20q: %v, want one that wraps backend.ErrInvalid", input, err)
		}
	}
}

func TestScanStopsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	n := 0
	err := open(t, "json", "").Scan(ctx, strings.NewReader("1\n2\n3\n"), 100,
		func(record.Record) error { n++; cancel(); return nil },
		func(_ []byte, err error) error { return err })
	if !errors.Is(err, context.Canceled) || n != 1 {
		t.Errorf("%d records, %v; want 1 and context.Canceled", n, err)
	}
}

func TestOptionErrorsNameTheField(t *testing.T) {
	for _, test := range []struct{ format, options, want string }{
		{"yaml", ``, "codec.format"},
		{"json", `{"layout":"x"}`, "codec.options.layout"},
		{"json", `{"nope":1}`, "nope"},
		{"csv", `{"delimiter":"ab"}`, "codec.options.delimiter"},
		{"csv", `{"header":false}`, "codec.options.columns"},
		{"csv", `{"columns":1}`, "columns"},
		{"parquet", `{"compression":"lz"}`, "codec.options.compression"},
		{"parquet", `{"columns":[{"name":"a","type":"int"}]}`, "codec.options.columns[0].type"},
	} {
		_, err := codec.New(test.format, json.RawMessage(test.options))
		if !errors.Is(err, backend.ErrInvalid) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("New(%s, %s): %v; want backend.ErrInvalid naming %s", test.format, test.options, err, test.want)
		}
	}
}

// A format reads back what its Writer wrote.
func TestWriterRoundTrip(t *testing.T) {
	input := []string{
		"{\"a\":1,\n\"b\":\"x\\n\\\"y\\\"\",\"c\":null,\"d\":1.5,\"e\":true}",
		`{"a":-2,"b":"ü","c":null,"d":2,"e":false}`,
	}
	for _, test := range []struct{ format, options string }{
		{"json", ""}, {"csv", `{"infer":true}`}, {"parquet", ""},
		{"parquet", `{"rowGroupRows":1,"compression":"snappy","columns":[{"name":"a","type":"int64"},{"name":"b","type":"string"},{"name":"c","type":"timestamp"},{"name":"d","type":"double"},{"name":"e","type":"boolean"}]}`},
	} {
		t.Run(test.format, func(t *testing.T) {
			c := open(t, test.format, test.options)
			var file bytes.Buffer
			w := c.Writer(&file)
			for _, text := range input {
				r := record.New([]byte(text))
				if err := w.Write(&r); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			var got []string
			yield := func(r record.Record) error { d, err := r.Bytes(); got = append(got, string(d)); return err }
			bad := func(_ []byte, err error) error { return err }
			var err error
			if random, ok := c.(codec.FileCodec); ok {
				err = random.ScanAt(context.Background(), bytes.NewReader(file.Bytes()), int64(file.Len()), 0, 1<<20, yield, bad)
			} else {
				err = c.Scan(context.Background(), &file, 1<<20, yield, bad)
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != len(input) {
				t.Fatalf("%d records, want %d", len(got), len(input))
			}
			for i := range input {
				if a, b := decoded(t, got[i]), decoded(t, input[i]); !reflect.DeepEqual(a, b) {
					t.Errorf("got %v, want %v", a, b)
				}
			}
		})
	}
}

func decoded(t *testing.T, text string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestParquetWriterRefusesWholeRecords(t *testing.T) {
	c := open(t, "parquet", `{"columns":[{"name":"a","type":"int64"},{"name":"at","type":"timestamp"}]}`)
	var out bytes.Buffer
	w := c.Writer(&out)
	for _, test := range []struct {
		text string
		ok   bool
	}{
		{`{"a":1,"at":"2026-01-02T03:04:05Z"}`, true}, {`{"a":"x"}`, false}, {`{"a":1,"z":1}`, false}, {`{"a":1,"at":"soon"}`, false}, {`[1]`, false}, {`{}`, true},
	} {
		r := record.New([]byte(test.text))
		if err := w.Write(&r); (err == nil) != test.ok || (err != nil && !errors.Is(err, backend.ErrInvalid)) {
			t.Errorf("Write(%s): %v", test.text, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := c.Unmarshal(out.Bytes())
	if err != nil || len(got) != 2 {
		t.Fatalf("%d records, %v; want 2", len(got), err)
	}
	if data, _ := got[0].Bytes(); string(data) != `{"a":1,"at":"2026-01-02T03:04:05Z"}` {
		t.Errorf("read back %s", data)
	}
}

func TestParquetDamage(t *testing.T) {
	c := open(t, "parquet", "")
	r := record.New([]byte(`{"a":1,"b":"text"}`))
	good, err := c.Marshal(nil, &r)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		damaged := bytes.Clone(good)
		damaged[i] ^= 0xff
		if _, err := c.Unmarshal(damaged); err != nil && !errors.Is(err, backend.ErrInvalid) {
			t.Errorf("byte %d damaged: %v does not wrap backend.ErrInvalid", i, err)
		}
	}
	if _, err := c.Unmarshal(good[:len(good)/2]); !errors.Is(err, backend.ErrInvalid) {
		t.Errorf("half a file: %v", err)
	}
}

func TestParquetSkip(t *testing.T) {
	c := open(t, "parquet", `{"rowGroupRows":10,"columns":[{"name":"a","type":"int64"}]}`)
	var out bytes.Buffer
	w := c.Writer(&out)
	for i := range 35 {
		r := record.New(fmt.Appendf(nil, `{"a":%d}`, i))
		if err := w.Write(&r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for _, skip := range []int64{0, 1, 9, 10, 11, 34, 35, 99} {
		var first string
		n := int64(0)
		err := c.(codec.FileCodec).ScanAt(context.Background(), bytes.NewReader(out.Bytes()), int64(out.Len()), skip, 1000,
			func(r record.Record) error {
				if n++; n == 1 {
					data, _ := r.Bytes()
					first = string(data)
				}
				return nil
			}, func(_ []byte, err error) error { return err })
		if want := max(0, 35-skip); err != nil || n != want {
			t.Errorf("skip %d: %d records, %v; want %d", skip, n, err, want)
		}
		if want := fmt.Sprintf(`{"a":%d}`, skip); skip < 35 && first != want {
			t.Errorf("skip %d: first %s, want %s", skip, first, want)
		}
	}
}

// TestParquetFlights reads the public flights file that FLIGHTS_PARQUET names.
func TestParquetFlights(t *testing.T) {
	path := os.Getenv("FLIGHTS_PARQUET")
	if path == "" {
		t.Skip("FLIGHTS_PARQUET is not set; it names vega-datasets' data/flights-3m.parquet")
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	var n, size, peak int64
	var memory runtime.MemStats
	start := time.Now()
	err = open(t, "parquet", "").(codec.FileCodec).ScanAt(context.Background(), f, info.Size(), 0, 1<<20,
		func(r record.Record) error {
			if n++; n%500_000 == 1 {
				data, _ := r.Bytes()
				t.Logf("%d: %s", n, data)
				runtime.ReadMemStats(&memory)
				peak = max(peak, int64(memory.HeapInuse))
			}
			size += int64(r.Len())
			return nil
		}, func(_ []byte, err error) error { return err })
	if err != nil || n != 3_000_000 {
		t.Fatalf("%d records, %v; want 3,000,000", n, err)
	}
	t.Logf("%d records, %d MB of JSON in %v, heap at most %d MB", n, size>>20, time.Since(start), peak>>20)
}

func BenchmarkScanJSON(b *testing.B) {
	line := `{"id":12345,"name":"` + strings.Repeat("abc ", 200) + `","price":12.5,"tags":["a","b"],"at":"2026-01-02T03:04:05Z"}` + "\n"
	input := strings.Repeat(line, 10_000)
	c := open(b, "json", "")
	b.SetBytes(int64(len(input)))
	for b.Loop() {
		if err := c.Scan(context.Background(), strings.NewReader(input), 1<<20, func(record.Record) error { return nil }, func(_ []byte, err error) error { return err }); err != nil {
			b.Fatal(err)
		}
	}
}
