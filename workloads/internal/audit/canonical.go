// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of an event's texts in bytes: a client's input (a user agent, a path) must not fill the log.
const (
	maxText    = 1024
	maxDetails = 16
)

// timeFormat has microseconds, as PostgreSQL does, so that a time survives the round trip.
const timeFormat = "2006-01-02T15:04:05.000000Z"

// normalize makes an event valid for every sink: a time in UTC, valid UTF-8 without NUL, bounded texts.
func normalize(e *Event, now time.Time) {
	if e.Time.IsZero() || e.Time.Year() < 1970 || e.Time.Year() > 9999 {
		e.Time = now
	}
	e.Time = e.Time.UTC().Truncate(time.Microsecond)
	for _, text := range []*string{
		&e.Product, &e.Namespace, &e.User, &e.UserID, &e.Action, &e.Object, &e.Outcome, &e.IP, &e.UserAgent, &e.RequestID,
	} {
		*text = clean(*text)
	}
	if e.User == "" {
		e.User = "anonymous"
	}
	if len(e.Details) == 0 {
		e.Details = nil
		return
	}
	details := make(map[string]string, min(len(e.Details), maxDetails))
	for _, key := range sortedKeys(e.Details) {
		if len(details) == maxDetails {
			break
		}
		details[clean(key)] = clean(e.Details[key])
	}
	e.Details = details
}

func clean(text string) string {
	if len(text) > maxText {
		text = text[:maxText] // a truncated rune becomes the replacement character
	}
	if !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0 {
		text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
	}
	return text
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// appendCanonical appends the event as canonical JSON (RFC 8785): sorted keys, no white space, the shortest escapes.
func appendCanonical(b []byte, e *Event) []byte {
	b = appendMember(append(b, '{'), "action", e.Action)
	if len(e.Details) > 0 {
		b = append(b, `,"details":{`...)
		for i, key := range sortedKeys(e.Details) {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendMember(b, key, e.Details[key])
		}
		b = append(b, '}')
	}
	for _, m := range [...]struct{ key, value string }{
		{"ip", e.IP}, {"namespace", e.Namespace}, {"object", e.Object}, {"outcome", e.Outcome}, {"product", e.Product},
		{"requestID", e.RequestID}, {"time", e.Time.UTC().Format(timeFormat)}, {"user", e.User}, {"userAgent", e.UserAgent},
		{"userID", e.UserID},
	} {
		b = appendMember(append(b, ','), m.key, m.value)
	}
	return append(b, '}')
}

func appendMember(b []byte, key, value string) []byte {
	b = appendString(b, key)
	return appendString(append(b, ':'), value)
}

const hexDigits = "0123456789abcdef"

func appendString(b []byte, text string) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		b = append(b, text[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\b':
			b = append(b, `\b`...)
		case '\t':
			b = append(b, `\t`...)
		case '\n':
			b = append(b, `\n`...)
		case '\f':
			b = append(b, `\f`...)
		case '\r':
			b = append(b, `\r`...)
		default:
			b = append(b, `\u00`...)
			b = append(b, hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return append(append(b, text[from:]...), '"')
}
