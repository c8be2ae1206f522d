// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"strings"
	"testing"
	"time"

	vaultv1alpha1 "github.com/itechsmart/operator/api/vault/v1alpha1"
	vault "github.com/itechsmart/operator/workloads/vault/client"
)

func templated(text string) (string, error) {
	s := generated("n", "s")
	s.Spec.Type = vaultv1alpha1.TypeAPIKey
	s.Spec.Destination.Template = map[string]vaultv1alpha1.Template{"k": vaultv1alpha1.Template(text)}
	out, err := render(s, vault.Value{"key": []byte(canary), "id": []byte("me")}, 3)
	return string(out["k"]), err
}

func TestRender(t *testing.T) {
	for text, want := range map[string]string{
		"plain":                                  "plain",
		"":                                       "",
		"{{ .Value }}":                           canary,
		"{{ .Data.id }}/{{ .Data.key }}":         "me/" + canary,
		`{{ index .Data "id" }}`:                 "me",
		"{{ .Path }} {{ .Type }} {{ .Version }}": "s APIKey 3",
		"{{ .Value | b64enc | b64dec }}":         canary,
		"{{ .Data.id | upper }}":                 "ME",
		`{{ "a b&c" | urlquery }}`:               "a+b%26c",
		`{{ toJson .Data.id }}`:                  `"me"`,
		`{{ "" | default "x" }}`:                 "x",
		`{{ replace "e" "3" .Data.id }}`:         "m3",
		"{{ range $k, $v := .Data }}{{ $k }}={{ $v }};{{ end }}": "id=me;key=" + canary + ";",
		`{{ if eq .Version "3" }}yes{{ else }}no{{ end }}`:       "yes",
		`{{ with .Data.id }}{{ . }}{{ end }}`:                    "me",
		`{{ trimPrefix "m" .Data.id }}{{ trim " x " }}`:          "ex",
	} {
		if got, err := templated(text); err != nil || got != want {
			t.Errorf("%s gives %q, %v; want %q", text, got, err, want)
		}
	}
}

func TestRenderRefuses(t *testing.T) {
	double := `{{ $x := "` + strings.Repeat("x", 1000) + `" }}` + strings.Repeat(`{{ $x = replace "x" "xx" $x }}`, 40)
	for name, text := range map[string]string{
		"syntax":          "{{ .Value",
		"unknown field":   "{{ .Nothing }}",
		"missing key":     "{{ .Data.nothing }}",
		"files":           `{{ readFile "/etc/passwd" }}`,
		"environment":     `{{ env "HOME" }}`,
		"printf":          `{{ printf "%1000000d" 1 }}`,
		"print":           `{{ print .Value }}`,
		"call":            `{{ call .Value }}`,
		"define":          `{{ define "x" }}{{ end }}{{ template "x" }}`,
		"block":           `{{ block "x" . }}{{ end }}`,
		"recursion":       `{{ template "template" . }}`,
		"range number":    `{{ range 1000000000 }}{{ end }}`,
		"range variable":  `{{ $n := 1000000000 }}{{ range $n }}{{ end }}`,
		"range nested":    strings.Repeat("{{ range $.Data }}", 4) + strings.Repeat("{{ end }}", 4),
		"range in if":     `{{ if true }}{{ range 9 }}{{ end }}{{ end }}`,
		"range in else":   `{{ if false }}{{ else }}{{ range 9 }}{{ end }}{{ end }}`,
		"doubling":        double,
		"doubling encode": `{{ $x := .Value }}` + strings.Repeat(`{{ $x = toJson $x }}`, 60),
		"bad base64":      `{{ .Value | b64dec }}`,
		"method":          `{{ .Value.String }}`,
		"replace nothing": `{{ replace "" "x" .Value }}`,
		"wrong type":      `{{ upper 3 }}`,
		"slice":           `{{ slice .Value 0 9999 }}`,
	} {
		began := time.Now()
		got, err := templated(text)
		if err == nil {
			t.Errorf("%s is accepted and gives %.40q", name, got)
			continue
		}
		if strings.Contains(err.Error(), canary) {
			t.Errorf("%s: the error shows the value: %v", name, err)
		}
		if !strings.Contains(err.Error(), "spec.destination.template[k]") {
			t.Errorf("%s: the error names no field: %v", name, err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s took %s", name, took)
		}
	}
}

func TestRenderIsBounded(t *testing.T) {
	s := generated("n", "s")
	s.Spec.Destination.Template = map[string]vaultv1alpha1.Template{}
	for _, key := range []string{"a", "b", "c"} {
		s.Spec.Destination.Template[key] = "{{ .Value }}"
	}
	_, err := render(s, vault.Value{"text": []byte(strings.Repeat("x", 500<<10))}, 1)
	if err == nil || !strings.Contains(err.Error(), "bytes") {
		t.Errorf("1.5 MB in three keys: %v", err)
	}
}

// FuzzRender: whatever a template says, it ends, makes no more than it may, and its error tells nothing of the value.
func FuzzRender(f *testing.F) {
	for _, seed := range []string{
		"plain", "{{ .Value }}", "{{ .Data.id | upper }}", `{{ range $k, $v := .Data }}{{ $k }}={{ $v }}{{ end }}`, `{{ $x := .Value }}{{ $x = replace "a" "aa" $x }}`,
		"{{ .Value", `{{ define "x" }}{{ end }}`, "{{ range 9 }}{{ end }}", `{{ slice .Value 0 9999 }}`, `{{ index .Data 0 }}`, `{{ .Value | b64dec }}`, `{{ toJson . }}`, `{{ len .Value | toJson }}`,
		`{{ if and (eq .Type "APIKey") (not .Path) }}{{ else with .Data }}{{ end }}`, `{{ break }}`, "{{/* */}}", "{{- .Version -}}", `{{ (index .Data "key").X }}`, `{{ eq .Value 1 }}`, `{{ .Data.key.x }}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		out, err := templated(text)
		if len(out) > maxRendered {
			t.Fatalf("%q makes %d bytes", text, len(out))
		}
		if err != nil && (strings.Contains(err.Error(), canary) || !strings.HasPrefix(err.Error(), "spec.destination.template")) {
			t.Fatalf("%q: %v", text, err)
		}
	})
}
