// SPDX-License-Identifier: Apache-2.0

package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"sort"
	"strings"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connectors/internal/files"
)

// stateDirectory is hidden, so that no source reads it as data.
const stateDirectory = ".itechsmart"

// store is a directory.
type store struct {
	dir   *os.Root
	state *os.Root
}

// List walks the whole directory, because a file system has no order of its own.
func (s *store) List(ctx context.Context, after string) ([]files.Entry, bool, error) {
	var out []files.Entry
	err := fs.WalkDir(s.dir.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, fs.ErrNotExist):
			return nil // removed meanwhile
		case err != nil:
			return err
		case entry.IsDir():
			if strings.HasPrefix(entry.Name(), ".") && name != "." {
				return fs.SkipDir
			}
			return nil
		case name <= after || !entry.Type().IsRegular():
			return nil
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		out = append(out, files.Entry{Name: name, Size: info.Size(), Modified: info.ModTime()})
		return nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("list the directory: %w", kind(err))
	}
	// The walk sorts within directories only: "a/b" against "a.b" needs a sort of full names.
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out, false, nil
}

// kind adds the sentinel to an error of the file system.
func kind(err error) error {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", err, backend.ErrNotFound)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %w", err, backend.ErrAuth)
	default:
		return fmt.Errorf("%w: %w", err, backend.ErrUnavailable)
	}
}

func (s *store) Open(_ context.Context, entry files.Entry) (files.File, error) {
	f, err := s.dir.Open(entry.Name)
	if err != nil {
		return nil, kind(err)
	}
	return f, nil
}

func (s *store) Put(_ context.Context, name string, data []byte) error {
	return put(s.dir, name, data)
}

// put writes a temporary file, syncs it, and renames it into place; then it syncs the directory, without which
// a crash may lose the name itself.
func put(dir *os.Root, name string, data []byte) (err error) {
	parent := path.Dir(name)
	if err := dir.MkdirAll(parent, 0o755); err != nil {
		return fmt.Errorf("write %s: %w", name, kind(err))
	}
	hidden := path.Join(parent, ".part-"+path.Base(name))
	defer func() {
		if err != nil {
			_ = dir.Remove(hidden)
			err = fmt.Errorf("write %s: %w", name, kind(err))
		}
	}()
	f, err := dir.OpenFile(hidden, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := dir.Rename(hidden, name); err != nil {
		return err
	}
	folder, err := dir.Open(parent)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

func statePath(name string) string {
	return stateDirectory + "/" + strings.NewReplacer("/", "_", "\\", "_").Replace(name)
}

func (s *store) LoadState(_ context.Context, name string) ([]byte, error) {
	data, err := s.state.ReadFile(statePath(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("load the position: %w", kind(err))
	}
	return data, nil
}

func (s *store) SaveState(_ context.Context, name string, data []byte) error {
	return put(s.state, statePath(name), data)
}

func (s *store) Close() error {
	err := s.dir.Close()
	if s.state != s.dir {
		err = errors.Join(err, s.state.Close())
	}
	return err
}
