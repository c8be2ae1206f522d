// SPDX-License-Identifier: Apache-2.0

package transform

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/itechsmart/operator/workloads/dataflow/internal/record"
	"github.com/itechsmart/operator/workloads/dataflow/internal/schema"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config"
	"github.com/itechsmart/operator/workloads/dataflow/worker/config/expr"
)

// TypeFilter is the transform type whose predicate is the transform's `when`.
const TypeFilter = "filter"

// Chain is a pipeline's compiled transforms. It is not safe for concurrent use, and its stateful steps (dedupe,
// sample, rateLimit) have seen its records: to read records a second time, compile a new Chain.
type Chain struct {
	steps []step
}

// Result describes what Apply did to a batch besides the remaining records.
type Result struct {
	// Filtered counts the records that were dropped on purpose.
	Filtered int
	// Failed holds the records that were removed because a transform could not process them.
	Failed []Failure
}

// Failure is one record that a transform could not process.
type Failure struct {
	// Record is the record as it entered the chain.
	Record record.Record
	// Transform is the failed transform's name; Policy its onError, never empty.
	Transform string
	Policy    config.OnError
	// Err contains no record content.
	Err error
}

// step is one compiled transform and its settings. Exactly one of the four behaviours is set.
type step struct {
	name   string
	policy config.OnError
	when   *matcher // nil: every record
	keep   Keeper
	each   Mapper
	many   Reshaper
	whole  Transform
}

