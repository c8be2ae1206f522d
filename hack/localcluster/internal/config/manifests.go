// SPDX-License-Identifier: Apache-2.0

package config

import (
	"embed"
	"fmt"
	"strings"
	"text/template"

	"github.com/itechsmart/operator/hack/localcluster/internal/layout"
)

//go:embed manifests/*.yaml
var manifests embed.FS

// Manifests returns the objects of the add-ons, as one YAML stream. image is the reference of the add-ons' image, and
// forward makes CoreDNS forward names outside the cluster.
func Manifests(l layout.Layout, image string, forward bool) (string, error) {
	t, err := template.New("manifests").Funcs(template.FuncMap{
		"indent": func(n int, s string) string {
			return strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n"+strings.Repeat(" ", n))
		},
	}).ParseFS(manifests, "manifests/*.yaml")
	if err != nil {
		return "", err
	}
	data := map[string]any{
		"Image": image, "DNSIP": layout.DNSIP, "Corefile": Corefile(forward), "Volumes": l.Volumes(),
	}
	var b strings.Builder
	for _, name := range []string{"rbac.yaml", "coredns.yaml", "metrics-server.yaml", "storage.yaml"} {
		b.WriteString("---\n")
		if err := t.ExecuteTemplate(&b, name, data); err != nil {
			return "", fmt.Errorf("manifest %s: %w", name, err)
		}
	}
	return b.String(), nil
}
