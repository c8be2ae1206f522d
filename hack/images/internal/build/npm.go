// SPDX-License-Identifier: Apache-2.0

package build

import (
	"archive/tar"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/gzip"
)

// npmPackage is one version of one npm package, by its integrity.
type npmPackage struct {
	name, integrity string
}

// fetch downloads one file of the package, once per version.
func (p npmPackage) fetch(ctx context.Context, env *Env, member, file string, mode os.FileMode) error {
	mark := file + ".integrity"
	if have, err := os.ReadFile(mark); err == nil && string(have) == p.integrity {
		if _, err := os.Stat(file); err == nil {
			return nil
		}
	}
	dir, err := os.MkdirTemp(env.Temp, "npm-")
	if err != nil {
		return err
	}
	fmt.Fprintln(env.Log, filepath.Base(file)+": fetching", p.name)
	if err := env.run(ctx, dir, nil, "npm", "pack", "--silent", "--pack-destination", dir, p.name); err != nil {
		return err
	}
	packages, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil || len(packages) != 1 {
		return fmt.Errorf("npm pack %s left %d packages (%w)", p.name, len(packages), err)
	}
	if err := p.unpack(packages[0], member, file, mode); err != nil {
		return err
	}
	return os.WriteFile(mark, []byte(p.integrity), 0o644) //nolint:gosec // G306: for everybody
}

// unpack extracts one file of the package, and checks the package's integrity.
func (p npmPackage) unpack(pkg, member, file string, mode os.FileMode) error {
	f, err := os.Open(pkg)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha512.New()
	z, err := gzip.NewReader(io.TeeReader(f, sum))
	if err != nil {
		return err
	}
	part := file + ".part"
	defer os.Remove(part)
	found := false
	for archive := tar.NewReader(z); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("%s: %w", pkg, err)
		}
		if h.Name == member {
			if err := writeFile(part, archive, mode); err != nil {
				return err
			}
			found = true
		}
	}
	if _, err := io.Copy(sum, f); err != nil {
		return err
	}
	if got := "sha512-" + base64.StdEncoding.EncodeToString(sum.Sum(nil)); got != p.integrity {
		return fmt.Errorf("%s has the integrity %s instead of %s", p.name, got, p.integrity)
	}
	if !found {
		return fmt.Errorf("%s holds no %s", p.name, member)
	}
	return os.Rename(part, file)
}

func writeFile(file string, content io.Reader, mode os.FileMode) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}
