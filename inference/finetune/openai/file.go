package openai

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"freehold/inference/finetune"
)

const purpose = "fine-tune"

// file is the upstream's of a data file.
type file struct {
	ID        string `json:"id"`
	Filename  string `json:"filename"`
	Purpose   string `json:"purpose"`
	Bytes     int64  `json:"bytes"`
	Status    string `json:"status"`
	CreatedAt int64  `json:"created_at"`
}

func (f file) key() string    { return f.ID }
func (f file) created() int64 { return f.CreatedAt }

// prefix begins the names of all that a job pushes. The job's id is in it: another
// job's data may be the same, and each takes away its own.
func (w *work) prefix() string { return "freehold-" + w.run.Job.ID + "-" }

// files lists what this job has pushed, with what lost answers have left of it.
func (w *work) files(ctx context.Context) ([]file, error) {
	var ours []file
	query := url.Values{"purpose": {purpose}, "order": {"desc"}, "limit": {"100"}}
	err := pages(ctx, w.Trainer, "/files", query, func(p []file) bool {
		for _, f := range p {
			if f.ID != "" && strings.HasPrefix(f.Filename, w.prefix()) {
				ours = append(ours, f)
			}
		}
		return !past(p, w.since)
	})
	return ours, err
}

// push returns the upstream's file of a data file, which it looks for among there
// before it sends it: whoever was killed, or lost the answer, has sent it already.
func (w *work) push(ctx context.Context, path, kind string, there []file) (file, error) {
	info, err := os.Stat(path)
	if err != nil {
		return file{}, fmt.Errorf("openai trainer: the data can't be read: %w", err)
	}
	name := w.prefix() + w.run.DataSum + "-" + kind + ".jsonl"
	until := time.Now().Add(w.cfg.Patience)
	for try := 1; ; try++ {
		for _, f := range there {
			if f.Filename == name && f.Bytes == info.Size() && f.Purpose == purpose && !spoilt(f) {
				return w.ready(ctx, f, kind)
			}
		}
		f, err := w.upload(ctx, path, name, info.Size())
		if err == nil && f.ID != "" {
			return w.ready(ctx, f, kind)
		}
		if err == nil {
			err = errMalformed
		}
		wait := w.pause(try, err)
		if !passing(err) || time.Now().Add(wait).After(until) || !sleep(ctx, wait) {
			return file{}, err
		}
		if there, err = w.files(ctx); err != nil {
			return file{}, err
		}
	}
}

// upload sends a file once, as a stream of known length.
func (w *work) upload(ctx context.Context, path, name string, size int64) (file, error) {
	var out file
	data, err := os.Open(path)
	if err != nil {
		return out, fmt.Errorf("openai trainer: the data can't be read: %w", err)
	}
	defer data.Close()
	var frame bytes.Buffer
	form := multipart.NewWriter(&frame)
	err = form.WriteField("purpose", purpose)
	if err == nil {
		_, err = form.CreateFormFile("file", name)
	}
	if err != nil {
		return out, err
	}
	head := bytes.Clone(frame.Bytes())
	if err := form.Close(); err != nil {
		return out, err
	}
	tail := frame.Bytes()[len(head):]
	ctx, cancel := heardOut(ctx)
	defer cancel()
	const slowest = 256 << 10 // bytes a second
	err = w.call(ctx, request{
		method: http.MethodPost, path: "/files", kind: form.FormDataContentType(),
		body:    io.MultiReader(bytes.NewReader(head), io.LimitReader(data, size), bytes.NewReader(tail)),
		length:  int64(len(head)) + size + int64(len(tail)),
		timeout: w.cfg.Timeout + time.Duration(size/slowest)*time.Second,
	}, &out)
	return out, err
}

// readyTime is how long a file may be in the making before it is used all the same:
// some servers never say that it isn't any more.
const readyTime = 30 * time.Second

// ready waits until the upstream has read a file through.
func (w *work) ready(ctx context.Context, f file, kind string) (file, error) {
	id, until := f.ID, time.Now().Add(min(readyTime, w.cfg.Patience))
	for unready(f) && time.Now().Before(until) && sleep(ctx, w.cfg.PollMin) {
		if err := w.patiently(ctx, func() error { return w.get(ctx, "/files/"+url.PathEscape(id), nil, &f) }); err != nil {
			return file{}, err
		}
	}
	if !spoilt(f) {
		f.ID = id
		return f, ctx.Err()
	}
	fail := &finetune.Failure{
		Code: finetune.CodeInvalidTraining, Param: "training_file",
		Message: "The server that fine-tunes this model could not read the file.",
	}
	if kind == validation {
		fail.Code, fail.Param = finetune.CodeInvalidValidation, "validation_file"
	}
	return file{}, fail
}

func unready(f file) bool {
	return f.Status == "uploaded" || f.Status == "pending" || f.Status == "running"
}
func spoilt(f file) bool { return f.Status == "error" || f.Status == "failed" }
