// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func TestBuild(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "prog")
	if err := os.WriteFile(program, []byte("content"), 0o755); err != nil {
		t.Fatal(err)
	}
	ref, file, err := Build(program, filepath.Join(dir, "images"))
	if err != nil {
		t.Fatal(err)
	}
	refs, err := References(file)
	if err != nil || !slices.Equal(refs, []string{ref}) {
		t.Errorf("the tarball names %q, %v; want %q", refs, err, ref)
	}
	img, err := tarball.ImageFromPath(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != "65532:65532" || !slices.Equal(config.Config.Entrypoint, []string{"/prog"}) {
		t.Errorf("configuration %+v", config.Config)
	}
	if err := os.WriteFile(program, []byte("changed"), 0o755); err != nil {
		t.Fatal(err)
	}
	changed, changedFile, err := Build(program, filepath.Join(dir, "images"))
	if err != nil {
		t.Fatal(err)
	}
	if changed == ref || changedFile == file {
		t.Error("another program has the same tag")
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the tarball of the old program was kept")
	}
}

func TestReferences(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		want  []string
		fails string
	}{
		{
			name:  "docker format, short names made full",
			files: map[string]string{"manifest.json": `[{"RepoTags":["redis:8","registry.example/a/b:1"]}]`},
			want:  []string{"docker.io/library/redis:8", "registry.example/a/b:1"},
		},
		{
			name: "docker format next to an OCI layout",
			files: map[string]string{
				"manifest.json": `[{"RepoTags":["redis:8"]}]`,
				"./index.json":  `{"manifests":[{"annotations":{"io.containerd.image.name":"docker.io/library/redis:8"}}]}`,
			},
			want: []string{"docker.io/library/redis:8"},
		},
		{
			name:  "OCI layout",
			files: map[string]string{"index.json": `{"manifests":[{"annotations":{"io.containerd.image.name":"registry.example/x:2"}}]}`},
			want:  []string{"registry.example/x:2"},
		},
		{name: "no name", files: map[string]string{"index.json": `{"manifests":[{}]}`}, fails: "names no image"},
		{name: "not an image", files: map[string]string{"README": "x"}, fails: "not an image tarball"},
		{name: "broken", files: map[string]string{"manifest.json": "["}, fails: "manifest.json"},
		{name: "bad name", files: map[string]string{"manifest.json": `[{"RepoTags":["Upper/Case:1"]}]`}, fails: `image name "Upper/Case:1"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "image.tar")
			f, err := os.Create(file)
			if err != nil {
				t.Fatal(err)
			}
			w := tar.NewWriter(f)
			for name, content := range tt.files {
				if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Mode: 0o644}); err != nil {
					t.Fatal(err)
				}
				if _, err := w.Write([]byte(content)); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			got, err := References(file)
			if tt.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Fatalf("error %v, want one containing %q", err, tt.fails)
				}
				return
			}
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}
