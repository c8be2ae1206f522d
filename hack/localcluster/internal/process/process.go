// SPDX-License-Identifier: Apache-2.0

// Package process starts detached processes and identifies them later: by process id, start time and boot, so that a
// reused process id is never mistaken for one of ours.
package process

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Record identifies a process that was started.
type Record struct {
	PID int `json:"pid"`
	// StartTicks is the start time in clock ticks since boot: field 22 of /proc/PID/stat.
	StartTicks uint64   `json:"startTicks"`
	BootID     string   `json:"bootID"`
	Args       []string `json:"args"`
}

// Spec describes how to start a process.
type Spec struct {
	// Path is the program, Args its arguments including the zeroth.
	Path string
	Args []string
	// Log is the file that standard output and standard error are appended to.
	Log string
	// CgroupProcs lists cgroup.procs files that the process is added to.
	CgroupProcs []string
}

// BootID returns the identifier of the machine's current boot.
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
}

// ParseStat returns state and start time (clock ticks since boot) from the content of /proc/PID/stat.
func ParseStat(stat string) (state byte, startTicks uint64, err error) {
	// The command, in parentheses, may itself contain spaces and parentheses.
	end := strings.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, 0, errors.New("process status: no command")
	}
	fields := strings.Fields(stat[end+1:])
	if len(fields) < 20 {
		return 0, 0, fmt.Errorf("process status: %d fields after the command, want at least 20", len(fields))
	}
	startTicks, err = strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("process status: start time: %w", err)
	}
	return fields[0][0], startTicks, nil
}

// Identify returns the record of the live process pid.
func Identify(pid int) (Record, error) {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return Record{}, err
	}
	state, ticks, err := ParseStat(string(stat))
	if err != nil {
		return Record{}, err
	}
	if state == 'Z' || state == 'X' {
		return Record{}, os.ErrProcessDone
	}
	boot, err := BootID()
	if err != nil {
		return Record{}, err
	}
	return Record{PID: pid, StartTicks: ticks, BootID: boot}, nil
}

// Alive reports whether exactly the recorded process still runs.
func (r Record) Alive() bool {
	if r.PID <= 0 {
		return false
	}
	now, err := Identify(r.PID)
	return err == nil && now.StartTicks == r.StartTicks && now.BootID == r.BootID
}

// Signal sends a signal to the recorded process, and never to one that reuses its id. A process that is gone is not an
// error.
func (r Record) Signal(sig syscall.Signal) error {
	if !r.Alive() {
		return nil
	}
	// The descriptor pins the process: if the id is reused between the check and the signal, the second check detects it.
	p, err := os.FindProcess(r.PID)
	if err != nil {
		return nil
	}
	defer p.Release()
	if !r.Alive() {
		return nil
	}
	if err := p.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal process %d: %w", r.PID, err)
	}
	return nil
}

// Stop terminates the process, kills it after the grace period, and waits until it is gone.
func (r Record) Stop(ctx context.Context, grace time.Duration) error {
	if err := r.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if r.waitGone(ctx, grace) {
		return nil
	}
	return r.Kill(ctx)
}

// Kill kills the process and waits until it is gone.
func (r Record) Kill(ctx context.Context) error {
	if err := r.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	if !r.waitGone(ctx, 10*time.Second) {
		return fmt.Errorf("process %d did not end after SIGKILL", r.PID)
	}
	return nil
}

func (r Record) waitGone(ctx context.Context, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for r.Alive() {
		select {
		case <-ctx.Done():
			return !r.Alive()
		case <-tick.C:
		}
	}
	return true
}

// Load reads a record; a missing or unreadable file yields the zero record, which is not alive.
func Load(path string) Record {
	var r Record
	b, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(b, &r) != nil {
		return Record{}
	}
	return r
}

// Save writes the record.
func (r Record) Save(path string) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// Start starts the process in a session of its own and returns its record.
func Start(spec Spec) (Record, error) {
	log, err := os.OpenFile(spec.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return Record{}, err
	}
	defer log.Close()
	cmd := &exec.Cmd{
		Path: spec.Path, Args: spec.Args, Dir: "/", Stdout: log, Stderr: log,
		Env:         []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := cmd.Start(); err != nil {
		return Record{}, err
	}
	// Reaps it, if it exits while the caller still runs.
	go func() { _ = cmd.Wait() }()
	for _, procs := range spec.CgroupProcs {
		if err := os.WriteFile(procs, []byte(strconv.Itoa(cmd.Process.Pid)), 0o644); err != nil && !errors.Is(err, syscall.ESRCH) {
			_ = cmd.Process.Kill()
			return Record{}, fmt.Errorf("enter cgroup: %w", err)
		}
	}
	r, err := Identify(cmd.Process.Pid)
	if err != nil {
		return Record{}, fmt.Errorf("exited at once; see %s", spec.Log)
	}
	r.Args = spec.Args
	return r, nil
}

// Tail returns the last lines of a log, at most n, for a component that fails to start.
func Tail(path string, n int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	lines := bytes.Split(bytes.TrimRight(b, "\n"), []byte("\n"))
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return string(bytes.Join(lines, []byte("\n")))
}
