// SPDX-License-Identifier: Apache-2.0

// Package filewatch tells that a mounted file may have changed.
package filewatch

import (
	"context"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	settle   = 200 * time.Millisecond // kubelet changes several names at once
	fallback = time.Minute            // a lost notification costs no more than this
)

// Watch calls changed whenever the file at path may have changed, and at least once a minute, until ctx ends. The directory
// is watched, not the file: kubelet replaces a symbolic link beside it.
func Watch(ctx context.Context, path string, log *slog.Logger, changed func()) {
	events := make(chan fsnotify.Event)
	if watcher, err := fsnotify.NewWatcher(); err != nil {
		log.Warn("the file is read once a minute only", "path", path, "error", err)
	} else {
		defer func() { _ = watcher.Close() }()
		if err := watcher.Add(filepath.Dir(path)); err != nil {
			log.Warn("the file is read once a minute only", "path", path, "error", err)
		}
		events = watcher.Events
		log.Debug("watching", "path", path)
	}
	timer := time.NewTimer(fallback)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-events:
			timer.Reset(settle)
			continue
		case <-timer.C:
			timer.Reset(fallback)
		}
		changed()
	}
}
