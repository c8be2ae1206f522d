// SPDX-License-Identifier: Apache-2.0

package transform

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/internal/schema"
)

// TimestampConfig configures the type timestamp.
type TimestampConfig struct {
	Field    schema.FieldPath `json:"field" jsonschema:"required"`
	Formats  []string         `json:"formats,omitempty" jsonschema:"minItems=1,description=Accepted formats, tried in order. rfc3339; unix; unixMs; unixUs; unixNs; rfc1123; rfc822; apache; syslog; a strftime pattern (%Y-%m-%d) or a Go layout (2006-01-02). Default: rfc3339"`
	Timezone string           `json:"timezone,omitempty" jsonschema:"default=UTC,description=IANA name of the zone for times without one"`
	Target   schema.FieldPath `json:"target,omitempty" jsonschema:"description=The field that gets the time as written by 'output'; default: none"`
	Output   string           `json:"output,omitempty" jsonschema:"default=rfc3339,description=How the target is written: as in 'formats'"`
	Record   *bool            `json:"record,omitempty" jsonschema:"default=true,description=Use it as the record's own time"`
}

type timestamper struct {
	from     field
	to       *field
	parse    func(any) (time.Time, error)
	write    func(time.Time) any
	onRecord bool
}

func timestampSpec() Spec {
	return specOf("timestamp", "Reads a time from a field, for the record's own time or to write it another way.", newTimestamp)
}

func newTimestamp(cfg TimestampConfig, _ Env) (any, error) {
	zone, err := time.LoadLocation(cfg.Timezone)
	if err != nil {
		return nil, fmt.Errorf(".timezone: %q is not a known time zone", cfg.Timezone)
	}
	out := &timestamper{onRecord: cfg.Record == nil || *cfg.Record}
	if out.from, err = newField(cfg.Field); err != nil {
		return nil, fmt.Errorf(".field: %w", err)
	}
	formats := cfg.Formats
	if len(formats) == 0 {
		formats = []string{"rfc3339"}
	}
	if out.parse, err = timeParser(formats, zone); err != nil {
		return nil, fmt.Errorf(".formats: %w", err)
	}
	if out.write, err = timeWriter(cfg.Output, zone); err != nil {
		return nil, fmt.Errorf(".output: %w", err)
	}
	if cfg.Target != "" {
		to, err := newField(cfg.Target)
		if err != nil {
			return nil, fmt.Errorf(".target: %w", err)
		}
		out.to = &to
	}
	if out.to == nil && !out.onRecord {
		return nil, errors.New(".target: is required when 'record' is false")
	}
	return out, nil
}

// Map reads the field without decoding the rest if it only sets the record's time.
func (t *timestamper) Map(_ context.Context, r *record.Record) error {
	value, ok, err := t.from.read(r)
	if err != nil {
		return err
	}
	if !ok || value == nil {
		return t.from.errorf("is missing")
	}
	at, err := t.parse(value)
	if err != nil {
		return t.from.errorf("%w", err)
	}
	if t.to != nil {
		object, err := r.Object()
		if err != nil {
			return err
		}
		r.Changed()
		if err := t.to.set(object, t.write(at)); err != nil {
			return err
		}
	}
	if t.onRecord {
		r.Time = at
	}
	return nil
}

var namedLayouts = map[string]string{
	"rfc3339": time.RFC3339Nano, "rfc1123": time.RFC1123Z, "rfc822": time.RFC822Z,
	"apache": "02/Jan/2006:15:04:05 -0700", "syslog": time.Stamp, "date": time.DateOnly, "datetime": time.DateTime,
}

var unixUnits = map[string]int64{"unix": 1e9, "unixMs": 1e6, "unixUs": 1e3, "unixNs": 1}

var errNoFormat = errors.New("the value is not a time in any of the formats")