// Compile builds a chain. Errors name the transform by its path: transforms[1].config.field.
func Compile(cfgs []config.Transform, env Env) (*Chain, error) {
	if env.Now == nil {
		env.Now = time.Now
	}
	chain := &Chain{}
	var problems []error
	for i := range cfgs {
		compiled, err := compileStep(&cfgs[i], fmt.Sprintf("transforms[%d]", i), env)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		chain.steps = append(chain.steps, compiled)
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return chain, nil
}

func compileStep(cfg *config.Transform, path string, env Env) (step, error) {
	out := step{name: cfg.Name, policy: cfg.OnError}
	if out.policy == "" {
		out.policy = config.OnErrorFail
	}
	if out.name == "" {
		out.name = cfg.Type
	}
	spec, ok := Lookup(cfg.Type)
	if !ok {
		return out, fmt.Errorf("%s.type: there is no transform type %q", path, cfg.Type)
	}
	decoded, err := schema.Decode(spec.Config, cfg.Config, path+".config")
	if err != nil {
		return out, err
	}
	if cfg.When != "" {
		program, err := expr.Compile(cfg.When, expr.Bool)
		if err != nil {
			return out, fmt.Errorf("%s.when: %w", path, err)
		}
		out.when = newMatcher(program, env.Now)
		env.When = out.when.match
	}
	behaviour, err := spec.New(decoded, env)
	if err != nil {
		return out, fmt.Errorf("%s.config%w", path, err)
	}
	if cfg.Type == TypeFilter {
		out.when = nil
	}
	switch impl := behaviour.(type) {
	case Keeper:
		out.keep = impl
	case Mapper:
		out.each = impl
	case Reshaper:
		out.many = impl
	case Transform:
		out.whole = impl
	default:
		return out, fmt.Errorf("%s.type: %q has no behaviour", path, cfg.Type)
	}
	return out, nil
}

// Empty reports whether the chain has no transform, so that a batch needs no Apply.
func (c *Chain) Empty() bool { return c == nil || len(c.steps) == 0 }

// Apply runs the transforms over the batch; the remaining records stay in it.
//
// Records with onError Drop or DeadLetter are removed, and listed in Result.Failed. At the first record whose
// transform has onError Fail, Apply stops and returns an error; that record is the last in Result.Failed, and
// the batch is half applied: it must not be written, applied again or acknowledged, but read again. The same
// holds when the context ends and Apply returns its error.
func (c *Chain) Apply(ctx context.Context, batch *record.Batch) (Result, error) {
	var result Result
	if c == nil {
		return result, nil
	}
	for i := range c.steps {
		if len(batch.Records) == 0 {
			return result, nil
		}
		if err := ctx.Err(); err != nil {
			return result, err
		}
		if err := c.steps[i].apply(ctx, batch, &result); err != nil {
			return result, err
		}
	}
	return result, nil
}

func (s *step) apply(ctx context.Context, batch *record.Batch, result *Result) error {
	switch {
	case s.keep != nil:
		return s.applyKeep(batch, result)
	case s.each != nil:
		return s.applyEach(ctx, batch, result)
	case s.many != nil:
		return s.applyMany(ctx, batch, result)
	default:
		return s.applyWhole(ctx, batch, result)
	}
}

// fail records a record's failure; the error is not nil if the pipeline has to stop.
func (s *step) fail(ctx context.Context, r *record.Record, err error, result *Result) error {
	if ctxErr := ctx.Err(); ctxErr != nil {
		return ctxErr
	}
	r.Restore()
	result.Failed = append(result.Failed, Failure{Record: *r, Transform: s.name, Policy: s.policy, Err: err})
	if s.policy != config.OnErrorFail {
		return nil
	}
	if r.Origin == "" {
		return fmt.Errorf("transform %s: %w", s.name, err)
	}
	return fmt.Errorf("transform %s: record %s: %w", s.name, r.Origin, err)
}

// applyKeep drops records in place; while nothing is dropped nothing is copied.
func (s *step) applyKeep(batch *record.Batch, result *Result) error {
	records, kept := batch.Records, 0
	for i := range records {
		r := &records[i]
		keep, err := s.when.match(r)
		if err == nil && keep {
			keep, err = s.keep.Keep(r)
		} else {
			keep = err == nil
		}
		if err != nil {
			if err := s.fail(context.Background(), r, err, result); err != nil {
				return err
			}
			continue
		}
		if !keep {
			result.Filtered++
			continue
		}
		if kept != i {
			records[kept] = records[i]
		}
		kept++
	}
	batch.Records = truncate(records, kept)
	return nil
}

func (s *step) applyEach(ctx context.Context, batch *record.Batch, result *Result) error {
	records, kept := batch.Records, 0
	for i := range records {
		r := &records[i]
		matches, err := s.when.match(r)
		if err == nil && matches {
			err = s.each.Map(ctx, r)
		}
		if err != nil {
			if err := s.fail(ctx, r, err, result); err != nil {
				return err
			}
			continue
		}
		if kept != i {
			records[kept] = records[i]
		}
		kept++
	}
	batch.Records = truncate(records, kept)
	return nil
}

func (s *step) applyMany(ctx context.Context, batch *record.Batch, result *Result) error {
	out := make([]record.Record, 0, len(batch.Records))
	for i := range batch.Records {
		r := &batch.Records[i]
		matches, err := s.when.match(r)
		if err == nil && !matches {
			out = append(out, *r)
			continue
		}
		before := len(out)
		if err == nil {
			out, err = s.many.Reshape(ctx, r, out)
		}
		if err != nil {
			out = truncate(out, before)
			if err := s.fail(ctx, r, err, result); err != nil {
				return err
			}
			continue
		}
		if len(out) == before {
			result.Filtered++
		}
	}
	batch.Records = out
	return nil
}

// applyWhole passes the matching records on as one batch, and puts them back where they were.
func (s *step) applyWhole(ctx context.Context, batch *record.Batch, result *Result) error {
	records := batch.Records
	failed := map[int]error{}
	places := make([]int, 0, len(records))
	for i := range records {
		matches, err := s.when.match(&records[i])
		if err != nil {
			failed[i] = err
		} else if matches {
			places = append(places, i)
		}
	}
	part := &record.Batch{Records: make([]record.Record, len(places)), Position: batch.Position}
	for i, place := range places {
		part.Records[i] = records[place]
	}
	if err := s.whole.Apply(ctx, part); err != nil {
		var byRecord *record.Errors
		if !errors.As(err, &byRecord) {
			return fmt.Errorf("transform %s: %w", s.name, err)
		}
		for i, err := range byRecord.ByIndex {
			failed[places[i]] = err
		}
	}
	for i, place := range places {
		records[place] = part.Records[i]
	}
	kept := 0
	for i := range records {
		if err, bad := failed[i]; bad {
			if err := s.fail(ctx, &records[i], err, result); err != nil {
				return err
			}
			continue
		}
		records[kept] = records[i]
		kept++
	}
	batch.Records = truncate(records, kept)
	return nil
}

// truncate cuts the slice and releases what the cut records held.
func truncate(records []record.Record, length int) []record.Record {
	clear(records[length:])
	return records[:length]
}
