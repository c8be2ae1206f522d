// SPDX-License-Identifier: Apache-2.0

// Package images holds the files that go into the images and next to the native servers.
package images

import "embed"

// Files are the scripts and settings, by their path in this folder.
//
//go:embed kafka native rootfs
var Files embed.FS
