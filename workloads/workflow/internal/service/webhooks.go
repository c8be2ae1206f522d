// SPDX-License-Identifier: Apache-2.0

package service

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"math"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	workflowv1 "github.com/itechsmart/operator/api/workflow/v1alpha1"
	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/internal/api"
	"github.com/itechsmart/operator/workloads/internal/api/problem"
	"github.com/itechsmart/operator/workloads/internal/auditlog"
	"github.com/itechsmart/operator/workloads/internal/auth"
	"github.com/itechsmart/operator/workloads/workflow/internal/catalog"
	"github.com/itechsmart/operator/workloads/workflow/internal/launch"
	"github.com/itechsmart/operator/workloads/workflow/internal/store"
	"github.com/itechsmart/operator/workloads/workflow/worker/config/definition"
)

const (
	pathWebhook = "/webhooks/{path...}"
	// resultTime bounds how long a call waits for the end of its run.
	resultTime = time.Minute
	// answerTime is the additional time for sending the response.
	answerTime = 10 * time.Second
	// waitForResult is the value of a webhook's `respond` that waits for the result.
	waitForResult = "WaitForResult"
)

// webhookBody lets the handler enforce the trigger's limit itself, and count bodies that are too large.
const webhookBody = math.MaxInt64

func (s *Service) registerWebhooks(rest huma.API) {
	op := operation("call-webhook", http.MethodPost, pathWebhook, "Call a webhook to start a run", http.StatusFailedDependency)
	op.Description = "If the trigger has a key, calls must be signed: X-Timestamp is the time in seconds since 1970, and X-Signature-256 is sha256= and the hexadecimal " +
		"HMAC-SHA-256 of the timestamp, a dot and the body. A signature is valid once (409 if repeated) and for five minutes (401 after that). Without a key a token with " +
		"the role editor is required. 202 returns the run's id. A trigger that waits for the result returns 200 with the outputs, 424 if the run did not succeed " +
		"(another call starts a new run), and 202 if it takes longer than a minute."
	op.RequestBody = &huma.RequestBody{Content: map[string]*huma.MediaType{"text/plain": {Schema: &huma.Schema{Type: huma.TypeString}}}}
	op.Security = []map[string][]string{{"bearer": {}}, {}}
	huma.Register(rest, op, s.webhook)
	// Added after Register, which would make huma read the body; the signature is of the raw bytes.
	op.RequestBody.Content[problem.TypeJSON] = &huma.MediaType{Schema: &huma.Schema{Description: "trigger.body"}}
	api.AlsoAnswers(op, map[string]string{"202": "The run was started, and may still be active"})
}

type webhookInput struct {
	Path      string `path:"path" maxLength:"128" doc:"the path of the trigger; may contain slashes"`
	Timestamp string `header:"X-Timestamp" maxLength:"32" doc:"seconds since 1970"`
	Signature string `header:"X-Signature-256" maxLength:"128" doc:"sha256= and 64 hexadecimal digits"`

	request *http.Request
	writer  http.ResponseWriter
}

// Resolve implements huma.Resolver. It does not read the body.
func (in *webhookInput) Resolve(ctx huma.Context) []error {
	in.request, in.writer = humago.Unwrap(ctx)
	return nil
}

// hook is the called webhook.
type hook struct {
	workflow string // empty if the path has no webhook
	trigger  *workflowv1.Trigger
	key      []byte // of signatures; nil if a token is required
	limit    int64
}

// hook returns the webhook at a path. A missing one has a random key, so that rejecting a call takes the same time.
func (s *Service) hook(path string) (hook, error) {
	e, name, ok := s.Catalog.ByWebhook(path)
	if !ok {
		return hook{key: s.decoy, limit: definition.DefaultPayload}, nil
	}
	h := hook{workflow: e.Workflow.Name, trigger: triggerOf(e, name)}
	h.limit = min(cmp.Or(h.trigger.Webhook.MaxPayloadBytes, definition.DefaultPayload), int64(s.Engine.Store().Options().MaxOutput))
	if h.trigger.Webhook.Auth == nil {
		return h, nil
	}
	if h.key = s.Bindings.HMAC(h.workflow, name); len(h.key) == 0 {
		return h, api.Unavailable(retryAfter, "the key of this webhook is not available yet")
	}
	return h, nil
}

