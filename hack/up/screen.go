// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
)

// screen shows one step at a time: on a terminal as one line that is overwritten, elsewhere as a line now and then.
type screen struct {
	out      io.Writer
	terminal bool
	width    func() int // of the terminal, in characters

	mu      sync.Mutex
	title   string
	started time.Time
	latest  string
	shown   time.Time
	stop    chan struct{}
	stopped sync.WaitGroup
}

// quiet is the time between lines where there is no terminal.
const quiet = 15 * time.Second

func newScreen(out *os.File) *screen {
	width := func() int {
		if columns, _, err := term.GetSize(int(out.Fd())); err == nil && columns > 40 {
			return columns
		}
		return 110
	}
	return &screen{out: out, terminal: term.IsTerminal(int(out.Fd())) && os.Getenv("TERM") != "dumb", width: width}
}

func (s *screen) begin(title string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.title, s.started, s.latest, s.shown = title, time.Now(), "", time.Now()
	if !s.terminal {
		fmt.Fprintf(s.out, "%s\n", title)
	}
	stop := make(chan struct{})
	s.stop = stop
	s.stopped.Go(func() {
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				s.draw()
			}
		}
	})
}

// progress shows the progress of the step.
func (s *screen) progress(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latest = text
}

func (s *screen) draw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	elapsed := time.Since(s.started).Round(time.Second)
	if s.terminal {
		fmt.Fprintf(s.out, "\r\x1b[K%s", cut(fmt.Sprintf("%s  %s  %s", s.title, elapsed, s.latest), s.width()-1))
		return
	}
	if time.Since(s.shown) >= quiet {
		s.shown = time.Now()
		fmt.Fprintf(s.out, "      %s  %s\n", elapsed, cut(s.latest, 140))
	}
}

func (s *screen) end(err error) {
	close(s.stop)
	s.stopped.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	verdict := "done"
	if err != nil {
		verdict = "FAILED"
	}
	line := fmt.Sprintf("%s in %.1f s", verdict, time.Since(s.started).Seconds())
	if s.terminal {
		fmt.Fprintf(s.out, "\r\x1b[K%s  %s  %s\n", s.title, line, cut(s.latest, max(20, s.width()-50)))
		return
	}
	fmt.Fprintf(s.out, "      %s  %s\n", line, cut(s.latest, 140))
}

func cut(text string, width int) string {
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	return string([]rune(text)[:width-1]) + "…"
}

// lastLine passes writes on, and shows each line once it is complete.
type lastLine struct {
	to   io.Writer
	show func(string)
	rest []byte
}

func (l *lastLine) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	if end := bytes.LastIndexByte(l.rest, '\n'); end >= 0 {
		lines := strings.Split(strings.TrimSpace(string(l.rest[:end])), "\n")
		if text := strings.TrimSpace(lines[len(lines)-1]); text != "" {
			l.show(text)
		}
		l.rest = append(l.rest[:0], l.rest[end+1:]...)
	}
	return l.to.Write(p)
}

func indent(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n  ") + "\n"
}

// sideBySide returns a function for each of n tasks to report its progress; show receives the latest report of each.
func sideBySide(n int, show func(string)) []func(string) {
	var mu sync.Mutex
	latest := make([]string, n)
	var out []func(string)
	for i := range n {
		out = append(out, func(text string) {
			mu.Lock()
			defer mu.Unlock()
			latest[i] = cut(text, 60)
			show(strings.Join(slices.DeleteFunc(slices.Clone(latest), func(t string) bool { return t == "" }), "  |  "))
		})
	}
	return out
}
