package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"freehold/catalog"
	"freehold/inference"
	"freehold/inference/engine"
	"freehold/inference/files"
	"freehold/inference/finetune"
	"freehold/migrations/localpg"
	"freehold/router"
	"freehold/tenantdb"
	"freehold/tenantdb/fleet"
)

// Errors that are decided at a door.
var (
	// ErrScope is returned when the key doesn't hold the route's scope.
	ErrScope = errors.New("insufficient scope")
	// ErrShuttingDown is returned while this node stops; it is also the cause
	// with which a door cancels what outlasts its shutdown.
	ErrShuttingDown = errors.New("shutting down")

	errClientGone = errors.New("client went away")
	errTooLarge   = errors.New("request too large")
	errMedia      = errors.New("unsupported media type")
	errForm       = errors.New("no form")
	errNoRoute    = errors.New("unknown route")
	errMethod     = errors.New("method not allowed")
	errSlowClient = errors.New("request came too slowly")
	errHeaders    = errors.New("request headers too large")
	errMalformed  = errors.New("malformed request")
	errPanic      = errors.New("panic in a handler")
)

// Types of errors, as OpenAI pairs them with codes.
const (
	typeRequest = "invalid_request_error"
	typeServer  = "server_error"
)

// codeStopping is the code of what a stopping node turns away.
const codeStopping = "shutting_down"

// Error is an answer that isn't a success: a row of the table, or what a handler
// refuses by itself. Message is sent as it stands.
type Error struct {
	Status               int
	Code, Type           string
	Param, Message       string
	RetryAfter           time.Duration     // 0: no header
	Header               map[string]string // more headers; they win over the table's
	Err                  error             // for the log
	unlisted, clientGone bool
}

func (e *Error) Error() string { return e.Message }

func (e *Error) Unwrap() error { return e.Err }

// Bad refuses a request as it is; param names the place, and may be empty.
func Bad(param, message string) error {
	return &Error{Status: http.StatusBadRequest, Code: "invalid_request", Type: typeRequest, Param: param, Message: message}
}

// retryable reports whether the same request may succeed soon. SDKs retry 409
// and 429 by themselves; where that can't help they are told.
func (e *Error) retryable() bool {
	switch {
	case e.Status >= 500, e.Status == http.StatusRequestTimeout:
		return true
	default:
		return e.Status == http.StatusTooManyRequests && e.Code == "rate_limit_exceeded"
	}
}

type row struct {
	is      error
	status  int
	code    string
	message string // empty: the error's own text, written for the caller
	param   string
	retry   time.Duration
}