func triggerOf(e *catalog.Entry, name string) *workflowv1.Trigger {
	i := slices.IndexFunc(e.Workflow.Spec.Triggers, func(t workflowv1.Trigger) bool { return t.Name == name })
	return &e.Workflow.Spec.Triggers[i]
}

// hooked is the response of a webhook.
type hooked struct {
	Status   int
	Location string `header:"Location" doc:"the run"`
	Body     Hooked
}

// Hooked is the result of a webhook call.
type Hooked struct {
	Run     string         `json:"run" format:"uuid"`
	Outputs map[string]any `json:"outputs,omitempty" doc:"of the run, if the trigger waits for the result"`
}

func (s *Service) webhook(ctx context.Context, in *webhookInput) (*hooked, error) {
	h, err := s.hook(in.Path)
	if err != nil {
		return nil, err
	}
	body, err := in.read(ctx, h.limit)
	if err != nil {
		s.reject(h, err)
		return nil, err
	}
	var signature []byte
	if h.key != nil {
		var ok bool
		signature, ok = signed(in.request.Header, body, h.key, time.Now())
		switch {
		case h.workflow == "":
			return nil, api.NotFound("webhook")
		case !ok:
			s.Launcher.Reject(h.workflow, h.trigger.Name)
			return nil, api.Unauthorized("the signature is invalid or has expired")
		}
		ctx = auth.With(ctx, &auth.Principal{Kind: auth.KindClient, ID: "webhook/" + in.Path, Name: "webhook/" + in.Path})
	} else if err := s.edits(ctx, "run.start", "workflow/"+h.workflow); err != nil {
		return nil, err
	}
	r, err := in.launch(h, body, signature)
	if err != nil {
		s.Launcher.Reject(h.workflow, h.trigger.Name)
		return nil, err
	}
	id, err := s.call(ctx, h, r, signature)
	if err != nil {
		return nil, err
	}
	if h.trigger.Webhook.Respond == waitForResult {
		return s.result(ctx, in, id)
	}
	return accepted(id), nil
}

// reject counts a body that is too large.
func (s *Service) reject(h hook, err error) {
	if e, ok := errors.AsType[*problem.Error](err); ok && e.Status == http.StatusRequestEntityTooLarge && h.workflow != "" {
		s.Launcher.Reject(h.workflow, h.trigger.Name)
	}
}

func accepted(id string) *hooked {
	return &hooked{Status: http.StatusAccepted, Location: api.Base + pathRuns + "/" + id, Body: Hooked{Run: id}}
}

// read reads the body, up to a limit.
func (in *webhookInput) read(ctx context.Context, limit int64) ([]byte, error) {
	tooLarge := in.request.ContentLength > limit
	var body []byte
	if !tooLarge && in.request.Body != nil {
		var err error
		if body, err = io.ReadAll(io.LimitReader(in.request.Body, limit+1)); err != nil {
			return nil, api.Unread(ctx, err)
		}
		tooLarge = int64(len(body)) > limit
	}
	if tooLarge {
		in.writer.Header().Set("Connection", "close") // do not read the rest
		return nil, problem.TooLarge(limit)
	}
	// Otherwise an expired read deadline would count as a disconnected client while the run continues.
	_ = http.NewResponseController(in.writer).SetReadDeadline(time.Time{})
	return body, nil
}

// launch returns the request to the launcher for a call.
func (in *webhookInput) launch(h hook, body, signature []byte) (launch.Request, error) {
	r := launch.Request{Workflow: h.workflow, Trigger: h.trigger.Name, Info: definition.TriggerInfo{
		Type: string(h.trigger.Type), Name: h.trigger.Name, Headers: triggerHeaders(in.request.Header),
	}}
	var err error
	if r.Info.Body, err = content(in.request.Header.Get("Content-Type"), body); err != nil {
		return r, err
	}
	if signature != nil {
		sum := sha256.Sum256(signature)
		r.Key = "signature/" + hex.EncodeToString(sum[:])
		return r, nil
	}
	key, err := api.IdempotencyKey(in.request.Header, "")
	if key != "" {
		r.Key = "webhook/" + h.trigger.Name + "/" + owner(in.request.Context()) + "/" + key
	}
	return r, err
}

