// SPDX-License-Identifier: Apache-2.0

// Package filewatch reports when the files of a mounted Secret may have changed.
package filewatch

import (
	"context"
	"log/slog"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	settle   = 200 * time.Millisecond // kubelet changes several names at once
	fallback = time.Minute            // a lost notification costs at most this
)

// Run calls onChange after a change in the directory, and once a minute, until ctx ends. It watches the directory, not a
// file, because kubelet replaces a symbolic link next to it.
func Run(ctx context.Context, dir string, log *slog.Logger, onChange func()) {
	events := make(chan fsnotify.Event)
	watcher, err := fsnotify.NewWatcher()
	if err == nil {
		defer func() { _ = watcher.Close() }()
		err = watcher.Add(dir)
		events = watcher.Events
	}
	if err != nil {
		log.Warn("the files are read only once a minute", "directory", dir, "error", err)
	}
	log.Debug("watching", "directory", dir)
	timer := time.NewTimer(fallback)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-events:
			timer.Reset(settle)
		case <-timer.C:
			timer.Reset(fallback)
			onChange()
		}
	}
}
