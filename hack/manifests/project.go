// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

const module = "github.com/itechsmart/operator"

// projectFile is kubebuilder's metadata of the project: https://book.kubebuilder.io/reference/project-config
type projectFile struct {
	Version     string            `json:"version"`
	Domain      string            `json:"domain"`
	ProjectName string            `json:"projectName"`
	Repo        string            `json:"repo"`
	MultiGroup  bool              `json:"multigroup"`
	Layout      []string          `json:"layout"`
	Resources   []projectResource `json:"resources"`
}

// projectResource is a kind in projectFile.
type projectResource struct {
	Group      string     `json:"group"`
	Version    string     `json:"version"`
	Kind       string     `json:"kind"`
	Domain     string     `json:"domain"`
	Path       string     `json:"path"`
	Controller bool       `json:"controller"`
	API        projectAPI `json:"api"`
}

type projectAPI struct {
	CRDVersion string `json:"crdVersion"`
	Namespaced bool   `json:"namespaced"`
}

// writeProject writes kubebuilder's metadata from the CRDs in a folder.
func writeProject(crds, path string) error {
	project := projectFile{
		Version: "3", Domain: prefix + ".dev", ProjectName: prefix, Repo: module, MultiGroup: true, Layout: []string{"go.kubebuilder.io/v4"},
	}
	found, err := readCRDs(crds)
	if err != nil {
		return err
	}
	for _, crd := range found {
		group := strings.TrimSuffix(crd.Spec.Group, "."+project.Domain)
		for _, version := range crd.Spec.Versions {
			project.Resources = append(project.Resources, projectResource{
				Group: group, Version: version.Name, Kind: crd.Spec.Names.Kind, Domain: project.Domain,
				Path: module + "/api/" + group + "/" + version.Name, Controller: true,
				API: projectAPI{CRDVersion: "v1", Namespaced: crd.Spec.Scope == apiextensionsv1.NamespaceScoped},
			})
		}
	}
	slices.SortFunc(project.Resources, func(a, b projectResource) int { return strings.Compare(a.Group+a.Kind, b.Group+b.Kind) })
	return writeYAML(path, &project)
}

// readCRDs returns the CRDs in a folder.
func readCRDs(dir string) ([]apiextensionsv1.CustomResourceDefinition, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*_*.yaml"))
	if err != nil {
		return nil, err
	}
	var out []apiextensionsv1.CustomResourceDefinition
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.Unmarshal(data, &crd); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		out = append(out, crd)
	}
	return out, nil
}
