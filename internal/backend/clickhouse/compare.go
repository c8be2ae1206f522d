// SPDX-License-Identifier: Apache-2.0

package clickhouse

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/itechsmart/operator/internal/backend/internal/sqltext"
)

// Drift is the difference between a desired and an existing table.
type Drift struct {
	// Missing columns are to be added, Changed ones to be modified (both as desired). Additional columns are
	// left alone.
	Missing, Changed []Column
	TTL, Comment     bool
	// Fixed describes, for people, what no ALTER can change: engine, sorting key and partition key.
	Fixed []string
}

// None reports whether nothing differs.
func (d Drift) None() bool {
	return len(d.Missing) == 0 && len(d.Changed) == 0 && !d.TTL && !d.Comment && len(d.Fixed) == 0
}

// Drift compares the desired table with the existing one, ignoring spacing, aliases of types and brackets
// around keys.
func (t Table) Drift(got Table) Drift {
	var d Drift
	is := map[string]Column{}
	for _, column := range got.Columns {
		is[column.Name] = column
	}
	for _, want := range t.Columns {
		column, ok := is[want.Name]
		switch {
		case !ok:
			d.Missing = append(d.Missing, want)
		case !SameType(want.Type, column.Type) || !SameExpression(want.Default, column.Default):
			d.Changed = append(d.Changed, want)
		}
	}
	d.TTL = !SameExpression(t.TTL, got.TTL)
	d.Comment = t.Comment != got.Comment
	if !sameEngine(t.engine(), got.engine()) {
		d.Fixed = append(d.Fixed, fmt.Sprintf("engine: want %s, is %s", t.engine(), got.engine()))
	}
	if !SameExpression(t.OrderBy, got.OrderBy) {
		d.Fixed = append(d.Fixed, fmt.Sprintf("order by: want %s, is %s", t.OrderBy, got.OrderBy))
	}
	if !SameExpression(t.PartitionBy, got.PartitionBy) {
		d.Fixed = append(d.Fixed, fmt.Sprintf("partition by: want %s, is %s", t.PartitionBy, got.PartitionBy))
	}
	return d
}

// aliases maps other names of types, in upper case, to the server's names.
var aliases = map[string]string{
	"TINYINT": "Int8", "INT1": "Int8", "SMALLINT": "Int16", "INT": "Int32", "INTEGER": "Int32", "BIGINT": "Int64",
	"FLOAT": "Float32", "REAL": "Float32", "DOUBLE": "Float64",
	"TEXT": "String", "VARCHAR": "String", "CHAR": "String", "BLOB": "String",
	"BOOL": "Bool", "BOOLEAN": "Bool", "TIMESTAMP": "DateTime",
	"DATE": "Date", "DATETIME": "DateTime", "NUMERIC": "Decimal", "DEC": "Decimal", "DECIMAL": "Decimal",
	"INET4": "IPv4", "INET6": "IPv6",
}

var typeWord = regexp.MustCompile(`'[^']*'|[A-Za-z_][A-Za-z0-9_]*`)

// SameType reports whether two types are equal, ignoring spacing and common aliases.
func SameType(a, b string) bool { return canonicalType(a) == canonicalType(b) }

func canonicalType(text string) string {
	text = typeWord.ReplaceAllStringFunc(text, func(word string) string {
		if name, ok := aliases[strings.ToUpper(word)]; ok {
			return name
		}
		return word
	})
	return sqltext.Normalize(text)
}

var interval = regexp.MustCompile(`(?i)\bINTERVAL\s+(\d+)\s+(SECOND|MINUTE|HOUR|DAY|WEEK|MONTH|QUARTER|YEAR)S?\b`)

// SameExpression reports whether two expressions are equal, ignoring spacing, the brackets around the whole and
// the spelling of intervals.
func SameExpression(a, b string) bool { return canonicalExpression(a) == canonicalExpression(b) }

func canonicalExpression(text string) string {
	text = interval.ReplaceAllStringFunc(text, func(match string) string {
		part := interval.FindStringSubmatch(match)
		unit := strings.ToLower(part[2])
		return "toInterval" + strings.ToUpper(unit[:1]) + unit[1:] + "(" + part[1] + ")"
	})
	text = sqltext.Normalize(text)
	kind := kindForm.FindString(text)
	text = strings.TrimSpace(text[len(kind):])
	if text == "tuple()" {
		text = ""
	}
	for wrapped(text) {
		text = text[1 : len(text)-1]
	}
	return strings.ToUpper(kind) + " " + text
}

// wrapped reports whether one pair of brackets encloses the whole text.
func wrapped(text string) bool {
	if len(text) < 2 || text[0] != '(' || text[len(text)-1] != ')' {
		return false
	}
	depth, quoted := 0, false
	for i := range len(text) {
		switch c := text[i]; {
		case c == '\'':
			quoted = !quoted
		case quoted:
		case c == '(':
			depth++
		case c == ')':
			if depth--; depth == 0 && i < len(text)-1 {
				return false
			}
		}
	}
	return true
}

// sameEngine compares engines; a desired one without arguments matches any arguments, because a cluster may add
// them.
func sameEngine(want, got string) bool {
	wantName, wantArguments, _ := strings.Cut(sqltext.Normalize(want), "(")
	gotName, gotArguments, _ := strings.Cut(sqltext.Normalize(got), "(")
	return wantName == gotName && (wantArguments == "" || wantArguments == ")" || wantArguments == gotArguments)
}

// clauseWords start what follows the engine in engine_full.
var clauseWords = []string{" PARTITION BY ", " PRIMARY KEY ", " ORDER BY ", " SAMPLE BY ", " TTL ", " SETTINGS "}

// clauses splits engine_full: the engine itself under "", the rest under the trimmed words of clauseWords.
func clauses(full string) map[string]string {
	out := map[string]string{}
	current, start, depth := "", 0, 0
	quoted := false
	for i := 0; i < len(full); i++ {
		switch c := full[i]; {
		case quoted && c == '\\':
			i++
		case c == '\'':
			quoted = !quoted
		case quoted:
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == ' ' && depth == 0:
			for _, word := range clauseWords {
				if strings.HasPrefix(full[i:], word) {
					out[current] = full[start:i]
					current, start = strings.TrimSpace(word), i+len(word)
					i += len(word) - 2 // its last space may start the next
					break
				}
			}
		}
	}
	out[current] = full[min(start, len(full)):]
	return out
}
