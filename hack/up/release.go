// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// lock prevents two concurrent runs on one cluster; it ends with the process.
func (u *up) lock() (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(u.logs, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(errors.New("another `make up` is running on this checkout; wait for it to end"), file.Close())
	}
	return file, nil
}

// clearRelease clears the state of an interrupted Helm: a release that waits forever for an operation that is gone.
func (u *up) clearRelease(ctx context.Context) error {
	command := exec.CommandContext(ctx, filepath.Join(u.bin, "helm"), "list", "--namespace", operatorNamespace, "--filter", "^"+release+"$", "--output", "json")
	command.Env = append(os.Environ(), "KUBECONFIG="+u.kubeconfig)
	out, err := command.Output()
	if err != nil {
		return fmt.Errorf("helm list: %w", err)
	}
	var releases []struct {
		Status   string `json:"status"`
		Revision string `json:"revision"`
	}
	if err := json.Unmarshal(out, &releases); err != nil {
		return fmt.Errorf("helm list: %w", err)
	}
	for _, r := range releases {
		switch r.Status {
		case "pending-install", "pending-upgrade", "pending-rollback", "uninstalling":
			// Only the record of the operation is removed: the next one takes over what it created.
			if _, err := u.kubectl(ctx, "-n", operatorNamespace, "delete", "secret", "sh.helm.release.v1."+release+".v"+r.Revision); err != nil {
				return err
			}
		}
	}
	return nil
}
