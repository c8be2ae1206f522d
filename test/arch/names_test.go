// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/itechsmart/operator/controllers"
)

// mayName lists the places that may name a product, besides its own folders: documents, samples, and tests.
var mayName = []string{
	"README.md", "docs/", "config/samples/", "test/", "testdata/", "_test.go",
	"hack/tools/", // the peers that benchmarks compare a product with
	"controllers/controllers.go",
	"go.mod", "go.sum",
}

// shared lists hand-written files of the frame that name a product, each with the reason.
var shared = map[string]string{
	"api/common/v1alpha1/types.go":      "VaultSecret is a kind of reference that every product's spec may use",
	"controllers/internal/connections/": "it resolves that reference for all of them",
}

// TestNoFileNamesAProduct: a product is added by its folders and one value, so no other hand-written file may name one.
func TestNoFileNamesAProduct(t *testing.T) {
	var names []string
	for i := range controllers.Products {
		if name := controllers.Products[i].Name; name != "platform" { // which is the basis of all products
			names = append(names, name)
		}
	}
	if len(names) < 3 {
		t.Fatalf("products are %v", names)
	}
	named := regexp.MustCompile(`(?i)` + strings.Join(names, "|"))
	byTool := regexp.MustCompile(`DO NOT EDIT|controller-gen\.kubebuilder\.io/version`)
	found := map[string]bool{}
	for _, file := range tracked(t) {
		own := slices.ContainsFunc(names, func(name string) bool {
			return slices.ContainsFunc([]string{"api/", "controllers/", "workloads/"}, func(room string) bool { return strings.HasPrefix(file, room+name+"/") })
		})
		if own || slices.ContainsFunc(mayName, func(place string) bool {
			return strings.HasPrefix(file, place) || strings.Contains(file, place) && !strings.HasSuffix(place, ".md")
		}) {
			continue
		}
		data := read(t, file)
		if byTool.Match(data[:min(len(data), 1000)]) || bytes.IndexByte(data, 0) >= 0 {
			continue
		}
		if reason, line := reasonFor(file), named.Find(data); line != nil && reason == "" {
			t.Errorf("%s names %s: %q", file, line, lineOf(data, named))
		} else if line != nil {
			found[reason] = true
		}
	}
	for place, reason := range shared {
		if !found[reason] {
			t.Errorf("%s no longer names a product: remove it from this test", place)
		}
	}
}

func reasonFor(file string) string {
	for place, reason := range shared {
		if strings.HasPrefix(file, place) {
			return reason
		}
	}
	return ""
}

// lineOf returns the first line that matches.
func lineOf(data []byte, pattern *regexp.Regexp) string {
	at := pattern.FindIndex(data)[0]
	begin := bytes.LastIndexByte(data[:at], '\n') + 1
	line, _, _ := bytes.Cut(data[begin:], []byte("\n"))
	return strings.TrimSpace(string(line))
}
