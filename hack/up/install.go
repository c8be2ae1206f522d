// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/itechsmart/operator/hack/programs"
)

// backendImages maps the backends' names in the chart to the images used for them here.
var backendImages = map[string]string{
	"postgresql": "postgres", "kafka": "kafka", "clickhouse": "clickhouse", "redis": "redis", "rabbitmq": "rabbitmq",
}

// installOperator installs the chart with the images of this checkout.
func (u *up) installOperator(ctx context.Context) error {
	images, err := u.images()
	if err != nil {
		return err
	}
	list, err := programs.List(ctx, u.root)
	if err != nil {
		return err
	}
	values, err := chartValues(list, images)
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(values, "", "  ")
	if err != nil {
		return err
	}
	file := filepath.Join(u.logs, "values.json")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		return err
	}
	if err := u.clearRelease(ctx); err != nil {
		return err
	}
	return u.run(ctx, "install", u.root, filepath.Join(u.bin, "helm"), "upgrade", "--install", release, "charts/itechsmart",
		"--namespace", operatorNamespace, "--create-namespace", "--values", file, "--wait", "--timeout", "5m")
}

// chartValues returns the chart's values for images that were built here. The programs share one registry and one tag.
func chartValues(list []programs.Program, images map[string]image) (map[string]any, error) {
	find := func(name string) (image, error) {
		found, ok := images[name]
		if !ok {
			return image{}, fmt.Errorf("image %s was not built", name)
		}
		return found, nil
	}
	var registry, tag, digest string
	for _, p := range list {
		if !p.HasImage() {
			continue
		}
		found, err := find(p.Name)
		if err != nil {
			return nil, err
		}
		prefix, version, ok := strings.Cut(found.Ref, "/"+p.Name+":")
		switch {
		case !ok, registry != "" && (prefix != registry || version != tag):
			return nil, fmt.Errorf("image %s is %s, which is not %s/%s:%s", p.Name, found.Ref, registry, p.Name, tag)
		case p.Kind == programs.Manager:
			digest = found.Digest
		}
		registry, tag = prefix, version
	}
	backends := map[string]string{}
	for backend, name := range backendImages {
		found, err := find(name)
		if err != nil {
			return nil, err
		}
		backends[backend] = found.Ref
	}
	return map[string]any{
		"images":   map[string]any{"registry": registry, "tag": tag},
		"backends": map[string]any{"images": backends},
		// The tag stays when the image changes; the digest makes the Pod change with it.
		"podAnnotations": map[string]string{"itechsmart.dev/image": digest},
	}, nil
}