// content returns the body for expressions: decoded JSON, or text.
func content(contentType string, body []byte) (any, error) {
	kind, _, err := mime.ParseMediaType(contentType)
	switch {
	case len(body) == 0:
		return nil, nil
	case !utf8.Valid(body):
		return nil, api.Invalid("body", "is not UTF-8")
	case err == nil && (kind == problem.TypeJSON || strings.HasSuffix(kind, "+json")):
		value, err := definition.Decode(body)
		if err != nil {
			return nil, api.Because(api.Invalid("body", "is not JSON, or has a number that is too large"), err)
		}
		return value, nil
	}
	return string(body), nil
}

// secretHeaders are hidden from expressions, since runs are stored.
var secretHeaders = []string{"Authorization", "Cookie", "Proxy-Authorization", "Sec-Websocket-Protocol", headerTimestamp, headerSignature}

func triggerHeaders(h http.Header) map[string]string {
	out := make(map[string]string, len(h))
	for name, values := range maps.All(h) {
		if !slices.Contains(secretHeaders, name) {
			out[strings.ToLower(name)] = strings.ToValidUTF8(strings.Join(values, ", "), "\uFFFD")
		}
	}
	return out
}

// call starts the run. A signature is valid once: it is stored with the run, and in the table of answers in case the run is pruned
// before the signature expires.
func (s *Service) call(ctx context.Context, h hook, r launch.Request, signature []byte) (id string, err error) {
	remember := func() {}
	if signature != nil {
		if remember, err = s.once(ctx, r.Key); err != nil {
			s.Launcher.Reject(h.workflow, h.trigger.Name)
			return "", err
		}
	}
	replayed := false
	err = s.Trail.Do(ctx, "run.start", "workflow/"+h.workflow, func() (auditlog.Result, error) {
		started, err := s.Launcher.Start(ctx, r)
		id, replayed = started.ID, err == nil && !started.Created && signature != nil
		return auditlog.Result{Object: "run/" + id, Details: map[string]string{"of": "workflow/" + h.workflow, "trigger": h.trigger.Name}, Silent: !started.Created}, err
	})
	if err != nil {
		return "", err
	}
	remember()
	if replayed {
		s.Launcher.Reject(h.workflow, h.trigger.Name)
		return "", errReplay()
	}
	return id, nil
}

func errReplay() error {
	return api.Error(http.StatusConflict, "replayed", "this signature has already started a run; create a new signature")
}

// once rejects a signature that has started a run. After any other error the signature can be used again until it expires.
func (s *Service) once(ctx context.Context, key string) (remember func(), err error) {
	const retention = 2 * signatureWindow // both ends of the window
	sum := sha256.Sum256([]byte("webhook/" + key))
	id := sum[:]
	claim, err := s.answers.Claim(ctx, id, key, id, retention)
	if err != nil {
		return nil, answer(errors.Join(backend.ErrUnavailable, err))
	}
	if claim.Answer != nil {
		return nil, errReplay()
	}
	// For concurrent calls, and after a crash, the run's own key decides.
	return func() {
		if err := s.answers.Finish(context.WithoutCancel(ctx), id, key, []byte{1}, retention); err != nil {
			s.Log.WarnContext(ctx, "could not store a signature; only its run prevents a replay", "error", err)
		}
	}, nil
}

// result waits for the end of a run.
func (s *Service) result(ctx context.Context, in *webhookInput, id string) (*hooked, error) {
	_ = http.NewResponseController(in.writer).SetWriteDeadline(time.Now().Add(resultTime + answerTime))
	waiting, cancel := context.WithTimeout(ctx, resultTime)
	defer cancel()
	go func() {
		select {
		case <-s.Draining: // the run continues; the response refers to it
			cancel()
		case <-waiting.Done():
		}
	}()
	err := s.Engine.Store().Follow(waiting, id, 0, func(store.Event) error { return nil })
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil { // it takes too long, or the database is unavailable
		return accepted(id), nil
	}
	r, _, err := s.run(ctx, id)
	if err != nil {
		return accepted(id), nil //nolint:nilerr // as above
	}
	if r.Phase != string(store.Succeeded) {
		return nil, api.Error(http.StatusFailedDependency, "run_failed", "the run did not succeed", api.Detail{Field: "run", Message: id + " ended as " + r.Phase})
	}
	return &hooked{Status: http.StatusOK, Location: api.Base + pathRuns + "/" + id, Body: Hooked{Run: id, Outputs: r.Outputs}}, nil
}
