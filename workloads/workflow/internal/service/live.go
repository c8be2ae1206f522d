// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/itechsmart/operator/workloads/internal/live"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
)

func (s *Service) registerLive(rest huma.API) {
	op := operation("follow-run", http.MethodGet, pathRun+"/live", "Follow the events of a run on a WebSocket", http.StatusUpgradeRequired)
	op.Description = `Each message is a JSON object: {"type":"event","event":{…}} as in the list of events, and finally {"type":"run","run":{…}}, the ended run; ` +
		`then the connection closes. A browser offers the subprotocols ` + live.Protocol + ` and bearer.<token>. After a disconnect, connect again with after=<seq of the last event>.`
	op.Responses = map[string]*huma.Response{"101": {Description: "Switching Protocols"}}
	huma.Register(rest, op, s.follow)
}

type followInput struct {
	RunInput
	After int64 `query:"after" minimum:"0" doc:"seq of the last event that the client has"`

	request *http.Request
}

// Resolve implements huma.Resolver.
func (in *followInput) Resolve(ctx huma.Context) []error {
	in.request, _ = humago.Unwrap(ctx)
	return nil
}

// Message is one message of a WebSocket.
type Message struct {
	Type  string `json:"type"` // event or run
	Event *Event `json:"event,omitempty"`
	Run   *Run   `json:"run,omitempty"`
}

func (s *Service) follow(ctx context.Context, in *followInput) (*huma.StreamResponse, error) {
	if err := s.views(ctx, "run.follow", in.object()); err != nil {
		return nil, err
	}
	if _, err := s.Engine.Store().Get(ctx, in.ID); err != nil {
		return nil, answer(err)
	}
	if err := s.Streams.Check(in.request); err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(h huma.Context) {
		request, writer := humago.Unwrap(h)
		s.Streams.Serve(writer, request, func(ctx context.Context, send live.Send) error { return s.stream(ctx, in, send) })
	}}, nil
}

// stream sends the events of a run, and then the ended run.
func (s *Service) stream(ctx context.Context, in *followInput, send live.Send) error {
	err := s.Engine.Store().Follow(ctx, in.ID, in.After, func(e store.Event) error {
		event := eventOf(&e)
		return send(Message{Type: "event", Event: &event})
	})
	if err != nil {
		return err
	}
	r, _, err := s.run(ctx, in.ID)
	if err != nil {
		return err
	}
	return send(Message{Type: "run", Run: &r})
}
