package main

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"freehold/inference/engine"
	builtinengine "freehold/inference/engine/builtin"
	"freehold/inference/engine/builtin/head"
	"freehold/inference/finetune/builtin"
)

// Corpora of invented businesses' support questions. A file begins with "== name
// (dev)" or "== name (test)": what is chosen in the engine was chosen on those marked
// dev. "> answer" begins a class, "+" is a prompt to train on, "?" one held out, "!" a
// question without an answer, of which about half are near misses.
//
//go:embed corpora/*.txt
var corpusFiles embed.FS

// corpus is one of them.
type corpus struct {
	name    string
	test    bool
	train   []lesson
	held    []lesson
	foreign []string
}

type lesson struct{ prompt, answer string }

// corpora reads all, in order of their names.
func corpora() ([]corpus, error) {
	names, err := corpusFiles.ReadDir("corpora")
	if err != nil {
		return nil, err
	}
	var all []corpus
	for _, entry := range names {
		text, err := corpusFiles.ReadFile("corpora/" + entry.Name())
		if err != nil {
			return nil, err
		}
		c := corpus{name: strings.TrimSuffix(entry.Name(), ".txt")}
		answer := ""
		for line := range strings.Lines(string(text)) {
			mark, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
			switch mark {
			case "==":
				c.test = strings.HasSuffix(rest, "(test)")
			case ">":
				answer = rest
			case "+":
				c.train = append(c.train, lesson{rest, answer})
			case "?":
				c.held = append(c.held, lesson{rest, answer})
			case "!":
				c.foreign = append(c.foreign, rest)
			}
		}
		all = append(all, c)
	}
	return all, nil
}

// train makes a model of examples as a job's child process does, in a folder of its
// own, and returns the artifact's head.
func train(ctx context.Context, examples []lesson) ([]byte, error) {
	dir, err := os.MkdirTemp("", "freehold-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	var data bytes.Buffer
	to := json.NewEncoder(&data)
	for _, e := range examples {
		err := to.Encode(map[string]any{"messages": []map[string]string{
			{"role": "user", "content": e.prompt}, {"role": "assistant", "content": e.answer},
		}})
		if err != nil {
			return nil, err
		}
	}
	job, train := filepath.Join(dir, "job.json"), filepath.Join(dir, "train.jsonl")
	for path, content := range map[string][]byte{job: []byte(`{"method":{"type":"supervised"}}`), train: data.Bytes()} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return nil, err
		}
	}
	env := map[string]string{
		"FREEHOLD_JOB": job, "FREEHOLD_DATA": dir, "FREEHOLD_OUTPUT": dir, "FREEHOLD_CHECKPOINTS": dir, "FREEHOLD_SEED": "1",
	}
	if err := builtin.Train(ctx, func(name string) string { return env[name] }, io.Discard); err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(dir, builtinengine.HeadFile))
}

// tuned is a trained model, to be asked as the engine does.
type tuned struct {
	head    *head.Head
	encoder *builtinengine.Encoder
}

func newTuned(raw []byte) (*tuned, error) {
	e, err := builtinengine.Load()
	if err != nil {
		return nil, err
	}
	h, err := head.Read(bytes.NewReader(raw), int64(len(raw)))
	return &tuned{h, e}, err
}

func (m *tuned) ask(ctx context.Context, prompt string) (head.Verdict, error) {
	text := head.Normalize(prompt)
	v, err := m.encoder.Encode(ctx, text)
	if err != nil {
		return head.Verdict{}, err
	}
	return m.head.Predict(text, v), nil
}

// chatRequest asks a model whose artifact is raw.
func chatRequest(key string, raw []byte, prompt string) *engine.ChatRequest {
	return &engine.ChatRequest{
		Model: builtinengine.AnswerModel, Scope: key,
		Messages: []engine.Message{{Role: "user", Content: engine.TextContent(prompt)}},
		Tuned: &engine.Tuned{Key: key, Name: "ft", Read: func(_ context.Context, file string) (io.ReadCloser, int64, error) {
			if file != builtinengine.HeadFile {
				return nil, 0, fmt.Errorf("no file %s", file)
			}
			return io.NopCloser(bytes.NewReader(raw)), int64(len(raw)), nil
		}},
	}
}

// sentences are all prompts of all corpora, each once.
func sentences(all []corpus) []lesson {
	var out []lesson
	seen := map[string]bool{}
	for _, c := range all {
		for _, p := range slices.Concat(c.train, c.held) {
			if !seen[p.prompt] {
				seen[p.prompt] = true
				out = append(out, p)
			}
		}
	}
	return out
}
