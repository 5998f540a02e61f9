package openai

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"freehold/inference/finetune"
)

// maxBody bounds an answer: a page of a list at most.
const maxBody = 8 << 20

// request is one call. Its body is read once: each try has one of its own.
type request struct {
	method, path string // the path as it goes over the wire
	query        url.Values
	body         io.Reader
	length       int64
	kind         string // the body's content type
	key          string // Idempotency-Key
	timeout      time.Duration
}

// call sends a request once and decodes the answer into out, unless that is nil.
// Errors are *refusal, or errUnreachable with how the connection fared.
func (t *Trainer) call(ctx context.Context, r request, out any) error {
	ctx, cancel := context.WithTimeout(ctx, max(r.timeout, t.cfg.Timeout))
	defer cancel()
	address := t.cfg.BaseURL + r.path
	if len(r.query) > 0 {
		address += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, address, r.body)
	if err != nil {
		return errors.New("openai trainer: the request could not be made")
	}
	if r.body != nil {
		req.ContentLength = r.length
		req.Header.Set("Content-Type", r.kind)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "freehold")
	if t.cfg.Key != "" {
		req.Header.Set("Authorization", "Bearer "+t.cfg.Key)
	}
	if r.key != "" {
		req.Header.Set("Idempotency-Key", r.key)
		// net/http takes the header for leave to send the request again by itself; not
		// every upstream knows it, and we look before we do.
		req.GetBody = nil
	}
	resp, err := t.http.Do(req)
	if err != nil {
		return unreachable(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if resp.StatusCode/100 != 2 {
		return t.refused(resp, b) // whose status says enough when its body broke off
	}
	if err != nil {
		return unreachable(err)
	}
	if len(b) > maxBody {
		return errTooLarge
	}
	if out != nil && json.Unmarshal(b, out) != nil {
		return errMalformed
	}
	return nil
}

func (t *Trainer) get(ctx context.Context, path string, query url.Values, out any) error {
	return t.call(ctx, request{method: http.MethodGet, path: path, query: query}, out)
}

// post sends a JSON body, nil for none.
func (t *Trainer) post(ctx context.Context, path, key string, body, out any) error {
	r := request{method: http.MethodPost, path: path, key: key}
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return errors.New("openai trainer: the request could not be encoded")
		}
		r.body, r.length, r.kind = bytes.NewReader(b), int64(len(b)), "application/json"
	}
	return t.call(ctx, r, out)
}

// patiently calls f until it succeeds, fails for good, or Config.Patience is over.
// What f does must be safe to do twice.
func (t *Trainer) patiently(ctx context.Context, f func() error) error {
	until := time.Now().Add(t.cfg.Patience)
	for try := 1; ; try++ {
		err := f()
		if err == nil || !passing(err) || ctx.Err() != nil {
			return err
		}
		wait := t.pause(try, err)
		if time.Now().Add(wait).After(until) || !sleep(ctx, wait) {
			return err
		}
	}
}

// answerTime is how much longer an answer is waited for when a tenant cancels.
const answerTime = 3 * time.Second

// heardOut is ctx for calls that make something: when the tenant cancels meanwhile it
// lasts a little longer, since what was made can't be taken away until it is there.
func heardOut(ctx context.Context) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	unbind := context.AfterFunc(ctx, func() {
		if errors.Is(context.Cause(ctx), finetune.ErrCancelled) {
			sleep(longer, answerTime)
		}
		cancel()
	})
	if ctx.Err() != nil { // before it was begun
		cancel()
	}
	return longer, func() { unbind(); cancel() }
}

// sleep reports whether it slept to the end.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// page is a part of a list, newest first.
type page[T item] struct {
	Data    []T  `json:"data"`
	HasMore bool `json:"has_more"`
}

type item interface {
	key() string
	created() int64 // Unix seconds; 0: the upstream doesn't say
}

// most pages of one list that are read: beyond it, the upstream goes in circles.
const maxPages = 1000

var errEndless = errors.New("a list of the upstream's has no end")

// pages calls f with each page of a list until f has seen enough.
func pages[T item](ctx context.Context, t *Trainer, path string, query url.Values, f func([]T) (more bool)) error {
	last := ""
	for range maxPages {
		var p page[T]
		if err := t.patiently(ctx, func() error {
			p = page[T]{}
			return t.get(ctx, path, query, &p)
		}); err != nil {
			return err
		}
		n := len(p.Data)
		// One that knows no pages gives the first one for ever.
		if n == 0 || p.Data[n-1].key() == last || !f(p.Data) || !p.HasMore {
			return nil
		}
		last = p.Data[n-1].key()
		query.Set("after", last)
	}
	return errEndless
}

// past reports whether what follows a page was made before a time. Only a list that
// is newest first tells.
func past[T item](p []T, since time.Time) bool {
	first, last := p[0].created(), p[len(p)-1].created()
	return last > 0 && first >= last && last < since.Unix()
}
