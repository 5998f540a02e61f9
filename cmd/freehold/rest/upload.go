package rest

import (
	"context"
	"mime"
	"mime/multipart"
	"net/http"
	"reflect"
	"strings"
	"time"
)

// bodyIdle is how long the client of an upload may be silent.
const bodyIdle = 30 * time.Second

const mediaForm = "multipart/form-data"

// Upload serves a POST whose handler reads a form by Request.Form while it arrives,
// at most limit bytes of it in the route's Timeout; In is what the document says. Its
// path has no parameters. A gate can't run a handler again that has begun to read.
func Upload[In, Out, C any](limit int64, fn func(ctx context.Context, caller C, r *Request) (Out, error)) Endpoint[C] {
	return Endpoint[C]{
		in: reflect.TypeFor[In](), out: reflect.TypeFor[Out](), status: http.StatusOK, form: mediaForm, upload: limit,
		run: func(ctx context.Context, caller C, r *Request) (*Reply, error) {
			out, err := fn(ctx, caller, r)
			return &Reply{status: http.StatusOK, value: out}, err
		},
	}
}

// File is a form's file, for the document.
type File struct{}

// Form returns the reader of an upload's form. What its reads return when the body
// ends too early, or is too long or too slow, are answers of the table.
func (r *Request) Form() (*multipart.Reader, error) {
	if r.body == nil {
		return nil, errForm
	}
	if r.body.length > r.body.limit {
		return nil, errTooLarge
	}
	media, params, err := mime.ParseMediaType(r.media)
	if err != nil || media != mediaForm {
		return nil, errForm
	}
	// RFC 2046, section 5.1.1.
	if b := params["boundary"]; b == "" || len(b) > 70 || strings.ContainsAny(b, "\r\n") {
		return nil, Bad("", "The form's boundary is missing or malformed.")
	}
	return multipart.NewReader(r.body, params["boundary"]), nil
}

// Finish reads what stands behind a form's last part.
func (r *Request) Finish() error {
	if r.body == nil {
		return nil
	}
	buf := make([]byte, 4<<10)
	for {
		_, err := r.body.Read(buf)
		if r.body.ended() {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Length is how many bytes the client says its upload has; -1: it doesn't.
func (r *Request) Length() int64 {
	if r.body == nil {
		return int64(len(r.Body))
	}
	return r.body.length
}

// Begun reports whether the body of an upload has begun to be read: the handler
// can't be run once more.
func (r *Request) Begun() bool { return r.body != nil && !r.body.began.IsZero() }

// BodyError returns why the body of an upload couldn't be read on; nil: it could. What
// reads it for the handler may have hidden that.
func (r *Request) BodyError() error {
	if r.body == nil || r.body.ended() {
		return nil
	}
	return r.body.err
}
