// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"path/filepath"

	"golang.org/x/sync/errgroup"
)

// task is one of several concurrent parts of a step.
type task func(ctx context.Context, u *up) error

// together runs tasks concurrently, shows the progress of all, and stops them when one fails.
func (u *up) together(ctx context.Context, tasks ...task) error {
	group, ctx := errgroup.WithContext(ctx)
	shows := sideBySide(len(tasks), u.show)
	for i, run := range tasks {
		part := *u
		part.show = shows[i]
		group.Go(func() error {
			err := run(ctx, &part)
			part.show("")
			return err
		})
	}
	return group.Wait()
}

// buildNode builds Helm and Kubernetes. The servers' images mostly wait for downloads, so they are built at the same
// time. The operator's programs follow later: two big concurrent builds would compile their shared packages twice.
func (u *up) buildNode(ctx context.Context) error {
	return u.together(ctx, compileNode, buildServers)
}

func compileNode(ctx context.Context, u *up) error {
	for _, target := range []string{"localcluster", filepath.Join(u.bin, "helm")} {
		if err := u.make(ctx, "build-"+filepath.Base(target), target); err != nil {
			return err
		}
	}
	return u.run(ctx, "build-node", u.root, filepath.Join(u.bin, "localcluster"), "build")
}

func buildServers(ctx context.Context, u *up) error {
	if err := u.make(ctx, "download", "download"); err != nil {
		return err
	}
	return u.make(ctx, "images-others", "images", "IMAGES=others")
}

// startNode starts the node. Its components mostly wait for each other, so the operator's images are built at the same
// time.
func (u *up) startNode(ctx context.Context) error {
	return u.together(ctx, func(ctx context.Context, u *up) error {
		return u.run(ctx, "node", u.root, filepath.Join(u.bin, "localcluster"), "up")
	}, func(ctx context.Context, u *up) error {
		return u.make(ctx, "images-programs", "images", "IMAGES=programs")
	})
}

func (u *up) make(ctx context.Context, log string, args ...string) error {
	return u.run(ctx, log, u.root, "make", append([]string{"--no-print-directory"}, args...)...)
}
