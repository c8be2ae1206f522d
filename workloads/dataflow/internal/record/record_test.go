// SPDX-License-Identifier: Apache-2.0

package record_test

import (
	"bytes"
	"testing"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
)

func TestRestore(t *testing.T) {
	const value = `{"a":1}`
	for name, change := range map[string]func(*record.Record){
		"nothing": func(*record.Record) {},
		"tree":    func(r *record.Record) { r.SetTree(int64(5)) },
		"bytes":   func(r *record.Record) { r.SetBytes([]byte("x")); r.SetBytes([]byte("y")) },
		"in place": func(r *record.Record) {
			o, _ := r.Object()
			o["a"] = int64(2)
			r.Changed()
			_, _ = r.Bytes()
			o["b"] = true
			r.Changed()
		},
		"in place, quiet": func(r *record.Record) { o, _ := r.Object(); o["a"] = int64(2) },
	} {
		r := record.New([]byte(value))
		change(&r)
		r.Restore()
		data, err := r.Bytes()
		if err != nil || !bytes.Equal(data, []byte(value)) {
			t.Errorf("%s: got %s, %v", name, data, err)
		}
		if object, err := r.Object(); err != nil || object["a"] != int64(1) || len(object) != 1 {
			t.Errorf("%s: got %v, %v", name, object, err)
		}
	}
}
