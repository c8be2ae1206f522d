// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
)

func all(t *testing.T, file string) []string {
	t.Helper()
	source, err := openFlights(file)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	var records []string
	for {
		record, err := source.Next()
		if errors.Is(err, io.EOF) {
			return records
		}
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, string(record))
	}
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestParquetFlights(t *testing.T) {
	ptr := func(n int64) *int64 { return &n }
	text := func(s string) *string { return &s }
	rows := make([]flight, 5000)
	rows[0] = flight{ptr(978307260000000), ptr(33), ptr(2176), text("LAS"), text("PHL")}
	rows[4999] = flight{Delay: ptr(-7), Origin: text(`A"B`)}
	file := filepath.Join(t.TempDir(), "flights.parquet")
	if err := parquet.WriteFile(file, rows); err != nil {
		t.Fatal(err)
	}
	got := all(t, file)
	if len(got) != len(rows) {
		t.Fatalf("%d records, want %d", len(got), len(rows))
	}
	want := map[int]string{
		0:    `{"id":0,"date":"2001-01-01T00:01:00Z","delay":33,"distance":2176,"origin":"LAS","destination":"PHL"}`,
		1:    `{"id":1}`,
		4999: `{"id":4999,"delay":-7,"origin":"A\"B"}`,
	}
	for i, record := range want {
		if got[i] != record {
			t.Errorf("record %d is %s, want %s", i, got[i], record)
		}
	}
}

func TestArrayFlights(t *testing.T) {
	got := all(t, write(t, "a.json", ` [ {"delay":0,"time":0.5}, {"delay":1} ]`))
	want := []string{`{"id":0,"delay":0,"time":0.5}`, `{"id":1,"delay":1}`}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestBadFiles(t *testing.T) {
	tests := map[string]struct{ file, want string }{
		"missing":        {"absent.parquet", "no such file"},
		"no parquet":     {write(t, "a.parquet", "PAR1 is not enough"), "a.parquet"},
		"no array":       {write(t, "b.json", `{"delay":1}`), "not a JSON array"},
		"unknown format": {write(t, "c.csv", "a,b"), "neither .parquet nor .json"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := openFlights(test.file); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error containing %q", err, test.want)
			}
		})
	}
	for name, content := range map[string]string{"cut off": `[{"delay":1},{"del`, "no object": `[1]`, "empty object": `[{}]`} {
		t.Run(name, func(t *testing.T) {
			source, err := openFlights(write(t, "x.json", content))
			if err != nil {
				t.Fatal(err)
			}
			defer source.Close()
			for err == nil {
				_, err = source.Next()
			}
			if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Error("mistaken for the end of the file")
			}
		})
	}
}
