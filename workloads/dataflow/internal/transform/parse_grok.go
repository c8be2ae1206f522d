// SPDX-License-Identifier: Apache-2.0

package transform

import (
	"fmt"
	"regexp"
	"strings"
)

// grokPatterns are the common names of Logstash's pattern library, in RE2 syntax.
var grokPatterns = map[string]string{
	"USERNAME": `[a-zA-Z0-9._-]+`, "USER": `%{USERNAME}`, "EMAILLOCALPART": `[a-zA-Z0-9!#$%&'*+\-/=?^_{|}~.]+`,
	"EMAILADDRESS": `%{EMAILLOCALPART}@%{HOSTNAME}`,
	"INT":          `[+-]?\d+`, "BASE10NUM": `[+-]?(?:\d+(?:\.\d+)?|\.\d+)`, "NUMBER": `%{BASE10NUM}`, "BASE16NUM": `(?:0[xX])?[0-9a-fA-F]+`,
	"POSINT": `[1-9]\d*`, "NONNEGINT": `\d+`, "WORD": `\b\w+\b`, "NOTSPACE": `\S+`, "SPACE": `\s*`, "DATA": `.*?`, "GREEDYDATA": `.*`,
	"QUOTEDSTRING": `"(?:\\.|[^\\"])*"|'(?:\\.|[^\\'])*'`, "QS": `%{QUOTEDSTRING}`,
	"UUID": `[A-Fa-f0-9]{8}-(?:[A-Fa-f0-9]{4}-){3}[A-Fa-f0-9]{12}`, "MAC": `(?:[A-Fa-f0-9]{2}[:-]){5}[A-Fa-f0-9]{2}`,
	"IPV4": `(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)`, "IPV6": `[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]+(?:%\w+)?`,
	"IP": `(?:%{IPV4}|%{IPV6})`, "HOSTNAME": `[0-9A-Za-z](?:[0-9A-Za-z-]{0,62})(?:\.[0-9A-Za-z][0-9A-Za-z-]{0,62})*\.?`,
	"HOST": `%{HOSTNAME}`, "IPORHOST": `(?:%{IP}|%{HOSTNAME})`, "HOSTPORT": `%{IPORHOST}:%{POSINT}`,
	"PATH": `(?:%{UNIXPATH}|%{WINPATH})`, "UNIXPATH": `(?:/[^\s]*)+`, "WINPATH": `(?:[A-Za-z]:|\\)(?:\\[^\\?*]*)+`,
	"URIPROTO": `[A-Za-z][A-Za-z0-9+.-]*`, "URIHOST": `%{IPORHOST}(?::%{POSINT})?`, "URIPATH": `(?:/[^\s?#]*)+`, "URIPARAM": `\?[^\s#]*`,
	"URIPATHPARAM": `%{URIPATH}(?:%{URIPARAM})?`, "URI": `%{URIPROTO}://(?:%{USER}(?::[^@\s]*)?@)?(?:%{URIHOST})?(?:%{URIPATHPARAM})?`,
	"MONTH":    `\b(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sep(?:tember)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)\b`,
	"MONTHNUM": `(?:0?[1-9]|1[0-2])`, "MONTHDAY": `(?:0[1-9]|[12]\d|3[01]|[1-9])`, "DAY": `(?:Mon(?:day)?|Tue(?:sday)?|Wed(?:nesday)?|Thu(?:rsday)?|Fri(?:day)?|Sat(?:urday)?|Sun(?:day)?)`,
	"YEAR": `\d{4}|\d{2}`, "HOUR": `(?:2[0123]|[01]?\d)`, "MINUTE": `[0-5]\d`, "SECOND": `(?:[0-5]?\d|60)(?:[:.,]\d+)?`, "TIME": `%{HOUR}:%{MINUTE}(?::%{SECOND})?`,
	"ISO8601_TIMEZONE": `(?:Z|[+-]%{HOUR}(?::?%{MINUTE})?)`, "TIMESTAMP_ISO8601": `(?:%{YEAR})-%{MONTHNUM}-%{MONTHDAY}[T ]%{HOUR}:?%{MINUTE}(?::?%{SECOND})?%{ISO8601_TIMEZONE}?`,
	"HTTPDATE": `%{MONTHDAY}/%{MONTH}/(?:%{YEAR}):%{TIME} %{INT}`, "SYSLOGTIMESTAMP": `%{MONTH} +%{MONTHDAY} %{TIME}`, "DATESTAMP": `(?:%{MONTHNUM}[/-]%{MONTHDAY}|%{MONTHDAY}[./-]%{MONTHNUM})[./-](?:%{YEAR})[- ]%{TIME}`,
	"LOGLEVEL":          `(?i:trace|debug|info(?:rmation)?|notice|warn(?:ing)?|err(?:or)?|crit(?:ical)?|fatal|severe|alert|emerg(?:ency)?)`,
	"PROG":              `[\x21-\x5a\x5c\x5e-\x7e]+`,
	"COMMONAPACHELOG":   `%{IPORHOST:clientip} %{NOTSPACE:ident} %{NOTSPACE:auth} \[%{HTTPDATE:timestamp}\] "(?:%{WORD:verb} %{NOTSPACE:request}(?: HTTP/%{NUMBER:httpversion})?|%{DATA:rawrequest})" %{NUMBER:response:int} (?:%{NUMBER:bytes:int}|-)`,
	"COMBINEDAPACHELOG": `%{COMMONAPACHELOG} "(?P<referrer>[^"]*)" "(?P<agent>[^"]*)"`,
}

var grokReference = regexp.MustCompile(`%\{(\w+)(?::([A-Za-z_]\w*)(?::(\w+))?)?\}`)

// newGrokParser expands %{PATTERN:field:type} into a regular expression with named groups.
func newGrokParser(source string) (parser, error) {
	casts := map[string]func(any) (any, error){}
	expanded, err := expandGrok(source, casts, 0)
	if err != nil {
		return nil, errAt("pattern", "%w", err)
	}
	pattern, err := regexp.Compile(expanded)
	if err != nil {
		return nil, errAt("pattern", "%w", err)
	}
	return groupsParser(pattern, casts)
}

func expandGrok(source string, casts map[string]func(any) (any, error), depth int) (string, error) {
	if depth > 16 || len(source) > 64<<10 {
		return "", fmt.Errorf("expands too far")
	}
	var out strings.Builder
	last := 0
	for _, m := range grokReference.FindAllStringSubmatchIndex(source, -1) {
		name := source[m[2]:m[3]]
		body, ok := grokPatterns[name]
		if !ok {
			return "", fmt.Errorf("there is no pattern %q", name)
		}
		inner, err := expandGrok(body, casts, depth+1)
		if err != nil {
			return "", err
		}
		out.WriteString(source[last:m[0]])
		last = m[1]
		if m[4] < 0 {
			out.WriteString("(?:" + inner + ")")
			continue
		}
		group := source[m[4]:m[5]]
		out.WriteString("(?P<" + group + ">" + inner + ")")
		if m[6] < 0 {
			continue
		}
		switch kind := source[m[6]:m[7]]; kind {
		case "int", "long":
			casts[group] = toInt
		case "float", "double":
			casts[group] = toFloat
		case "bool", "boolean":
			casts[group] = toBool
		case "string":
		default:
			return "", fmt.Errorf("%q: want int, float, bool or string", kind)
		}
	}
	out.WriteString(source[last:])
	return out.String(), nil
}
