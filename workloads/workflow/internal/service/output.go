// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/api/problem"
	"github.com/itechsmart/operator/workloads/workflow/internal/engine"
	"github.com/itechsmart/operator/workloads/workflow/internal/payloads"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
)

const (
	pathOutput  = pathStep + "/output"
	pathOutputs = pathStep + "/outputs"
	// outputsAtOnce bounds the outputs that are sent at a time, and so their memory.
	outputsAtOnce = 4
	// partTime is the time to send each outputPart bytes of a response.
	outputPart = 256 << 10
	partTime   = 10 * time.Second
)

func (s *Service) registerOutputs(rest huma.API) {
	for _, of := range []struct {
		id, path, summary string
		named             bool
	}{
		{"get-step-output", pathOutput, "Get the complete output of a step", false},
		{"get-step-outputs", pathOutputs, "Get the complete named outputs of a step", true},
	} {
		op := operation(of.id, http.MethodGet, of.path, of.summary, http.StatusGone)
		op.Description = "The value itself, without an envelope. Large values are read from object storage; 410: a value was deleted or modified there. 409: the outputs of " +
			"all items are too large for one response; request each item."
		op.Metadata = map[string]any{api.Bare: true}
		op.Responses = map[string]*huma.Response{"200": {Description: "The value", Content: map[string]*huma.MediaType{problem.TypeJSON: {Schema: &huma.Schema{}}}}}
		huma.Register(rest, op, func(ctx context.Context, in *outputInput) (*huma.StreamResponse, error) {
			return s.output(ctx, in, of.named)
		})
	}
}

type outputInput struct {
	StepInput
	Item int `query:"item" minimum:"-1" maximum:"999" default:"-1" doc:"index within forEach; default: the step itself"`
}

func (s *Service) output(ctx context.Context, in *outputInput, named bool) (*huma.StreamResponse, error) {
	if err := s.views(ctx, "run.output", in.object()); err != nil {
		return nil, err
	}
	select {
	case s.sending <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	data, err := s.Engine.Output(ctx, in.ID, in.Step, in.Item, named)
	if err != nil {
		<-s.sending
		return nil, answer(err)
	}
	return &huma.StreamResponse{Body: func(h huma.Context) {
		defer func() { <-s.sending }()
		send(h, data)
	}}, nil
}

// send sends an output in parts, each with its own deadline, so that slow clients are served.
func send(h huma.Context, data []byte) {
	_, w := humago.Unwrap(h)
	control := http.NewResponseController(w)
	w.Header().Set("Content-Type", problem.TypeJSON)
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	for len(data) > 0 {
		part := data[:min(len(data), outputPart)]
		_ = control.SetWriteDeadline(time.Now().Add(partTime))
		if _, err := w.Write(part); err != nil {
			return // the client is gone
		}
		data = data[len(part):]
	}
}

// withLinks returns an output in which values in object storage are replaced by links.
func withLinks(r *store.Run, x *store.Step, data json.RawMessage, kind string) json.RawMessage {
	return payloads.Summary(data, engine.Folders(r), func(item int) string {
		href := api.Base + pathRuns + "/" + r.ID + "/steps/" + x.Name + kind
		if item = max(item, x.Item); item >= 0 {
			href += "?item=" + strconv.Itoa(item)
		}
		return href
	})
}
