package inference

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/google/uuid"

	"freehold/inference/engine"
	"freehold/tenantdb"
)

// How long admitting and settling may take, once they are not their caller's
// business any more.
const (
	admitTimeout  = 5 * time.Second
	settleTimeout = 30 * time.Second
	settleTries   = 6
)

// Codes of failed predictions, and of the answers that tell of them.
const (
	codeFailed  = "engine_error"
	codeTimeout = "engine_timeout"
	codeRefused = "invalid_request"
)

// record is a prediction from its admission to its settlement.
type record struct {
	s       *Service
	call    Call
	id      uuid.UUID
	created time.Time
}

// admit writes a prediction down as in progress.
func (s *Service) admit(ctx context.Context, c Call, p tenantdb.Prediction) (*record, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	r := &record{s: s, call: c, id: id, created: bornAt(id)}
	p.ID, p.CreatedAt = id, r.created
	p.APIKey, p.RequestID, p.State = c.KeyID, c.RequestID, "in_progress"
	err = c.Tenant.Borrow(ctx, tenantdb.Interactive, func(ctx context.Context, db *tenantdb.DB) error {
		// A client that leaves just now must not leave a row behind of which nobody
		// knows whether it was written.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), admitTimeout)
		defer cancel()
		return db.Admit(ctx, p)
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// bornAt is the moment inside a uuid v7 (RFC 9562, 5.7): 48 bits of Unix
// milliseconds come first.
func bornAt(id uuid.UUID) time.Time {
	var ms int64
	for _, b := range id[:6] {
		ms = ms<<8 | int64(b)
	}
	return time.UnixMilli(ms).UTC()
}

// ending is how an engine's work ended.
type ending struct {
	err    error // nil: well
	gone   bool  // the client left
	output any   // what was generated; nil: nothing
	usage  engine.Usage
}

// state names an ending; code is empty but for failures.
func (e ending) state() (state, code string) {
	if e.err == nil {
		return "succeeded", ""
	}
	if e.gone {
		return "cancelled", ""
	}
	switch engine.KindOf(e.err) {
	case engine.Timeout:
		return "failed", codeTimeout
	case engine.BadRequest, engine.Unsupported:
		return "failed", codeRefused
	default:
		return "failed", codeFailed
	}
}

// settle writes down how the prediction ended. It outlives the request by up to
// 30 s: what was admitted is accounted for, also when its client has left.
func (r *record) settle(ctx context.Context, e ending) (settled time.Time) {
	state, code := e.state()
	r.explain(ctx, e, code)
	set := tenantdb.Settlement{
		ID: r.id, State: state, ErrorCode: code, Output: storable(e.output),
		PromptTokens: e.usage.PromptTokens, CompletionTokens: e.usage.CompletionTokens,
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	wait := 50 * time.Millisecond
	for try := 1; ; try++ {
		err := r.call.Tenant.Borrow(ctx, tenantdb.Settle, func(ctx context.Context, db *tenantdb.DB) error {
			return db.Settle(ctx, set)
		})
		if err == nil {
			return time.Now()
		}
		if errors.Is(err, tenantdb.ErrInvalid) && set.Output != nil {
			set.Output = nil // better settled without its text than not at all
			continue
		}
		if errors.Is(err, tenantdb.ErrNotFound) || try == settleTries || !pause(ctx, wait) {
			r.s.cfg.Logger.ErrorContext(ctx, "prediction could not be settled", append(r.ids(), "tries", try,
				"database_unavailable", errors.Is(err, tenantdb.ErrUnavailable))...)
			return time.Time{}
		}
		wait *= 3
	}
}

// pause waits and reports whether ctx outlasted it.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// explain logs why an engine failed: for the operator, without any content.
func (r *record) explain(ctx context.Context, e ending, code string) {
	if code == "" {
		return
	}
	attrs := append(r.ids(), "code", code)
	var fail *engine.Error
	if errors.As(e.err, &fail) {
		attrs = append(attrs, "upstream_status", fail.UpstreamStatus)
		if fail.Err != nil {
			attrs = append(attrs, "err", fail.Err)
		}
	} else {
		// Whoever made it promised nothing about its text.
		attrs = append(attrs, "err_type", fmt.Sprintf("%T", e.err))
	}
	if code == codeRefused { // the client's to mend, and told to it
		r.s.cfg.Logger.InfoContext(ctx, "engine refused a request", attrs...)
		return
	}
	r.s.cfg.Logger.WarnContext(ctx, "engine did not answer", attrs...)
}

// ids are the attributes that a log line may name a prediction by.
func (r *record) ids() []any {
	return []any{"tenant", r.call.Scope, "request_id", r.call.RequestID, "prediction", r.id}
}

// guard runs an engine's work. A panic in it, or in what the caller does with its
// chunks, ends this request and nothing else.
func (r *record) guard(ctx context.Context, work func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			// A panic's value may hold a prompt; the stack can't.
			r.s.cfg.Logger.ErrorContext(ctx, "engine panicked", append(r.ids(), "stack", string(debug.Stack()))...)
			err = &engine.Error{Kind: engine.Failed, Message: "the engine failed"}
		}
	}()
	return work()
}

// outcome completes an ending with what the request's context tells: whether the
// client left, and the error that its answer becomes.
func outcome(ctx context.Context, e ending) (ending, error) {
	if e.err == nil {
		return e, nil
	}
	cause := context.Cause(ctx)
	switch {
	case cause == nil:
		return e, translate(e.err)
	case errors.Is(cause, context.DeadlineExceeded) && !e.gone:
		e.err = &engine.Error{Kind: engine.Timeout, Message: "the request's time ran out", Err: cause}
		return e, e.err
	default:
		e.gone = true
		return e, cause
	}
}

// marshal encodes what is known to encode.
func marshal(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return b
}
