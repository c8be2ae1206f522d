// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/parquet-go/parquet-go"
)

// flights returns the records of a file in order, each as one JSON object with its index in the file as `id`.
type flights interface {
	// Next returns the next record's JSON; io.EOF after the last.
	Next() ([]byte, error)
	// Total returns the number of records; 0 if it is only known at the end.
	Total() int64
	io.Closer
}

func openFlights(name string) (flights, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	var source flights
	switch filepath.Ext(name) {
	case ".parquet":
		source, err = newParquet(file)
	case ".json":
		source, err = newArray(file)
	default:
		err = fmt.Errorf("%s: neither .parquet nor .json", name)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return source, nil
}

// flight is a row of flights-3m.parquet.
type flight struct {
	Date        *int64  `parquet:"date,optional,timestamp(microsecond)"`
	Delay       *int64  `parquet:"delay,optional"`
	Distance    *int64  `parquet:"distance,optional"`
	Origin      *string `parquet:"origin,optional"`
	Destination *string `parquet:"destination,optional"`
}

type parquetFlights struct {
	file   *os.File
	reader *parquet.GenericReader[flight]
	rows   []flight
	at     int // in rows
	id     int64
}

func newParquet(file *os.File) (*parquetFlights, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	opened, err := parquet.OpenFile(file, info.Size())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file.Name(), err)
	}
	return &parquetFlights{file: file, reader: parquet.NewGenericReader[flight](opened)}, nil
}

func (p *parquetFlights) Total() int64 { return p.reader.NumRows() }

func (p *parquetFlights) Close() error { return errors.Join(p.reader.Close(), p.file.Close()) }

func (p *parquetFlights) Next() ([]byte, error) {
	if p.at == len(p.rows) {
		if err := p.fill(); err != nil {
			return nil, err
		}
	}
	row := &p.rows[p.at]
	record := appendFlight(make([]byte, 0, 112), p.id, row)
	p.at, p.id = p.at+1, p.id+1
	return record, nil
}

func (p *parquetFlights) fill() error {
	const atOnce = 4096
	rows := make([]flight, atOnce)
	n, err := p.reader.Read(rows)
	if n == 0 {
		if err == nil {
			err = io.ErrNoProgress
		}
		return err
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	p.rows, p.at = rows[:n], 0
	return nil
}

func appendFlight(b []byte, id int64, f *flight) []byte {
	b = strconv.AppendInt(append(b, `{"id":`...), id, 10)
	if f.Date != nil {
		b = time.UnixMicro(*f.Date).UTC().AppendFormat(append(b, `,"date":"`...), time.RFC3339Nano)
		b = append(b, '"')
	}
	b = appendNumber(b, `,"delay":`, f.Delay)
	b = appendNumber(b, `,"distance":`, f.Distance)
	b = appendText(b, `,"origin":`, f.Origin)
	b = appendText(b, `,"destination":`, f.Destination)
	return append(b, '}')
}

func appendNumber(b []byte, key string, value *int64) []byte {
	if value == nil {
		return b
	}
	return strconv.AppendInt(append(b, key...), *value, 10)
}

func appendText(b []byte, key string, value *string) []byte {
	if value == nil {
		return b
	}
	text, _ := json.Marshal(*value) // a string always marshals
	return append(append(b, key...), text...)
}

// arrayFlights reads one JSON array of objects.
type arrayFlights struct {
	file    *os.File
	decoder *json.Decoder
	id      int64
}

func newArray(file *os.File) (*arrayFlights, error) {
	decoder := json.NewDecoder(bufio.NewReaderSize(file, 1<<20))
	token, err := decoder.Token()
	if err != nil || token != json.Delim('[') {
		return nil, fmt.Errorf("%s: not a JSON array (%w)", file.Name(), err)
	}
	return &arrayFlights{file: file, decoder: decoder}, nil
}

func (a *arrayFlights) Total() int64 { return 0 }

func (a *arrayFlights) Close() error { return a.file.Close() }

func (a *arrayFlights) Next() ([]byte, error) {
	if !a.decoder.More() {
		return nil, io.EOF
	}
	var object json.RawMessage
	if err := a.decoder.Decode(&object); err != nil {
		return nil, fmt.Errorf("record %d: %w", a.id, err)
	}
	if len(object) < 3 || object[0] != '{' {
		return nil, fmt.Errorf("record %d: not a JSON object with a field", a.id)
	}
	record := strconv.AppendInt([]byte(`{"id":`), a.id, 10)
	a.id++
	return append(append(record, ','), object[1:]...), nil
}
