// SPDX-License-Identifier: Apache-2.0

package celguard

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
)

// maxIssues limits the type errors that are reported for one expression.
const maxIssues = 3

// Compile parses and checks an expression. Its errors have the form "line:column: message" and address the author of the
// expression: the parser's own messages list every token of the grammar.
func Compile(env *cel.Env, source string) (*cel.Ast, error) {
	if strings.TrimSpace(source) == "" {
		return nil, errors.New("the expression is empty")
	}
	checked, issues := env.Compile(source)
	if issues.Err() == nil {
		return checked, nil
	}
	var parts []string
	for _, issue := range issues.Errors() {
		message, syntax := reword(issue, source)
		parts = append(parts, Located(issue.Location, message))
		// After a syntax error the parser guesses, so that further ones mislead.
		if syntax || len(parts) == maxIssues {
			break
		}
	}
	return nil, errors.New(strings.Join(parts, "; "))
}

// reword returns the message for one error of the compiler, and whether it is about syntax.
func reword(issue *common.Error, source string) (message string, syntax bool) {
	text := strings.Join(strings.Fields(issue.Message), " ")
	if rest, ok := strings.CutPrefix(text, "Syntax error: "); ok {
		return rewordSyntax(rest), true
	}
	for _, w := range wordings {
		if found := w.pattern.FindStringSubmatch(text); found != nil {
			return w.message(found[1:], called(source, issue.Location)), false
		}
	}
	return text, false
}

// called reports whether the location of an error is the parenthesis of a call.
func called(source string, at common.Location) bool {
	lines := strings.Split(source, "\n")
	if at == nil || at.Line() < 1 || at.Line() > len(lines) {
		return false
	}
	line := []rune(lines[at.Line()-1])
	return at.Column() >= 0 && at.Column() < len(line) && line[at.Column()] == '('
}

const endOfInput = "<EOF>"

var (
	unexpectedInput = regexp.MustCompile(`^(?:mismatched|extraneous) input '(.+)' expecting (.+)$`)
	missingInput    = regexp.MustCompile(`^missing (.+) at '(.+)'$`)
	noAlternative   = regexp.MustCompile(`^no viable alternative at input '(.+)'$`)
	unknownToken    = regexp.MustCompile(`^token recognition error at: '(.+)'$`)
)

func rewordSyntax(text string) string {
	if found := unexpectedInput.FindStringSubmatch(text); found != nil {
		if found[1] != endOfInput {
			return unexpected(found[1])
		}
		if strings.HasPrefix(found[2], "'") { // the only possible token
			return "the expression is incomplete: " + quoted(strings.Trim(found[2], "'")) + " is missing"
		}
		return "the expression is incomplete"
	}
	if found := missingInput.FindStringSubmatch(text); found != nil {
		message := quoted(strings.Trim(found[1], "'")) + " is missing"
		if found[2] != endOfInput {
			message += " before " + quoted(found[2])
		}
		return message
	}
	if found := noAlternative.FindStringSubmatch(text); found != nil {
		if found[1] == "." {
			return `a name is missing after "."`
		}
		return unexpected(found[1])
	}
	if found := unknownToken.FindStringSubmatch(text); found != nil {
		if strings.ContainsAny(found[1][:1], "'\"`") {
			return "a string is not closed, or has an unknown escape sequence"
		}
		return unexpected(strings.TrimSpace(found[1]))
	}
	return text
}

// otherOperators maps operators of other languages to CEL's.
var otherOperators = map[string]string{"=": "==", "and": "&&", "or": "||", "not": "!", "&": "&&", "|": "||", "<>": "!="}

func unexpected(token string) string {
	message := "unexpected " + quoted(token)
	if meant, ok := otherOperators[token]; ok {
		message += "; did you mean " + quoted(meant) + "?"
	}
	return message
}

// quoted shortens a token: an unclosed one reaches to the end.
func quoted(token string) string {
	const longest = 24
	if runes := []rune(token); len(runes) > longest {
		token = string(runes[:longest]) + "…"
	}
	return `"` + token + `"`
}

// wording is the message for errors of the type checker that match a pattern. call is true for an error about a call.
type wording struct {
	pattern *regexp.Regexp
	message func(parts []string, call bool) string
}

var wordings = []wording{
	{regexp.MustCompile(`^undeclared reference to '(.+?)'(?: \(in container '.*'\))?(?: \(did you mean '(.+)'\?\))?$`), func(parts []string, call bool) string {
		what := "variable"
		if call {
			what = "function"
		}
		message := "there is no " + what + " " + quoted(parts[0])
		if parts[1] != "" {
			message += "; did you mean " + quoted(parts[1]) + "?"
		}
		return message
	}},
	{regexp.MustCompile(`^found no matching overload for '(.+)' applied to '(.*)\((.*)\)'$`), func(parts []string, _ bool) string {
		return mismatch(parts[0], strings.TrimSuffix(parts[1], "."), parts[2])
	}},
	{regexp.MustCompile(`^undefined field '(.+)'$`), func(parts []string, _ bool) string {
		return "there is no field " + quoted(parts[0])
	}},
	{regexp.MustCompile(`^type '(.+)' does not support field selection$`), func(parts []string, _ bool) string {
		return "a value of type " + parts[0] + " has no fields"
	}},
	{regexp.MustCompile(`^expected type '(.+)' but found '(.+)'$`), func(parts []string, _ bool) string {
		return "want " + parts[0] + ", got " + parts[1]
	}},
	{regexp.MustCompile(`^reserved identifier: (.+)$`), func(parts []string, _ bool) string {
		return quoted(parts[0]) + " is a reserved word"
	}},
	{regexp.MustCompile(`^expression code point size exceeds limit: size: (\d+), limit (\d+)$`), func(parts []string, _ bool) string {
		return "the expression has " + parts[0] + " characters, and may have at most " + parts[1]
	}},
	{regexp.MustCompile(`^argument is not an identifier$`), func([]string, bool) string {
		return "the first argument must be a variable name"
	}},
	{regexp.MustCompile(`^invalid argument to has\(\) macro$`), func([]string, bool) string {
		return "has() needs a field, such as has(a.b)"
	}},
	{regexp.MustCompile(`^invalid (?:u?int) literal$`), func([]string, bool) string {
		return "the number does not fit into 64 bits"
	}},
}

// mismatch returns the message for a function without an overload for these types. Operators have names such as _+_, !_
// and @in.
func mismatch(function, receiver, arguments string) string {
	types := strings.Split(arguments, ", ")
	switch name := strings.Trim(function, "_@"); {
	case function == "_?_:_" && len(types) == 3:
		return fmt.Sprintf("the results of ?: must have one type, got %s and %s", types[1], types[2])
	case function == "_[_]":
		return "an index of these types is not supported: " + strings.Join(types, ", ")
	case name != function:
		return fmt.Sprintf("operator %s does not take %s", name, strings.Join(types, " and "))
	case receiver != "":
		return fmt.Sprintf("%s(%s) is not a function of %s", function, arguments, receiver)
	default:
		return fmt.Sprintf("%s() does not take (%s)", function, arguments)
	}
}
