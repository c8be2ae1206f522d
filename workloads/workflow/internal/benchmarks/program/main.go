// SPDX-License-Identifier: Apache-2.0

// Program program is Workflow's engine with as little around it as test/bench needs to set it beside others: an HTTP server that
// starts a run and answers with its outputs, and a worker, as two processes.
//
//	program worker SETTINGS
//	program service SETTINGS LISTEN-ADDRESS
//
// POST /chain/N runs N steps, one after the other; POST /fan-out runs one for each item of the body's list, ten at a time.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/config"
	"github.com/itechsmart/operator/workloads/internal/db"
	"github.com/itechsmart/operator/workloads/workflow/internal/engine"
	"github.com/itechsmart/operator/workloads/workflow/internal/queue"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/step"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

// history keeps a run until its result has been read.
const history = `"history":{"successful":1000,"failed":1000}`

// settings are in a file, which both processes read.
type settings struct {
	Database config.Database
	Queue    map[string]string // a binding
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) < 2 {
		return errors.New("which role, and where are the settings?")
	}
	data, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	var s settings
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	pool, err := db.Open(ctx, s.Database, "bench")
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := db.Migrate(ctx, pool, store.Migrations, log); err != nil {
		return err
	}
	q, err := queue.New(queue.Options{Binding: backend.ParseBinding(s.Queue), Name: s.Database.Schema, Log: log})
	if err != nil {
		return err
	}
	options := engine.Options{Pool: pool, Queue: q, Log: log, Compile: func(spec json.RawMessage) (*definition.Program, error) {
		return compile(string(spec))
	}}
	if args[0] == "worker" {
		set := steps.New(step.Env{})
		defer set.Close() //nolint:errcheck // the process ends
		options.Executor = set
		engine.New(options).Run(ctx)
		return nil
	}
	return serve(ctx, engine.New(options), q, args[2])
}

// serve answers requests until ctx ends.
func serve(ctx context.Context, e *engine.Engine, q *queue.Queue, address string) error {
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() { e.Run(ctx) })
	s := service{engine: e, programs: map[int]*definition.Program{}}
	handler := http.NewServeMux()
	handler.HandleFunc("GET /ready", func(w http.ResponseWriter, r *http.Request) {
		if err := q.Ready(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	handler.HandleFunc("POST /chain/{length}", s.chain)
	handler.HandleFunc("POST /fan-out", s.fanOut)
	server := &http.Server{Addr: address, Handler: handler, ReadHeaderTimeout: time.Minute}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

type service struct {
	engine   *engine.Engine
	mu       sync.Mutex
	programs map[int]*definition.Program // by the length of the chain
}

func (s *service) chain(w http.ResponseWriter, r *http.Request) {
	length, err := strconv.Atoi(r.PathValue("length"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	p, err := s.chainOf(length)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.answer(w, r, p, nil)
}

// chainOf gives what the last of so many steps gave. It is compiled once, as a definition is.
func (s *service) chainOf(length int) (*definition.Program, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.programs[length]; p != nil {
		return p, nil
	}
	list := make([]string, length)
	for i := range list {
		needs := ""
		if i > 0 {
			needs = fmt.Sprintf(`,"needs":["s%d"]`, i-1)
		}
		list[i] = fmt.Sprintf(`{"name":"s%d","type":"transform","with":{"value":0}%s}`, i, needs)
	}
	p, err := compile(fmt.Sprintf(`{%s,"steps":[%s],"outputs":{"value":"${{ steps.s%d.output }}"}}`, history, strings.Join(list, ","), length-1))
	if err == nil {
		s.programs[length] = p
	}
	return p, err
}

func (s *service) fanOut(w http.ResponseWriter, r *http.Request) {
	var inputs map[string]any
	err := json.NewDecoder(r.Body).Decode(&inputs)
	var p *definition.Program
	if err == nil {
		p, err = compile(`{` + history + `,"inputs":[{"name":"list","type":"array"}],"outputs":{"value":"${{ steps.each.output }}"},
			"steps":[{"name":"each","type":"transform","with":{"value":0},"forEach":{"items":"${{ inputs.list }}","parallelism":10}}]}`)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.answer(w, r, p, inputs)
}

// answer runs a program to its end.
func (s *service) answer(w http.ResponseWriter, r *http.Request, p *definition.Program, inputs map[string]any) {
	ctx := r.Context()
	id, _, err := s.engine.Start(ctx, engine.Start{Workflow: "bench", Generation: 1, Program: p, Inputs: inputs})
	if err == nil {
		err = s.engine.Store().Follow(ctx, id, 0, func(store.Event) error { return nil })
	}
	var outputs map[string]any
	if err == nil {
		outputs, err = s.engine.Outputs(ctx, id)
	}
	if err == nil && outputs == nil {
		err = errors.New("the run did not succeed")
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(outputs)
}

func compile(spec string) (*definition.Program, error) {
	var w definition.Workflow
	if err := json.Unmarshal([]byte(spec), &w); err != nil {
		return nil, err
	}
	return definition.Compile(&w)
}
