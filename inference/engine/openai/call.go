package openai

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"freehold/inference/engine"
)

// maxRetryAfter is the longest that one retry waits for an upstream's sake.
const maxRetryAfter = 2 * time.Second

// post sends body and returns the upstream's answer, which has a status of 2xx
// and whose body the caller closes. It tries a second time when the upstream
// couldn't be reached or said that it can't serve now; nothing has come back then.
func (c *client) post(ctx context.Context, path string, body any) (*http.Response, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, &engine.Error{Kind: engine.Failed, Message: "the request could not be encoded"}
	}
	for first := true; ; first = false {
		resp, err := c.send(ctx, path, b)
		if err == nil && resp.StatusCode/100 == 2 {
			return resp, nil
		}
		wait := 100*time.Millisecond + rand.N(100*time.Millisecond) //nolint:gosec // spreads retries, hides nothing
		var (
			again bool
			fail  *engine.Error
		)
		if err != nil {
			fail = broken(ctx, err, "the engine could not be reached")
			again = fail.Kind == engine.Failed && ctx.Err() == nil
		} else {
			wait, again = retryable(resp, wait)
			fail = c.refused(ctx, resp)
		}
		if !first || !again {
			return nil, fail
		}
		c.cfg.Logger.Info("engine call is tried again", "path", path, "upstream_status", fail.UpstreamStatus)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, broken(ctx, ctx.Err(), "")
		}
	}
}

func (c *client) send(ctx context.Context, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.cfg.BaseURL+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	req.Header.Set("User-Agent", "freehold")
	if c.cfg.Key != "" {
		req.Header.Set("Authorization", "Bearer "+c.cfg.Key)
	}
	return c.http.Do(req)
}

// retryable reports whether a refusal is worth a second try, and when.
func retryable(resp *http.Response, wait time.Duration) (time.Duration, bool) {
	if resp.StatusCode != http.StatusBadGateway && resp.StatusCode != http.StatusServiceUnavailable {
		return 0, false
	}
	after := resp.Header.Get("Retry-After")
	if after == "" {
		return wait, true
	}
	if s, err := strconv.ParseFloat(after, 64); err == nil {
		d := time.Duration(s * float64(time.Second))
		return max(d, wait), s >= 0 && s <= maxRetryAfter.Seconds()
	}
	at, err := http.ParseTime(after)
	if err != nil {
		return wait, true
	}
	d := time.Until(at)
	return max(d, wait), d <= maxRetryAfter
}

// read reads a whole body of bounded size and closes it.
func read(ctx context.Context, body io.ReadCloser, limit int64) ([]byte, error) {
	defer body.Close() // nothing hangs on it: the body was read
	b, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		return nil, broken(ctx, err, "the engine broke off its answer")
	}
	if int64(len(b)) > limit {
		return nil, &engine.Error{Kind: engine.Failed, Message: "the engine's answer is too large", Err: errTooLarge}
	}
	return b, nil
}

var errTooLarge = errors.New("larger than this engine accepts")

// call posts body and decodes the whole answer into out.
func (c *client) call(ctx context.Context, path string, body, out any) error {
	ctx, w := newWatch(ctx, c.cfg.Timeout)
	defer w.end()
	resp, err := c.post(ctx, path, body) //nolint:bodyclose // read closes it
	if err != nil {
		return err
	}
	b, err := read(ctx, resp.Body, maxBody)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, out); err != nil {
		return malformed("the engine's answer is not what was expected")
	}
	return nil
}
