// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"os"
	"path/filepath"
)

// vega holds the flights that the quickstart loads: three million, and 200,000 with fewer columns (BSD-3).
var vega = npmPackage{
	name:      "vega-datasets@3.2.1",
	integrity: "sha512-lTSwZA6yq6qSU2YZm+6bqILiIvTPPxn4itir7jPGFmHIdPvUfQ9pCzzcrklYywMJgLUbaIeSkZQdiJd6wBxPug==",
}

var flights = []string{"flights-3m.parquet", "flights-200k.json"}

// flightFiles prepares the flights in .local/data, for the image and for running the loader natively.
func flightFiles(ctx context.Context, env *Env) (dir string, err error) {
	dir = filepath.Join(env.Root, ".local", "data")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	for _, name := range flights {
		if err := vega.fetch(ctx, env, "package/data/"+name, filepath.Join(dir, name), 0o644); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// quickstart returns the loader of the quickstart with its data in /data.
func quickstart() Image {
	image := program("quickstart", "./hack/quickstart")
	inputs, fill := image.inputs, image.fill
	image.inputs = func(ctx context.Context, env *Env) (string, error) {
		if _, err := flightFiles(ctx, env); err != nil {
			return "", err
		}
		program, err := inputs(ctx, env)
		return program + "\n" + vega.integrity, err
	}
	image.fill = func(ctx context.Context, env *Env, w *layerWriter) error {
		dir, err := flightFiles(ctx, env)
		if err != nil {
			return err
		}
		err = fill(ctx, env, w)
		for _, name := range flights {
			err = errors.Join(err, w.copy("data/"+name, 0o644, filepath.Join(dir, name)))
		}
		return err
	}
	return image
}
