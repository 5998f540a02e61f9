package inference

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/google/uuid"

	"freehold/inference/engine"
	"freehold/tenantdb"
)

// admitTimeout bounds an admission once it is on its way.
const admitTimeout = 5 * time.Second

// Codes of failed predictions, and of the answers that tell of them.
const (
	codeFailed  = "engine_error"
	codeTimeout = "engine_timeout"
	codeRefused = "invalid_request"
)

// claimTime is how long an Idempotency-Key stands for its request.
const claimTime = 24 * time.Hour

// errClaimed is returned when the call's Idempotency-Key is another request's.
var errClaimed = errors.New("the Idempotency-Key is claimed")

// record is a prediction from its admission to its settlement.
type record struct {
	s       *Service
	call    Call
	model   served
	kind    string
	id      uuid.UUID
	created time.Time
	privacy *privacy
	input   json.RawMessage // as it was sent
	keep    bool            // input and output are kept
	granted int64           // tokens
}

// asked is what a request asks of an admission.
type asked struct {
	least, most int64 // tokens
	streamed    bool
	endUser     string
	store       bool
}

// record begins one; nothing is written yet.
func (s *Service) record(c Call, m served, kind string, p *privacy, input any) (*record, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	return &record{s: s, call: c, model: m, kind: kind, id: id, created: bornAt(id), privacy: p, input: storable(input)}, nil
}

// admit asks to be let in, and returns what was granted: *Refusal, or errClaimed.
func (r *record) admit(ctx context.Context, a asked) (tenantdb.Grant, error) {
	r.keep = a.store && r.call.Config.PredictionLogRetentionDays > 0
	in := tenantdb.Admission{
		ID: r.id, CreatedAt: r.created, RequestID: r.call.RequestID, Kind: r.kind, Model: r.model.Name, Streamed: a.streamed,
		EndUser: a.endUser, Least: a.least, Most: a.most, Audit: r.call.Config.AuditLogEnabled,
	}
	if r.keep {
		in.Input = r.input
	}
	if r.call.keyed(r.s) {
		in.IdempotencyKey, in.RequestHash, in.Claim = r.call.claimName(), r.call.RequestHash, claimTime
	}
	grant, err := r.s.ask(ctx, r.call, in)
	if err == nil && grant.Outcome == tenantdb.Busy && grant.Others && r.s.release(ctx, r.call) {
		grant, err = r.s.ask(ctx, r.call, in)
	}
	if lost, ok := errors.AsType[*lostError](err); ok {
		r.withdraw(ctx)
		err = lost.err
	}
	if err != nil {
		return grant, err
	}
	switch grant.Outcome {
	case tenantdb.Granted:
		r.granted = grant.Granted
		r.s.cfg.Admitted(r.call)
		return grant, nil
	case tenantdb.Claimed:
		return grant, errClaimed
	case tenantdb.Spent:
		return grant, &Refusal{Err: ErrQuota, ByKey: grant.ByKey, Needs: a.least, Standing: r.call.standing(grant)}
	default:
		return grant, &Refusal{Err: ErrConcurrency, ByKey: grant.ByKey, Standing: r.call.standing(grant)}
	}
}

// ask has one admission decided, together with those of the same key that arrive
// meanwhile.
func (s *Service) ask(ctx context.Context, c Call, in tenantdb.Admission) (tenantdb.Grant, error) {
	if ctx.Err() != nil {
		return tenantdb.Grant{}, context.Cause(ctx)
	}
	lane := c.Scope + " " + c.KeyID + " " + strconv.FormatInt(c.Epoch, 10)
	limits := tenantdb.Limits{
		Tokens: c.Config.MonthlyTokenLimit, Slots: c.Config.ConcurrentRequestLimit,
		KeyTokens: c.Limits.MonthlyTokenLimit, KeySlots: c.Limits.ConcurrentRequestLimit,
	}
	same := func(a, b tenantdb.Admission) bool {
		return a.IdempotencyKey != "" && a.IdempotencyKey == b.IdempotencyKey
	}
	// A client that leaves now must neither take others' admissions along nor leave
	// a row behind of which nobody knows whether it was written.
	return s.admits.do(context.WithoutCancel(ctx), lane, in, same, func(ctx context.Context, list []tenantdb.Admission) (grants []tenantdb.Grant, err error) {
		sent := false
		err = c.Tenant.Borrow(ctx, tenantdb.Interactive, func(ctx context.Context, db *tenantdb.DB) error {
			ctx, cancel := context.WithTimeout(ctx, admitTimeout)
			defer cancel()
			sent = true
			grants, err = db.AdmitAll(ctx, s.cfg.Node, c.KeyID, limits, list)
			return err
		})
		if err != nil && sent && !refused(err) {
			err = &lostError{err}
		}
		return grants, err
	})
}

