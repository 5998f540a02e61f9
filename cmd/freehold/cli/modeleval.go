package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
	"freehold/inference/finetune/dataset"
	"freehold/inference/finetune/evaluate"
	"freehold/tenantdb"
)

func (e *env) modelEval() *cobra.Command {
	var file, outside string
	c := &cobra.Command{
		Use:   "eval SLUG MODEL --file FILE",
		Short: "Ask a tenant's own model questions whose answers are known, and its base the same ones",
		Long: `Ask a tenant's own model questions whose answers are known, and its base the same ones: how many
answers are right, how many were declined, what is mixed up, before and after.

FILE holds chat examples, one JSON object a line, as for training: each assistant message is the
answer that is wanted for the user message before it. They should be others than those that the
model was made of. Personal data is hidden as it is for the tenant's requests. An answer is right
when it is the wanted one, word for word. Nothing is billed to the tenant or logged for it; the
evaluation is a row of operator_audit.`,
		Example: "  freehold model eval acme ft:freehold-answer-1:acme:support:1a2b3c4d --file held-out.jsonl --out-of-scope other.txt",
		Args:    usageArgs(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, args []string) error {
			if file == "" {
				return fmt.Errorf("%w: say which questions: --file FILE", errUsage)
			}
			return e.withAll(app.NeedCatalog|app.NeedS3, func(ctx context.Context, p *app.Platform, args []string) error {
				return e.evaluate(ctx, p, args[0], args[1], file, outside)
			})(c, args)
		},
	}
	c.Flags().StringVar(&file, "file", "", "chat examples, one JSON object a line")
	c.Flags().StringVar(&outside, "out-of-scope", "", "a text file with a question a line that the model should decline")
	return c
}

// question is what is asked, and the answer that is wanted.
type question struct {
	system, prompt string
	want           string
	outOfScope     bool
}

func (e *env) evaluate(ctx context.Context, p *app.Platform, slug, model, file, outside string) error {
	t, err := tenant(ctx, p, slug)
	if err != nil {
		return err
	}
	cfg, err := p.Catalog.TenantConfig(ctx, t.ID)
	if err != nil {
		return err
	}
	questions, err := e.readQuestions(ctx, file, cfg)
	if err != nil {
		return err
	}
	items := len(questions)
	if outside != "" {
		others, err := readLines(outside, dataset.PolicyOf(cfg))
		if err != nil {
			return err
		}
		questions = append(questions, others...)
	}
	var m tenantdb.TunedModel
	err = p.Fleet.InTenant(ctx, t.ID, func(ctx context.Context, _ catalog.Tenant, db *tenantdb.DB) (err error) {
		m, err = db.TunedModelByName(ctx, model)
		return err
	})
	if errors.Is(err, tenantdb.ErrNotFound) {
		return fmt.Errorf("model %s: %w", model, catalog.ErrNotFound)
	}
	if err != nil {
		return hinted(t, err)
	}
	if err := audit(ctx, p, "model.eval", t.ID, map[string]any{"model": m.Name, "items": len(questions)}); err != nil {
		return err
	}
	before, after, done, err := e.askers(ctx, p, t, m)
	if err != nil {
		return err
	}
	defer done()
	r := evaluate.Report{Items: items, Data: filepath.Base(file)}
	if r.After, err = e.ask(ctx, "asking the model", after, questions); err != nil {
		return err
	}
	if r.Before, err = e.ask(ctx, "asking its base", before, questions); err != nil {
		return err
	}
	if e.output == "json" {
		return e.json(r)
	}
	return r.WriteTable(e.out)
}

// readQuestions reads a file of chat examples, with the tenant's own prompt above
// each conversation's. Its errors go to stderr, each with its line.
func (e *env) readQuestions(ctx context.Context, path string, cfg catalog.TenantConfig) ([]question, error) {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	policy := dataset.PolicyOf(cfg)
	s, err := dataset.Validate(ctx, f, dataset.Options{Policy: policy, MinExamples: 1})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, x := range s.Errors {
		where := ""
		if x.Line > 0 {
			where = fmt.Sprintf(":%d", x.Line)
		}
		sayTo(e.err, "%s%s: %s (%s)", path, where, x.Message, x.Code)
	}
	if !s.Valid() {
		return nil, fmt.Errorf("%s can't be asked: errors: %d", path, s.ErrorCount)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var list []question
	for x, err := range dataset.HiddenExamples(ctx, f, policy) {
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		system := strings.Join(slices.DeleteFunc([]string{cfg.SystemPromptOverride, x.System}, func(s string) bool { return s == "" }), "\n\n")
		list = append(list, question{system: system, prompt: x.Prompt, want: x.Answer})
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s has no user message that an assistant answers with a text", path)
	}
	return list, nil
}

// readLines reads questions that have no answer, one a line.
func readLines(path string, policy dataset.Policy) ([]question, error) {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var list []question
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, dataset.MaxLine)
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		switch {
		case !utf8.ValidString(text):
			return nil, fmt.Errorf("%s:%d: not valid UTF-8", path, n)
		case len(list) == dataset.MaxExamples:
			return nil, fmt.Errorf("%s:%d: more than %d questions", path, n, dataset.MaxExamples)
		case text != "":
			list = append(list, question{prompt: policy.Hide(text), outOfScope: true})
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return list, nil
}
