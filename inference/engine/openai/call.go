package openai

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"freehold/inference/engine"
)

// post sends body and returns the upstream's answer, which has a status of 2xx
// and whose body the caller closes. It tries again, up to Config.Tries times and
// while there is time, when the connection failed before an answer or the upstream
// said that it can't serve just now; nothing has come back then.
func (c *client) post(ctx context.Context, path string, body any) (*http.Response, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, &engine.Error{Kind: engine.BadRequest, Message: "the request could not be encoded"}
	}
	started := time.Now()
	for try := 1; ; try++ {
		resp, err := c.send(ctx, path, b)
		if err == nil && resp.StatusCode/100 == 2 {
			return resp, nil
		}
		wait := pause(try)
		var (
			again bool
			fail  *engine.Error
		)
		if err != nil {
			fail = broken(ctx, err, "the engine could not be reached")
			again = fail.Kind == engine.Failed && ctx.Err() == nil
		} else {
			var why reason
			fail, why = c.refused(ctx, resp)
			wait, again = retryable(resp, why, wait)
		}
		if !again || try >= c.cfg.Tries || !c.timeFor(ctx, started, wait) {
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

// timeFor reports whether waiting leaves time to ask: what went wrong is a better
// answer than that time ran out.
func (c *client) timeFor(ctx context.Context, started time.Time, wait time.Duration) bool {
	end := started.Add(c.cfg.Timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(end) {
		end = d
	}
	return time.Until(end) > wait
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