// standing is what a grant says of the call's limits.
func (c Call) standing(g tenantdb.Grant) Standing {
	st := Standing{
		TokenLimit: c.Config.MonthlyTokenLimit, TokensLeft: g.TokensLeft,
		SlotLimit: c.Config.ConcurrentRequestLimit, SlotsLeft: g.SlotsLeft,
		Reset: max(time.Until(g.Month.AddDate(0, 1, 0)), 0),
	}
	if own := c.Limits.MonthlyTokenLimit; own != nil && *own < st.TokenLimit {
		st.TokenLimit = *own
	}
	if own := c.Limits.ConcurrentRequestLimit; own != nil && *own < st.SlotLimit {
		st.SlotLimit = *own
	}
	return st
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
	answer any   // what the client got of it, whole
	usage  engine.Usage
	// counted says that the engine counted usage; else it is the least that it can be.
	counted bool
	unasked bool // no engine was asked
	lost    bool // nobody was told of the admission
}

// state names an ending; code is empty but for failures.
func (e ending) state() (state, code string) {
	if e.err == nil {
		return "succeeded", ""
	}
	if e.lost {
		return "interrupted", ""
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

// used is what the month's limit takes. An engine that refused a request, or
// failed before it said anything, used nothing; of one that was cut off nobody
// knows, so it is all that was granted.
func (r *record) used(e ending) int64 {
	known := e.usage.PromptTokens + e.usage.CompletionTokens
	_, code := e.state()
	switch {
	case e.counted && e.err == nil, e.unasked:
		return known
	case code == codeRefused, code == codeFailed && e.output == nil:
		return known
	default:
		return max(known, r.granted)
	}
}

// settlement is all that is written down of an ending.
func (r *record) settlement(ctx context.Context, e ending) tenantdb.Settlement {
	state, code := e.state()
	set := tenantdb.Settlement{
		ID: r.id, At: r.created, RequestID: r.call.RequestID, APIKey: r.call.KeyID, Kind: r.kind, Model: r.model.Name,
		State: state, ErrorCode: code, PromptTokens: e.usage.PromptTokens, CompletionTokens: e.usage.CompletionTokens,
		Used: r.used(e), InputPrice: r.model.InputNano(), OutputPrice: r.model.OutputNano(), Cost: cost(r.model.Model, e.usage),
	}
	detail := map[string]any{
		"kind": r.kind, "model": r.model.Name, "state": state,
		"prompt_tokens": e.usage.PromptTokens, "completion_tokens": e.usage.CompletionTokens,
	}
	if code != "" {
		detail["error_code"] = code
	}
	set.Detail = marshal(detail)
	output := r.privacy.kept(e.output)
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // it never fails: it ends the program instead
	set.PayloadHash = payloadHash(salt, r.input, output)
	if r.keep {
		set.Output, set.Salt = output, salt
	}
	if r.call.keyed(r.s) {
		set.IdempotencyKey = r.call.claimName()
		if e.err == nil {
			set.Replay, set.Answer = true, r.sealed(ctx, e.answer)
		}
	}
	if over := set.PromptTokens + set.CompletionTokens - r.granted; over > 0 && e.err == nil {
		r.s.cfg.Overrun(over)
	}
	return set
}

// payloadHash is what the audit keeps of a payload.
func payloadHash(salt []byte, input, output json.RawMessage) []byte {
	h := sha256.New()
	h.Write(salt)
	h.Write(input)
	h.Write([]byte{0})
	h.Write(output)
	return h.Sum(nil)
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

// guard runs an engine's work, unless ctx has ended by now: asked is false then. A
// panic in it, or in what the caller does with its chunks, ends this request and
// nothing else.
func (r *record) guard(ctx context.Context, work func() error) (asked bool, err error) {
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	defer func() {
		if p := recover(); p != nil {
			// A panic's value may hold a prompt; the stack can't.
			r.s.cfg.Logger.ErrorContext(ctx, "engine panicked", append(r.ids(), "stack", string(debug.Stack()))...)
			asked, err = true, &engine.Error{Kind: engine.Failed, Message: "the engine failed"}
		}
	}()
	return true, work()
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
