// SPDX-License-Identifier: Apache-2.0

package httpapi

import "strings"

// token is a word of SQL at a depth of parentheses.
type token struct {
	text       string // as written; for a quoted name without its quotes
	start, end int    // bytes in the statement
	depth      int
	word       bool // a bare word, which may be a keyword
}

// is compares a bare word with a keyword.
func (t token) is(keyword string) bool { return t.word && strings.EqualFold(t.text, keyword) }

// lexer splits SQL into tokens only as far as needed to distinguish keywords from names, strings and comments; their
// meaning is left to the engine.
type lexer struct {
	sql   string
	at    int
	depth int
}

// next returns the next token, and false at the end of the text.
func (l *lexer) next() (token, bool) {
	l.skip()
	if l.at >= len(l.sql) {
		return token{}, false
	}
	start := l.at
	switch c := l.sql[l.at]; {
	case c == '\'' || c == '"' || c == '`':
		l.quoted(c)
		text := l.sql[start+1 : l.at]
		return token{text: strings.TrimSuffix(text, string(c)), start: start, end: l.at, depth: l.depth}, true
	case wordByte(c):
		for l.at < len(l.sql) && wordByte(l.sql[l.at]) {
			l.at++
		}
		return token{text: l.sql[start:l.at], start: start, end: l.at, depth: l.depth, word: true}, true
	default:
		l.at++
		t := token{text: string(c), start: start, end: l.at, depth: l.depth}
		switch c {
		case '(', '[', '{':
			l.depth++
		case ')', ']', '}':
			l.depth--
			t.depth = l.depth
		}
		return t, true
	}
}

// skip skips white space and comments.
func (l *lexer) skip() {
	for l.at < len(l.sql) {
		rest := l.sql[l.at:]
		switch {
		case strings.IndexByte(" \t\r\n\f\v", rest[0]) >= 0:
			l.at++
		case strings.HasPrefix(rest, "--"), strings.HasPrefix(rest, "# "), strings.HasPrefix(rest, "#!"):
			l.past("\n")
		case strings.HasPrefix(rest, "/*"):
			l.past("*/")
		default:
			return
		}
	}
}

func (l *lexer) past(end string) {
	if i := strings.Index(l.sql[l.at:], end); i >= 0 {
		l.at += i + len(end)
		return
	}
	l.at = len(l.sql)
}

// quoted skips a quoted text with its backslashes; a doubled quote is read as two texts, which is harmless here.
func (l *lexer) quoted(quote byte) {
	for l.at++; l.at < len(l.sql); l.at++ {
		switch l.sql[l.at] {
		case '\\':
			l.at++
		case quote:
			l.at++
			return
		}
	}
	l.at = min(l.at, len(l.sql))
}

func wordByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

// insertion is an INSERT that carries data.
type insertion struct {
	query  string // up to the data, without the FORMAT clause
	format string
	data   int // offset of the data in the statement
}

// statement has the properties of SQL that the server needs before the engine parses it.
type statement struct {
	verb      string     // the first word in upper case: SELECT, INSERT, …
	insert    *insertion // for an INSERT with data
	format    string     // the FORMAT of a query, if any
	inputCall bool       // INSERT … SELECT … FROM input(…)
}

// inspect parses a statement, or the start of one.
func inspect(sql string) statement {
	l := &lexer{sql: sql}
	var s statement
	var before [2]token
	for n := 0; ; n++ {
		t, ok := l.next()
		if !ok {
			return s
		}
		if s.verb == "" && t.word {
			s.verb = strings.ToUpper(t.text)
		}
		if t.is("INSERT") && t.depth == 0 && s.verb == "WITH" {
			s.verb = "INSERT"
		}
		switch {
		case s.verb == "INSERT" && t.text == "(" && before[0].is("input"):
			s.inputCall = true
		case t.depth != 0 || n < 2:
		case s.verb == "INSERT" && (t.is("SELECT") || t.is("WITH")) && n > 2:
			return s.selected(l)
		case s.verb == "INSERT" && t.is("VALUES") && n > 2:
			s.insert = &insertion{query: sql[:t.start], format: "Values", data: t.end}
			return s
		case before[0].is("FORMAT") && before[0].depth == 0 && t.word && s.verb == "INSERT" && n > 3:
			s.insert = &insertion{query: sql[:before[0].start], format: t.text, data: afterFormat(sql, t.end)}
			return s
		case before[0].is("FORMAT") && t.word && s.verb != "INSERT":
			s.format = t.text
		}
		before[1], before[0] = before[0], t
	}
}

// selected continues in an INSERT … SELECT, which has no data unless it calls input().
func (s statement) selected(l *lexer) statement {
	var last token
	for {
		t, ok := l.next()
		if !ok {
			return s
		}
		if t.text == "(" && last.is("input") {
			s.inputCall = true
			return s
		}
		last = t
	}
}

// afterFormat finds where the data starts after the name of the format: as in the server, spaces and then one line end
// are skipped, and nothing of the data.
func afterFormat(sql string, at int) int {
	for at < len(sql) && (sql[at] == ' ' || sql[at] == '\t' || sql[at] == '\r') {
		at++
	}
	if at < len(sql) && sql[at] == ';' {
		at++
	}
	if at < len(sql) && sql[at] == '\n' {
		at++
	}
	return at
}