func timeParser(formats []string, zone *time.Location) (func(any) (time.Time, error), error) {
	parsers := make([]func(any) (time.Time, bool), len(formats))
	for i, format := range formats {
		if unit, ok := unixUnits[format]; ok {
			parsers[i] = func(value any) (time.Time, bool) { return fromUnix(value, unit) }
			continue
		}
		layout, err := layoutOf(format)
		if err != nil {
			return nil, err
		}
		parsers[i] = func(value any) (time.Time, bool) {
			text, ok := value.(string)
			if !ok {
				return time.Time{}, false
			}
			at, err := time.ParseInLocation(layout, text, zone)
			return at, err == nil
		}
	}
	return func(value any) (time.Time, error) {
		for _, parse := range parsers {
			if at, ok := parse(value); ok {
				return at, nil
			}
		}
		return time.Time{}, errNoFormat
	}, nil
}

// fromUnix converts whole numbers exactly, and fractions to about a nanosecond.
func fromUnix(value any, unit int64) (time.Time, bool) {
	if text, ok := value.(string); ok {
		if whole, err := strconv.ParseInt(text, 10, 64); err == nil {
			value = whole
		} else if float, err := strconv.ParseFloat(text, 64); err == nil {
			value = float
		}
	}
	perSecond := int64(1e9) / unit
	switch v := value.(type) {
	case int64:
		return inRange(time.Unix(v/perSecond, (v%perSecond)*unit))
	case float64:
		seconds, fraction := math.Modf(v / float64(perSecond))
		if math.Abs(seconds) > 1e12 || math.IsNaN(seconds) {
			return time.Time{}, false
		}
		return inRange(time.Unix(int64(seconds), int64(fraction*1e9)))
	}
	return time.Time{}, false
}

// inRange refuses years that RFC 3339 cannot represent.
func inRange(at time.Time) (time.Time, bool) {
	at = at.UTC()
	return at, at.Year() >= 0 && at.Year() <= 9999
}

func timeWriter(format string, zone *time.Location) (func(time.Time) any, error) {
	if format == "" {
		format = "rfc3339"
	}
	if unit, ok := unixUnits[format]; ok {
		return func(at time.Time) any {
			perSecond := int64(1e9) / unit
			return at.Unix()*perSecond + int64(at.Nanosecond())/unit
		}, nil
	}
	layout, err := layoutOf(format)
	return func(at time.Time) any { return at.In(zone).Format(layout) }, err
}

var strftime = map[byte]string{
	'Y': "2006", 'y': "06", 'm': "01", 'd': "02", 'e': "_2", 'H': "15", 'I': "03", 'M': "04", 'S': "05", 'p': "PM",
	'b': "Jan", 'h': "Jan", 'B': "January", 'a': "Mon", 'A': "Monday", 'z': "-0700", 'Z': "MST", 'j': "002",
	'f': "000000", 'L': "000", 'T': "15:04:05", 'F': "2006-01-02", 'D': "01/02/06", 'R': "15:04", 'n': "\n", 't': "\t", '%': "%",
}

// layoutOf returns the Go layout of a named format, a strftime pattern or a layout.
func layoutOf(format string) (string, error) {
	if layout, ok := namedLayouts[format]; ok {
		return layout, nil
	}
	layout := format
	if strings.Contains(format, "%") {
		var out strings.Builder
		for i := 0; i < len(format); i++ {
			if format[i] != '%' {
				out.WriteByte(format[i])
				continue
			}
			if i++; i == len(format) {
				return "", fmt.Errorf("%q ends in a single %%", format)
			}
			part, ok := strftime[format[i]]
			if !ok {
				return "", fmt.Errorf("%q: %%%c is not supported", format, format[i])
			}
			out.WriteString(part)
		}
		layout = out.String()
	}
	// A text without any layout element formats two different times alike.
	a, b := time.Date(2001, 2, 3, 4, 5, 6, 7e8, time.UTC), time.Date(2012, 11, 20, 19, 18, 17, 8e8, time.UTC)
	if a.Format(layout) == b.Format(layout) {
		return "", fmt.Errorf("%q is neither a known format nor a layout", format)
	}
	return layout, nil
}
