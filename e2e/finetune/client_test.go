package finetune_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/openai/openai-go/v3"
)

// jsonl writes training data in OpenAI's chat format.
func jsonl(examples []example) string {
	var b strings.Builder
	for _, e := range examples {
		line, _ := json.Marshal(map[string]any{"messages": []map[string]string{
			{"role": "user", "content": e.question}, {"role": "assistant", "content": e.answer},
		}})
		b.Write(append(line, '\n'))
	}
	return b.String()
}

func (c *tenant) upload(text string) *openai.FileObject {
	c.Helper()
	f, err := c.Files.New(c.Context(), openai.FileNewParams{
		File: openai.File(strings.NewReader(text), "support.jsonl", "application/jsonl"), Purpose: openai.FilePurposeFineTune,
	})
	c.ok(err)
	return f
}

func (c *tenant) begin(model, file string) *openai.FineTuningJob {
	c.Helper()
	j, err := c.FineTuning.Jobs.New(c.Context(), openai.FineTuningJobNewParams{
		Model: openai.FineTuningJobNewParamsModel(model), TrainingFile: file, Suffix: openai.String("support"), Seed: openai.Int(1),
		Metadata: map[string]string{"project": "help"},
	})
	c.ok(err)
	return j
}

// wait waits for a job's end, which must be a good one.
func (c *tenant) wait(id string) *openai.FineTuningJob {
	c.Helper()
	for until := time.Now().Add(jobTime); ; time.Sleep(50 * time.Millisecond) {
		j, err := c.FineTuning.Jobs.Get(c.Context(), id)
		c.ok(err)
		switch {
		case j.Status == openai.FineTuningJobStatusSucceeded:
			return j
		case j.FinishedAt != 0:
			c.Fatalf("the job ended %s: %s %s", j.Status, j.Error.Code, j.Error.Message)
		case time.Now().After(until):
			c.Fatalf("the job is %s after %v", j.Status, jobTime)
		}
	}
}

// ask asks a model in chat.
func (c *tenant) ask(model, question string) (string, error) {
	got, err := c.Chat.Completions.New(c.Context(), openai.ChatCompletionNewParams{
		Model: model, Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(question)},
	})
	if err != nil {
		return "", err
	}
	if len(got.Choices) != 1 || got.Model != model {
		return "", fmt.Errorf("an odd answer: %s", got.RawJSON())
	}
	return got.Choices[0].Message.Content, nil
}

// prediction is what /v1/predictions answers, for which the library has no method.
type prediction struct {
	State  string
	Output struct {
		Text      string
		Label     string
		Scores    map[string]float64
		Abstained bool
	}
}

func (c *tenant) predict(model, question string) (p prediction, err error) {
	return p, c.Post(c.Context(), "predictions", map[string]string{"model": model, "inputs": question}, &p)
}

// refusal is an error as a client sees it: status and body, with the names of what
// was asked for taken out, so that two can be compared.
func (c *tenant) refusal(err error, names ...string) string {
	c.Helper()
	e, ok := errors.AsType[*openai.Error](err)
	if !ok {
		c.Errorf("got %v, want an answer that refuses", err)
		return ""
	}
	text := fmt.Sprintf("%d %s", e.StatusCode, e.RawJSON())
	for _, name := range names {
		text = strings.ReplaceAll(text, name, "NAME")
	}
	return text
}
