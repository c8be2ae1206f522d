// SPDX-License-Identifier: Apache-2.0

// Package image writes the images of our own static programs, and reads the image names of a tarball.
package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// repository is the prefix of our own images; no registry serves them.
const repository = "localcluster.itechsmart.dev/"

// Digest returns the SHA-256 of a file in hex.
func Digest(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Build writes to dir a docker-format tarball of an image that contains only the static program, as its entry point, run
// as user 65532. The tag is the program's digest. An existing tarball of the same program is kept.
func Build(program, dir string) (ref, file string, err error) {
	digest, err := Digest(program)
	if err != nil {
		return "", "", err
	}
	base := filepath.Base(program)
	ref = repository + base + ":" + digest[:12]
	file = filepath.Join(dir, base+"-"+digest[:12]+".tar")
	if _, err := os.Stat(file); err == nil {
		return ref, file, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", "", err
	}
	old, _ := filepath.Glob(filepath.Join(dir, base+"-*.tar"))
	content, err := os.ReadFile(program)
	if err != nil {
		return "", "", err
	}
	img, err := scratch(base, content)
	if err != nil {
		return "", "", err
	}
	tag, err := name.NewTag(ref)
	if err != nil {
		return "", "", err
	}
	tmp := file + ".tmp"
	if err := tarball.WriteToFile(tmp, tag, img); err != nil {
		return "", "", err
	}
	for _, f := range old {
		_ = os.Remove(f)
	}
	return ref, file, os.Rename(tmp, file)
}

func scratch(base string, content []byte) (v1.Image, error) {
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := w.WriteHeader(&tar.Header{Name: base, Mode: 0o755, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
		return nil, err
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil },
		tarball.WithCompressionLevel(1))
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		return nil, err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", runtime.GOARCH
	file.Config = v1.Config{Entrypoint: []string{"/" + base}, User: "65532:65532"}
	return mutate.ConfigFile(img, file)
}

// maxIndex limits manifest.json and index.json.
const maxIndex = 4 << 20

// References returns the names under which an import of the tarball registers images: those of manifest.json (docker
// format), else those of the annotations of index.json (OCI layout).
func References(file string) ([]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var docker []struct{ RepoTags []string }
	var oci struct {
		Manifests []struct{ Annotations map[string]string }
	}
	found := false
	r := tar.NewReader(f)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		var into any
		switch path.Clean(h.Name) {
		case "manifest.json":
			into = &docker
		case "index.json":
			into = &oci
		default:
			continue
		}
		if err := json.NewDecoder(io.LimitReader(r, maxIndex)).Decode(into); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", file, h.Name, err)
		}
		found = true
	}
	if !found {
		return nil, fmt.Errorf("%s: neither manifest.json nor index.json: not an image tarball", file)
	}
	var refs []string
	add := func(ref string) error {
		// containerd registers a docker name in full: redis:8 as docker.io/library/redis:8.
		full, err := reference.ParseDockerRef(ref)
		if err != nil {
			return fmt.Errorf("%s: image name %q: %w", file, ref, err)
		}
		if s := full.String(); !slices.Contains(refs, s) {
			refs = append(refs, s)
		}
		return nil
	}
	for _, m := range docker {
		for _, ref := range m.RepoTags {
			if err := add(ref); err != nil {
				return nil, err
			}
		}
	}
	for _, m := range oci.Manifests {
		if ref := m.Annotations["io.containerd.image.name"]; ref != "" {
			if err := add(ref); err != nil {
				return nil, err
			}
		}
	}
	if len(refs) == 0 {
		return nil, fmt.Errorf("%s: names no image (RepoTags of manifest.json, or the annotation io.containerd.image.name in index.json)", file)
	}
	return refs, nil
}
