// SPDX-License-Identifier: Apache-2.0

package build

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/klauspost/compress/gzip"
)

func newEnv(t *testing.T) *Env {
	t.Helper()
	root := t.TempDir()
	env, err := NewEnv(root, filepath.Join(root, "out"), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = env.Close() })
	return env
}

// example returns an image whose input is one text.
func example(text *string) Image {
	return Image{
		Name: "example", Ref: "docker.io/itechsmart/example:dev",
		inputs: func(context.Context, *Env) (string, error) { return *text, nil },
		fill: func(_ context.Context, _ *Env, w *layerWriter) error {
			return errors.Join(w.bytes("opt/example/run", 0o755, []byte(*text)), w.dir("tmp", 0o1777, 0), w.link("run", "/opt/example/run"))
		},
		config: v1.Config{User: "65532:65532", Entrypoint: []string{"/run"}},
	}
}

func TestBuild(t *testing.T) {
	env, ctx, text := newEnv(t), context.Background(), "one"
	first, err := example(&text).Build(ctx, env, false)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(env.Out, "example.tar")
	tag, _ := name.NewTag(first.Ref)
	img, err := tarball.ImageFromPath(file, &tag)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(img); err != nil {
		t.Errorf("the tarball is invalid: %v", err)
	}
	if sum, _ := img.Digest(); sum.String() != first.Digest {
		t.Errorf("digest %s, of the tarball %s", first.Digest, sum)
	}
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	again, err := example(&text).Build(ctx, env, false)
	if err != nil || !again.Kept || again.Digest != first.Digest {
		t.Errorf("the same inputs: %+v, %v", again, err)
	}
	time.Sleep(time.Second) // a layer that contains the time would differ now
	forced, err := example(&text).Build(ctx, env, true)
	if err != nil || forced.Kept || forced.Digest != first.Digest {
		t.Errorf("by force: %+v, %v", forced, err)
	}
	if after, _ := os.ReadFile(file); !bytes.Equal(before, after) {
		t.Error("the same inputs resulted in another tarball")
	}
	text = "two"
	if other, err := example(&text).Build(ctx, env, false); err != nil || other.Kept || other.Digest == first.Digest {
		t.Errorf("other inputs: %+v, %v", other, err)
	}
	if err := os.Truncate(file, 10); err != nil {
		t.Fatal(err)
	}
	if mended, err := example(&text).Build(ctx, env, false); err != nil || mended.Kept {
		t.Errorf("a damaged tarball was kept: %+v, %v", mended, err)
	}
	entries, _ := os.ReadDir(env.Out)
	if len(entries) != 2 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestLayer(t *testing.T) {
	w, err := newLayer(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(
		w.bytes("/a/b/c", 0o644, []byte("x")), w.dir("./a/b", 0o700, 7), w.dir("tmp/", 0o1777, 0), w.link("l", "a/b/c"),
		w.entry(tar.Header{Name: "hard", Typeflag: tar.TypeLink, Linkname: "./a/b/c", Uname: "somebody", ModTime: time.Now()}, nil),
	)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.entry(tar.Header{Name: "pipe", Typeflag: tar.TypeFifo}, nil); err == nil {
		t.Error("a pipe was accepted")
	}
	l, err := w.close()
	if err != nil {
		t.Fatal(err)
	}
	content, err := l.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	var names []string
	for reader := tar.NewReader(content); ; {
		h, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name+" "+h.Linkname)
		if !h.ModTime.Equal(epoch) || h.Uname != "" {
			t.Errorf("%s: time %s, owner %q", h.Name, h.ModTime, h.Uname)
		}
	}
	if want := []string{"a/ ", "a/b/ ", "a/b/c ", "tmp/ ", "l a/b/c", "hard a/b/c"}; !reflect.DeepEqual(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
}

func TestDropped(t *testing.T) {
	d := debian{Drop: []string{"usr/lib/llvm-14/", "usr/bin/pg_*", "usr/share/perl"}}
	for file, want := range map[string]bool{
		"usr/share/doc": true, "usr/share/doc/x/y": true, "usr/share/docs": false, "dev/null": true, "etc/hosts": true,
		"usr/lib/llvm-14/lib/x": true, "usr/lib/llvm-140": false, "usr/bin/pg_ctl": true, "usr/bin/psql": false, "usr/share/perl5/x": true,
		"usr/lib/postgresql/15/bin/postgres": false, "etc/postgresql": false,
	} {
		if got := d.dropped(file); got != want {
			t.Errorf("%s: %v, want %v", file, got, want)
		}
	}
}

func TestFilter(t *testing.T) {
	var in bytes.Buffer
	w := tar.NewWriter(&in)
	for _, h := range []tar.Header{
		{Name: "./", Typeflag: tar.TypeDir}, {Name: "./dev/null", Typeflag: tar.TypeChar}, {Name: "./bin/su", Typeflag: tar.TypeReg, Mode: 0o4755},
		{Name: "./usr/share/man/x", Typeflag: tar.TypeReg}, {Name: "./opt/pipe", Typeflag: tar.TypeFifo},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	_ = w.Close()
	out, err := newLayer(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	d := debian{Users: []user{{"app", 7, "/home/app"}}}
	if err := errors.Join(d.filter(&in, out), d.accounts(out)); err != nil {
		t.Fatal(err)
	}
	l, err := out.close()
	if err != nil {
		t.Fatal(err)
	}
	content, _ := l.Uncompressed()
	defer content.Close()
	found := map[string]string{}
	for reader := tar.NewReader(content); ; {
		h, err := reader.Next()
		if err != nil {
			break
		}
		text, _ := io.ReadAll(reader)
		found[h.Name] = string(text)
		if h.Name == "bin/su" && h.Mode != 0o755 {
			t.Errorf("bin/su has the mode %o", h.Mode)
		}
	}
	if !strings.Contains(found["etc/passwd"], "app:x:7:7:app:/home/app:/bin/sh\n") {
		t.Errorf("passwd: %q", found["etc/passwd"])
	}
	for _, gone := range []string{"dev/null", "usr/share/man/x", "opt/pipe"} {
		if _, ok := found[gone]; ok {
			t.Errorf("%s is in the image", gone)
		}
	}
}

func TestCatalog(t *testing.T) {
	all, err := All(t.Context(), filepath.Join("..", "..", "..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, image := range all {
		if _, err := name.NewTag(image.Ref); err != nil || seen[image.Name] || image.config.User == "" || strings.HasPrefix(image.config.User, "0") {
			t.Errorf("%s: %s, user %q: %v", image.Name, image.Ref, image.config.User, err)
		}
		seen[image.Name] = true
	}
	for _, want := range []string{"manager", "vault", "workflow-worker", "quickstart", "postgres"} {
		if !seen[want] {
			t.Errorf("no image %s among %v", want, seen)
		}
	}
	if seen["vaultctl"] {
		t.Error("a command-line tool has an image")
	}
}

func TestFind(t *testing.T) {
	all := []Image{{Name: "manager", ours: true}, {Name: "vault", ours: true}, {Name: "kafka"}, {Name: "redis"}}
	for _, c := range []struct{ names, want string }{
		{"", "manager vault kafka redis"},
		{"redis kafka", "redis kafka"},
		{Programs, "manager vault"},
		{Others, "kafka redis"},
		{"vault programs vault", "vault manager"},
	} {
		found, err := Find(all, strings.Fields(c.names))
		var got []string
		for _, image := range found {
			got = append(got, image.Name)
		}
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%q: %v, %v; want %s", c.names, got, err, c.want)
		}
	}
	if _, err := Find(all, []string{"nginx"}); err == nil || !strings.Contains(err.Error(), "nginx") {
		t.Errorf("an unknown name: %v", err)
	}
}

func TestUnpackRefusesOtherContent(t *testing.T) {
	dir := t.TempDir()
	var pkg bytes.Buffer
	z := gzip.NewWriter(&pkg)
	w := tar.NewWriter(z)
	if err := w.WriteHeader(&tar.Header{Name: "package/lib.so", Typeflag: tar.TypeReg, Mode: 0o755, Size: 4}); err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write([]byte("evil"))
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	file, library := filepath.Join(dir, "p.tgz"), filepath.Join(dir, "libchdb.so")
	if err := os.WriteFile(file, pkg.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	err := npmPackage{name: "lib@1.0.0", integrity: "sha512-other"}.unpack(file, "package/lib.so", library, 0o755)
	sum := sha512.Sum512(pkg.Bytes())
	if err == nil || !strings.Contains(err.Error(), base64.StdEncoding.EncodeToString(sum[:])) {
		t.Errorf("a package of another integrity: %v", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}
