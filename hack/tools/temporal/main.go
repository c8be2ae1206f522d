// SPDX-License-Identifier: Apache-2.0

// Program temporal does the same work on Temporal: workflows, an activity, a worker, and an HTTP server that starts a
// workflow and responds with its result. It uses the defaults of Temporal's Go SDK, except that nothing is logged below a
// warning.
//
//	temporal TEMPORAL-ADDRESS LISTEN-ADDRESS
//
// POST /chain/N runs N activities, one after the other; POST /fan-out runs one for each item of the body's list, ten at a
// time.
package main

import (
	"context"
	"encoding/json"
	"log"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"time"

	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

const (
	queue       = "bench"
	parallelism = 10
)

func main() {
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	options := client.Options{HostPort: os.Args[1], Logger: sdklog.NewStructuredLogger(logger)}
	c, err := client.Dial(options)
	for deadline := time.Now().Add(time.Minute); err != nil && time.Now().Before(deadline); c, err = client.Dial(options) {
		time.Sleep(100 * time.Millisecond) // the server is starting
	}
	if err != nil {
		log.Fatal(err)
	}
	w := worker.New(c, queue, worker.Options{})
	w.RegisterWorkflow(Chain)
	w.RegisterWorkflow(FanOut)
	w.RegisterActivity(Value)
	if err := w.Start(); err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("GET /ready", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("POST /chain/{length}", func(w http.ResponseWriter, r *http.Request) {
		length, err := strconv.Atoi(r.PathValue("length"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		var value int
		answer(w, run(r.Context(), c, &value, Chain, length), &value)
	})
	http.HandleFunc("POST /fan-out", func(w http.ResponseWriter, r *http.Request) {
		var body struct{ List []int }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		var values []int
		answer(w, run(r.Context(), c, &values, FanOut, body.List), &values)
	})
	log.Fatal((&http.Server{Addr: os.Args[2], ReadHeaderTimeout: time.Minute}).ListenAndServe())
}

// run starts a workflow and waits for its result.
func run(ctx context.Context, c client.Client, result any, of any, argument any) error {
	started, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{TaskQueue: queue}, of, argument)
	if err != nil {
		return err
	}
	return started.Get(ctx, result)
}

func answer(w http.ResponseWriter, err error, value any) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"value": value})
}

// Value is the activity, which does nothing.
func Value(context.Context) (int, error) { return 0, nil }

// Chain runs activities one after the other, and returns the last result.
func Chain(ctx workflow.Context, length int) (int, error) {
	ctx = bounded(ctx)
	var value int
	for range length {
		if err := workflow.ExecuteActivity(ctx, Value).Get(ctx, &value); err != nil {
			return 0, err
		}
	}
	return value, nil
}

// FanOut runs an activity for each item, a few at a time, and returns all results.
func FanOut(ctx workflow.Context, list []int) ([]int, error) {
	ctx = bounded(ctx)
	values := make([]int, len(list))
	var failed error
	next := 0
	group := workflow.NewWaitGroup(ctx)
	for range parallelism {
		group.Add(1)
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer group.Done()
			for next < len(list) && failed == nil {
				i := next
				next++
				if err := workflow.ExecuteActivity(ctx, Value).Get(ctx, &values[i]); err != nil {
					failed = err
				}
			}
		})
	}
	group.Wait(ctx)
	return values, failed
}

// bounded sets the timeout that activities require.
func bounded(ctx workflow.Context) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
}