// table is the one table from error to answer. The first row that fits decides.
var table = []row{
	{is: fleet.ErrUnfenced, status: 503, code: "database_unavailable", message: "Saved, but the tenant's database could not be told: repeat the call.", retry: time.Second},
	{is: fleet.ErrSessionsLeft, status: 503, code: "database_unavailable", message: "Saved, but sessions of the tenant may be left: repeat the call.", retry: time.Second},
	{is: catalog.ErrInvalidKey, status: 401, code: "invalid_api_key", message: "Missing or invalid API key."},
	{is: router.ErrUnknown, status: 401, code: "invalid_api_key", message: "Missing or invalid API key."},
	{is: ErrScope, status: 403, code: "insufficient_scope", message: "This API key does not have the scope that the route needs."},
	{is: router.ErrSuspended, status: 403, code: "tenant_suspended", message: "This tenant is suspended."},
	{is: inference.ErrModelNotAllowed, status: 403, code: "model_not_allowed", message: "This tenant may not use the model.", param: "model"},
	{is: inference.ErrModelNotFound, status: 404, code: "model_not_found", message: "The model does not exist.", param: "model"},
	{is: tenantdb.ErrNotFound, status: 404, code: "not_found", message: "No such object."},
	{is: catalog.ErrNotFound, status: 404, code: "not_found", message: "No such object."},
	{is: errNoRoute, status: 404, code: "not_found", message: "No such route."},
	{is: errMethod, status: 405, code: "method_not_allowed", message: "The route does not answer this method."},
	{is: errSlowClient, status: 408, code: "request_timeout", message: "The request did not arrive in time."},
	{is: catalog.ErrMismatch, status: 422, code: "idempotency_mismatch", message: "This Idempotency-Key was used for another request.", param: "Idempotency-Key"},
	{is: inference.ErrMismatch, status: 422, code: "idempotency_mismatch", message: "This Idempotency-Key was used for another request.", param: "Idempotency-Key"},
	{is: inference.ErrNotKept, status: 409, code: "conflict", message: "This Idempotency-Key's request was answered, and the answer was too large to be kept.", param: "Idempotency-Key"},
	{is: finetune.ErrNotTunable, status: 400, code: "invalid_request", message: "This model can't be fine-tuned.", param: "model"},
	{is: tenantdb.ErrMismatch, status: 422, code: "idempotency_mismatch", message: "This Idempotency-Key was used for another request.", param: "Idempotency-Key"},
	{is: tenantdb.ErrEndedJob, status: 409, code: "conflict", message: "The job has ended."},
	{is: tenantdb.ErrInUse, status: 409, code: "conflict", message: "A fine-tuning job that hasn't ended needs this file."},
	{is: catalog.ErrExists, status: 409, code: "conflict", message: "The name is taken by another one."},
	{is: catalog.ErrSealBroken, status: 409, code: "conflict", message: "The backup is changed, cut short, another tenant's, or sealed with another key."},
	{is: localpg.ErrNotFound, status: 409, code: "conflict", message: "This node has no pg_dump and pg_restore for the server's version of Postgres."},
	{is: catalog.ErrConflict, status: 409, code: "conflict"},
	{is: tenantdb.ErrInProgress, status: 409, code: "conflict", message: "The request is still in progress."},
	{is: errTooLarge, status: 413, code: "request_too_large", message: "The request body is too large."},
	{is: files.ErrTooLarge, status: 413, code: "request_too_large", message: "The file is larger than 512 MB.", param: "file"},
	{is: errMedia, status: 415, code: "unsupported_media_type", message: "The request body must be application/json, not compressed."},
	{is: errForm, status: 415, code: "unsupported_media_type", message: "The request body must be multipart/form-data, not compressed."},
	{is: errHeaders, status: 431, code: "invalid_request", message: "The request headers are too large."},
	{is: fleet.ErrInsecureServer, status: 400, code: "invalid_request"},
	{is: fleet.ErrServerOpen, status: 400, code: "invalid_request"},
	{is: fleet.ErrServerUnfit, status: 400, code: "invalid_request"},
	{is: catalog.ErrInvalid, status: 400, code: "invalid_request"},
	{is: errMalformed, status: 400, code: "invalid_request", message: "The request could not be read."},
	{is: errClientGone, status: 499, code: "client_closed_request", message: "The client went away."},
	{is: ErrShuttingDown, status: 503, code: codeStopping, message: "This node is stopping.", retry: time.Second},
	{is: inference.ErrStopped, status: 503, code: codeStopping, message: "This node is stopping.", retry: time.Second},
	{is: router.ErrClosed, status: 503, code: codeStopping, message: "This node is stopping.", retry: time.Second},
	{is: router.ErrMoving, status: 503, code: "tenant_moving", message: "This tenant is moving to another server.", retry: time.Second},
	{is: router.ErrUpgrading, status: 503, code: "tenant_upgrading", message: "This tenant's database is being upgraded.", retry: 5 * time.Second},
	{is: router.ErrBusy, status: 503, code: "server_full", message: "No database connection became free in time.", retry: time.Second},
	{is: files.ErrStore, status: 503, code: "store_unavailable", message: "The object store cannot be reached.", retry: 5 * time.Second},
	{is: fleet.ErrStore, status: 503, code: "store_unavailable", message: "The object store cannot be reached.", retry: 5 * time.Second},
	{is: tenantdb.ErrFenced, status: 503, code: "database_unavailable", message: "The tenant's state is changing.", retry: time.Second},
	{is: tenantdb.ErrForeign, status: 503, code: "database_unavailable", message: "The tenant's database cannot be used.", retry: 5 * time.Second},
	{is: tenantdb.ErrUnavailable, status: 503, code: "database_unavailable", message: "The tenant's database cannot be reached.", retry: time.Second},
	{is: catalog.ErrUnavailable, status: 503, code: "database_unavailable", message: "The catalog cannot be reached.", retry: time.Second},
	{is: context.DeadlineExceeded, status: 504, code: "engine_timeout", message: "The request took too long."},
}

