// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"path/filepath"
)

const listFile = "kustomization.yaml"

// kustomization is the part of kustomize's type that a list of files needs.
type kustomization struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Resources  []string `json:"resources"`
}

// writeList writes the kustomization of a folder: all its manifests, in the order of their names.
func writeList(dir string) error {
	paths, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return err
	}
	list := kustomization{APIVersion: "kustomize.config.k8s.io/v1beta1", Kind: "Kustomization"}
	for _, path := range paths {
		if name := filepath.Base(path); name != listFile {
			list.Resources = append(list.Resources, name)
		}
	}
	if len(list.Resources) == 0 {
		return errors.New(dir + " holds no manifest")
	}
	return writeYAML(filepath.Join(dir, listFile), &list)
}
