// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"time"

	"github.com/itechsmart/operator/workloads/dataflow/internal/catalogue"
	"github.com/itechsmart/operator/workloads/dataflow/internal/connectors"
	"github.com/itechsmart/operator/workloads/dataflow/internal/engine"
	"github.com/itechsmart/operator/workloads/dataflow/internal/server"
	"github.com/itechsmart/operator/workloads/dataflow/internal/transform"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
	"github.com/itechsmart/operator/workloads/internal/filewatch"
)

// NewEngine builds the engine over all connectors and transforms.
func NewEngine(cfg *config.Pipeline, log *slog.Logger) (*engine.Engine, error) {
	return engine.New(cfg, engine.Options{
		Connectors: connectors.All(),
		NewChain:   func() (engine.Chain, error) { return newChain(cfg.Transforms) },
		Log:        log,
	})
}

func newChain(transforms []config.Transform) (engine.Chain, error) {
	return transform.Compile(transforms, transform.Env{Now: time.Now})
}

// runPipeline runs until ctx ends and what was read is written, or the time for draining is over.
func runPipeline(ctx context.Context, f flags) error {
	log, err := newLogger(f.logLevel)
	if err != nil {
		return err
	}
	cfg, unknown, err := config.Load(f.config)
	if err != nil {
		return err
	}
	if err := validate(cfg); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	log = log.With("pipeline", cfg.Namespace+"/"+cfg.Name)
	if len(unknown) > 0 {
		log.Warn("the configuration has keys that this version does not know: they have no effect", "keys", unknown, "version", f.version)
	}
	e, err := NewEngine(cfg, log)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	// The status is served until the drain is over.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	addr, broken, err := server.Serve(serving, e, server.Options{Listen: f.listen, Pprof: f.pprof})
	if err != nil {
		return err
	}
	log.Info("worker runs", "listen", addr.String(), "hash", cfg.Hash(), "generation", cfg.Generation, "version", f.version)
	running, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		if err := <-broken; err != nil {
			cancel(fmt.Errorf("HTTP server: %w", err))
		}
	}()
	go watch(running, f.config, cfg, log, e.Reload)

	err = e.Run(running)
	if errors.Is(err, engine.ErrNotDrained) {
		err = nil // logged; what is left is read again by the next worker
	}
	if cause := context.Cause(running); err == nil && ctx.Err() == nil && cause != nil {
		err = cause
	}
	log.Info("worker ends")
	return err
}

// validate checks the configuration against what is linked into this worker.
func validate(cfg *config.Pipeline) error {
	linked, err := catalogue.Build()
	if err != nil {
		return err
	}
	problems := config.ValidateWith(cfg, linked)
	all := make([]error, len(problems))
	for i, problem := range problems {
		all[i] = problem
	}
	return errors.Join(all...)
}

// watch passes on the connections whenever those in the file have changed.
func watch(ctx context.Context, path string, running *config.Pipeline, log *slog.Logger, reload func(map[string]map[string]string)) {
	current := running.Connections
	filewatch.Run(ctx, filepath.Dir(path), log, func() {
		fresh, _, err := config.Load(path)
		switch {
		case err != nil:
			log.Warn("the changed configuration cannot be read; the old one remains in use", "error", err)
		case fresh.Hash() != running.Hash():
			log.Warn("more than connections changed in the configuration; a new worker is needed", "hash", fresh.Hash())
		case !equal(current, fresh.Connections):
			current = fresh.Connections
			reload(current)
		}
	})
}

func equal(a, b map[string]map[string]string) bool {
	return maps.EqualFunc(a, b, maps.Equal[map[string]string, map[string]string])
}
