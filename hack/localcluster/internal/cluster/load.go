// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/itechsmart/operator/hack/localcluster/internal/image"
	"github.com/itechsmart/operator/hack/localcluster/internal/layout"
)

// loaded maps the name of each image to the SHA-256 of the tarball that it was last imported from.
type loaded map[string]string

func (c *Cluster) loadedFile() string { return filepath.Join(c.l.ContainerdRoot(), "loaded.json") }

func (c *Cluster) readLoaded() loaded {
	record := loaded{}
	if b, err := os.ReadFile(c.loadedFile()); err == nil {
		// What cannot be read is imported again.
		_ = json.Unmarshal(b, &record)
	}
	return record
}

// Load imports image tarballs (docker format or OCI layout) for the kubelet to use. Those whose content was imported
// before, and whose images still exist, are skipped. Progress goes to out, which may be nil.
func (c *Cluster) Load(ctx context.Context, files []string, out io.Writer) error {
	if out == nil {
		out = io.Discard
	}
	client, err := dialRuntime(c.l)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.ready(ctx); err != nil {
		return fmt.Errorf("containerd does not respond (run `localcluster up` first): %w", err)
	}
	for _, file := range files {
		begin := time.Now()
		refs, err := image.References(file)
		if err != nil {
			return err
		}
		digest, err := image.Digest(file)
		if err != nil {
			return err
		}
		present, err := client.imageNames(ctx)
		if err != nil {
			return err
		}
		record := c.readLoaded()
		if record.holds(refs, digest, present) {
			fmt.Fprintf(out, "%s: already loaded as %s\n", file, strings.Join(refs, ", "))
			continue
		}
		if err := c.importImage(ctx, client, file, refs); err != nil {
			return err
		}
		for _, ref := range refs {
			record[ref] = digest
		}
		b, err := json.MarshalIndent(record, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(c.loadedFile(), b, 0o600); err != nil {
			return err
		}
		fmt.Fprintf(out, "%s: loaded as %s in %.1fs\n", file, strings.Join(refs, ", "), time.Since(begin).Seconds())
	}
	return nil
}

// holds reports whether every reference was imported from a tarball of that digest and is present.
func (r loaded) holds(refs []string, digest string, present map[string]bool) bool {
	for _, ref := range refs {
		if r[ref] != digest || !present[ref] {
			return false
		}
	}
	return true
}

func (c *Cluster) importImage(ctx context.Context, client *runtimeClient, file string, refs []string) error {
	cmd := exec.CommandContext(ctx, "ctr", "--address", c.l.ContainerdSocket(), "--namespace", layout.ContainerdNamespace,
		"images", "import", "--snapshotter", "overlayfs", file)
	if b, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("import %s: %w: %s", file, err, strings.TrimSpace(string(b)))
	}
	// containerd notifies its Kubernetes side of new images by events, shortly after.
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var missing string
	var last error
	err := poll(ctx, func() bool {
		present, err := client.imageNames(ctx)
		if last = err; err != nil {
			return false
		}
		for _, ref := range refs {
			if !present[ref] {
				missing = ref
				return false
			}
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("import %s: image %s did not appear: %w", file, missing, errors.Join(err, last))
	}
	return nil
}
