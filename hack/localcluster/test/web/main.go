// SPDX-License-Identifier: Apache-2.0

// Command web is the workload of the smoke test: it serves a page from a volume, and inspects its environment.
package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("usage: web serve DIR | get URL | eat MEBIBYTES | status FIELD")
	}
	switch args[0] {
	case "serve":
		return serve(args[1])
	case "get":
		client := http.Client{Timeout: 5 * time.Second}
		resp, err := client.Get(args[1])
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.Copy(os.Stdout, resp.Body)
		return err
	case "eat":
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		var hold [][]byte
		for range n {
			block := make([]byte, 1<<20)
			for i := range block {
				block[i] = 1
			}
			hold = append(hold, block)
		}
		fmt.Println(len(hold))
		return nil
	case "status":
		b, err := os.ReadFile("/proc/self/status")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(b)) {
			if name, value, _ := strings.Cut(line, ":"); name == args[1] {
				fmt.Println(strings.TrimSpace(value))
			}
		}
		return nil
	}
	return fmt.Errorf("unknown command %q", args[0])
}

// serve serves the directory on port 80, counts its starts in a file there, and keeps one processor busy.
func serve(dir string) error {
	file := filepath.Join(dir, "starts")
	b, _ := os.ReadFile(file)
	starts, _ := strconv.Atoi(string(b))
	if err := os.WriteFile(file, []byte(strconv.Itoa(starts+1)), 0o644); err != nil {
		return err
	}
	fmt.Printf("serving as user %d\n", os.Getuid())
	go func() {
		for n := 0; ; n++ {
			_ = n * n
		}
	}()
	// It keeps serving until every kube-proxy knows that the pod terminates, as a well-behaved service does.
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	server := &http.Server{Addr: ":80", Handler: http.FileServer(http.Dir(dir)), ReadHeaderTimeout: 5 * time.Second}
	go func() { <-stop; time.Sleep(3 * time.Second); _ = server.Close() }()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
