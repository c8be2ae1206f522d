// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/itechsmart/operator/controllers/internal/validation"
	"github.com/itechsmart/operator/internal/backend"
)

const (
	mib = 1 << 20
	// shell of every official image.
	shell = "/bin/sh"
)

// settingName matches names that are valid in every system's configuration file.
var settingName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._/-]{0,252}$`)

// validateConfig returns the settings that would break the file, and those that only the operator sets.
func (t *backendType) validateConfig(path string, config map[string]string) field.ErrorList {
	var out field.ErrorList
	for _, key := range slices.Sorted(maps.Keys(config)) {
		at := fmt.Sprintf("%s.config[%q]", path, key)
		switch {
		case !settingName.MatchString(key):
			out = append(out, validation.Errorf(at, "a setting's name consists of letters, digits, '.', '_', '-' and '/'"))
		case strings.ContainsAny(config[key], "\r\n"):
			out = append(out, validation.Errorf(at, "the value must be a single line"))
		case t.isReserved(key):
			out = append(out, validation.Errorf(at, "the operator sets this; remove it"))
		}
	}
	return out
}

// isReserved matches names, case aside; a reserved name that ends in '*' is a prefix.
func (t *backendType) isReserved(key string) bool {
	key = strings.ToLower(key)
	for _, reserved := range t.reserved {
		if prefix, ok := strings.CutSuffix(reserved, "*"); ok && strings.HasPrefix(key, prefix) || key == reserved {
			return true
		}
	}
	return false
}

// merged returns the operator's settings with the user's over them.
func merged(ours, theirs map[string]string) map[string]string {
	out := maps.Clone(ours)
	maps.Copy(out, theirs)
	return out
}

// lines renders settings as a file, sorted, one a line.
func lines(settings map[string]string, format string) string {
	var out strings.Builder
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&out, format, key, settings[key])
	}
	return out.String()
}

// megabytes returns a size with the unit that all five systems read as 2^20 bytes, at least least.
func megabytes(bytes, least int64) string { return fmt.Sprintf("%dMB", max(bytes/mib, least)) }

func execProbe(script string) corev1.ProbeHandler {
	return corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{shell, "-c", script}}}
}

// bashProbe is for scripts that open a connection by /dev/tcp.
func bashProbe(script string) corev1.ProbeHandler {
	return corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"bash", "-c", script}}}
}

func httpProbe(path, port string) corev1.ProbeHandler {
	return corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString(port), Scheme: corev1.URISchemeHTTP}}
}

func secure(b backend.Binding, plain, tls string) string {
	if b.TLS == "true" {
		return tls
	}
	return plain
}
