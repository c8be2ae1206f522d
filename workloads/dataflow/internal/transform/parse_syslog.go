// SPDX-License-Identifier: Apache-2.0

package transform

import (
	"errors"
	"regexp"
	"strconv"
	"strings"
)

var (
	errNotSyslog = errors.New("the text is not a syslog message")
	// RFC 5424: <PRI>VERSION TIMESTAMP HOSTNAME APP-NAME PROCID MSGID SD [MSG]
	syslog5424 = regexp.MustCompile(`(?s)^<(\d{1,3})>(\d{1,2}) (\S+) (\S+) (\S+) (\S+) (\S+) (.*)$`)
	// RFC 3164: <PRI>Mmm dd hh:mm:ss HOSTNAME TAG[PID]: MSG
	syslog3164 = regexp.MustCompile(`(?s)^<(\d{1,3})>([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d) (\S+) ([^\s:\[]{1,64})(?:\[([^\]\s]*)\])?: ?(.*)$`)
	severities = []string{"emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"}
	facilities = []string{"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
		"ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"}
)

// parseSyslog reads RFC 5424 and RFC 3164.
func parseSyslog(text string) (any, error) {
	text = strings.TrimRight(text, "\r\n\x00")
	if m := syslog5424.FindStringSubmatch(text); m != nil {
		out := map[string]any{"version": number(m[2])}
		for name, value := range map[string]string{"timestamp": m[3], "hostname": m[4], "appname": m[5], "procid": m[6], "msgid": m[7]} {
			if value != "-" {
				out[name] = value
			}
		}
		data, message, err := structuredData(m[8])
		if err != nil {
			return nil, err
		}
		if len(data) > 0 {
			out["structuredData"] = data
		}
		out["message"] = strings.TrimPrefix(message, "\uFEFF")
		return priority(out, m[1])
	}
	if m := syslog3164.FindStringSubmatch(text); m != nil {
		out := map[string]any{"timestamp": m[2], "hostname": m[3], "appname": m[4], "message": m[6]}
		if m[5] != "" {
			out["procid"] = m[5]
		}
		return priority(out, m[1])
	}
	return nil, errNotSyslog
}

func number(digits string) int64 {
	n, _ := strconv.ParseInt(digits, 10, 64) // the pattern allows digits only
	return n
}

func priority(out map[string]any, digits string) (any, error) {
	value := number(digits)
	if value > 191 {
		return nil, errNotSyslog
	}
	out["facility"], out["severity"] = facilities[value/8], severities[value%8]
	return out, nil
}

// structuredData parses [id name="value" …]… or "-", and returns the rest.
func structuredData(text string) (map[string]any, string, error) {
	if text == "-" {
		return nil, "", nil
	}
	if rest, none := strings.CutPrefix(text, "- "); none {
		return nil, rest, nil
	}
	out := map[string]any{}
	for strings.HasPrefix(text, "[") {
		id, rest, err := element(text[1:], out)
		if err != nil {
			return nil, "", err
		}
		if id == "" {
			return nil, "", errNotSyslog
		}
		text = rest
	}
	if len(out) == 0 {
		return nil, "", errNotSyslog
	}
	return out, strings.TrimPrefix(text, " "), nil
}

func element(text string, out map[string]any) (id, rest string, err error) {
	end := strings.IndexAny(text, " ]")
	if end < 0 {
		return "", "", errNotSyslog
	}
	id, rest = text[:end], text[end:]
	params := map[string]any{}
	for {
		switch {
		case strings.HasPrefix(rest, "]"):
			out[id] = params
			return id, rest[1:], nil
		case !strings.HasPrefix(rest, " "):
			return "", "", errNotSyslog
		}
		name, after, found := strings.Cut(rest[1:], `="`)
		if !found {
			return "", "", errNotSyslog
		}
		var value strings.Builder
		i := 0
		for ; i < len(after) && after[i] != '"'; i++ {
			if after[i] == '\\' && i+1 < len(after) && strings.IndexByte(`"\]`, after[i+1]) >= 0 {
				i++
			}
			value.WriteByte(after[i])
		}
		if i == len(after) {
			return "", "", errNotSyslog
		}
		params[name], rest = value.String(), after[i+1:]
	}
}