// Describe turns an error into its answer. What isn't listed is a 500 whose text
// stays here.
func Describe(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*inference.BadRequest](err); ok {
		return &Error{Status: 400, Code: "invalid_request", Type: typeRequest, Param: e.Param, Message: e.Message, Err: err}
	}
	if e, ok := errors.AsType[*engine.Error](err); ok {
		return describeEngine(e, err)
	}
	if e, ok := errors.AsType[*inference.Refusal](err); ok {
		return describeRefusal(e, err)
	}
	if e, ok := errors.AsType[*catalog.Invalid](err); ok {
		return &Error{Status: 400, Code: "invalid_request", Type: typeRequest, Param: e.Field, Message: e.Text, Err: err}
	}
	if e := describeTuning(err); e != nil {
		return e
	}
	if e := describeUpload(err); e != nil {
		return e
	}
	for _, t := range table {
		if !errors.Is(err, t.is) {
			continue
		}
		e := &Error{Status: t.status, Code: t.code, Type: typeRequest, Param: t.param, Message: t.message, RetryAfter: t.retry, Err: err}
		if e.Message == "" {
			e.Message = err.Error()
		}
		if e.Status >= 500 {
			e.Type = typeServer
		}
		if busy, ok := errors.AsType[*router.Busy](err); ok && errors.Is(t.is, router.ErrBusy) {
			e.RetryAfter = wholeSeconds(busy.RetryAfter)
		}
		e.clientGone = errors.Is(t.is, errClientGone)
		return e
	}
	return &Error{Status: 500, Code: "internal_error", Type: typeServer, Message: "Something went wrong here; it has been logged.", Err: err, unlisted: true}
}

// wholeSeconds rounds up, to one at least: a header knows no fractions.
func wholeSeconds(d time.Duration) time.Duration {
	return max(time.Second, (d + time.Second - 1).Truncate(time.Second))
}

// describeEngine answers for an engine. The upstream's own status and text are
// for the log alone, except where the fault is the request's.
func describeEngine(e *engine.Error, err error) *Error {
	switch e.Kind {
	case engine.BadRequest, engine.Unsupported:
		return &Error{Status: 400, Code: "invalid_request", Type: typeRequest, Param: e.Param, Message: e.Message, Err: err}
	case engine.Timeout:
		return &Error{Status: 504, Code: "engine_timeout", Type: typeServer, Message: "The engine did not answer in time.", Err: err}
	default:
		return &Error{Status: 502, Code: "engine_error", Type: typeServer, Message: "The engine failed.", Err: err}
	}
}

// queueRetry is when it is worth asking again for a place in a tenant's queue: a job
// ends in minutes.
const queueRetry = time.Minute

// describeTuning answers for fine-tuning; nil when err isn't about that.
func describeTuning(err error) *Error {
	if e, ok := errors.AsType[*finetune.Refused](err); ok {
		return &Error{Status: 400, Code: "invalid_request", Type: typeRequest, Param: e.Param, Message: e.Error() + ".", Err: err}
	}
	if e, ok := errors.AsType[*tenantdb.MissingFile](err); ok {
		return &Error{Status: 404, Code: "not_found", Type: typeRequest, Param: e.Param, Message: "No such file to train with.", Err: err}
	}
	if e, ok := errors.AsType[*catalog.TooMuchWork](err); ok {
		return &Error{
			Status: http.StatusTooManyRequests, Code: "rate_limit_exceeded", Type: "requests", RetryAfter: queueRetry,
			Message: fmt.Sprintf("This tenant has %d fine-tuning jobs waiting and running, as many as it may have.", e.Limit),
			Header:  map[string]string{"X-Should-Retry": "false"}, Err: err,
		}
	}
	return nil
}

// uploadRetry is when it is worth asking again for an upload.
const uploadRetry = 5 * time.Second

// describeUpload answers for the limits of uploads; nil when err isn't one. Of full
// storage no retry comes of use.
func describeUpload(err error) *Error {
	e := &Error{Status: http.StatusTooManyRequests, Err: err}
	switch {
	case errors.Is(err, tenantdb.ErrStorageFull):
		e.Code, e.Type, e.Param = "insufficient_quota", "insufficient_quota", "file"
		e.Message = "The file is larger than what is left of this tenant's storage: delete other files."
	case errors.Is(err, files.ErrBusy):
		e.Code, e.Type, e.RetryAfter = "rate_limit_exceeded", "requests", uploadRetry
		e.Message = "As many files are being uploaded as can be at a time."
	default:
		return nil
	}
	return e
}

// body is the error's wire form.
func (e *Error) body() map[string]any {
	var param any
	if e.Param != "" {
		param = e.Param
	}
	return map[string]any{"error": map[string]any{"message": e.Message, "type": e.Type, "param": param, "code": e.Code}}
}
