package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"freehold/cmd/freehold/rest"
	"freehold/inference"
	"freehold/inference/finetune"
	"freehold/tenantdb"
)

// fineTuningJob is OpenAI's shape of a job.
type fineTuningJob struct {
	ID              string            `json:"id"`
	Object          string            `json:"object"` // fine_tuning.job
	CreatedAt       int64             `json:"created_at"`
	Error           *jobError         `json:"error"`
	FineTunedModel  *string           `json:"fine_tuned_model"`
	FinishedAt      *int64            `json:"finished_at"`
	Hyperparameters hyperparameters   `json:"hyperparameters"`
	Model           string            `json:"model"`
	OrganizationID  string            `json:"organization_id"` // the tenant's slug
	ResultFiles     []string          `json:"result_files"`
	Status          string            `json:"status" doc:"validating_files, queued, running, succeeded, failed or cancelled"`
	TrainedTokens   *int64            `json:"trained_tokens"`
	TrainingFile    string            `json:"training_file"`
	ValidationFile  *string           `json:"validation_file"`
	Seed            int64             `json:"seed"`
	EstimatedFinish *int64            `json:"estimated_finish"`
	Integrations    []json.RawMessage `json:"integrations"`
	Metadata        map[string]string `json:"metadata"`
	Method          method            `json:"method"`
}

type jobError struct {
	Code    string  `json:"code"`
	Message string  `json:"message"`
	Param   *string `json:"param"`
}

// hyperparameters are numbers, or "auto".
type hyperparameters struct {
	Epochs                 any `json:"n_epochs"`
	BatchSize              any `json:"batch_size"`
	LearningRateMultiplier any `json:"learning_rate_multiplier"`
}

type method struct {
	Type       string `json:"type"` // supervised
	Supervised struct {
		Hyperparameters hyperparameters `json:"hyperparameters"`
	} `json:"supervised"`
}

func showJob(slug string, j tenantdb.Job) fineTuningJob {
	out := fineTuningJob{
		ID: finetune.JobPrefix + j.ID.String(), Object: "fine_tuning.job", CreatedAt: j.CreatedAt.Unix(), FinishedAt: seconds(j.FinishedAt),
		Model: j.Base, OrganizationID: slug, ResultFiles: []string{}, Status: j.State, TrainedTokens: j.TrainedTokens,
		TrainingFile: finetune.FilePrefix + j.TrainingFile.String(), Seed: j.Seed, EstimatedFinish: seconds(j.EstimatedAt),
		Integrations: []json.RawMessage{}, Metadata: j.Metadata,
	}
	if out.Metadata == nil {
		out.Metadata = map[string]string{}
	}
	if j.ErrorCode != "" {
		out.Error = &jobError{Code: j.ErrorCode, Message: j.ErrorMessage}
		if j.ErrorParam != "" {
			out.Error.Param = &j.ErrorParam
		}
	}
	if j.State == "succeeded" {
		out.FineTunedModel = &j.Model
	}
	if j.ResultFile != nil {
		out.ResultFiles = append(out.ResultFiles, finetune.FilePrefix+j.ResultFile.String())
	}
	if j.ValidationFile != nil {
		id := finetune.FilePrefix + j.ValidationFile.String()
		out.ValidationFile = &id
	}
	var m finetune.Method
	_ = json.Unmarshal(j.Method, &m) // written by us
	out.Hyperparameters = hyperparameters{auto(m.Epochs), auto(m.BatchSize), auto(m.LearningRateMultiplier)}
	out.Method.Type, out.Method.Supervised.Hyperparameters = "supervised", out.Hyperparameters
	return out
}

func auto[N int | float64](n N) any {
	if n == 0 {
		return "auto"
	}
	return n
}

// tunes is the caller as fine-tuning knows them. A tenant whose database isn't
// migrated yet waits.
func (c caller) tunes(r *rest.Request) (finetune.Call, error) {
	call := c.call(r)
	call.IdempotencyKey, call.RequestHash = r.IdempotencyKey, r.Hash()
	return finetune.Call{Call: call, ID: c.Tenant, Slug: c.Slug, Again: r.Again}, c.needsSchema(inference.TunedSchema)
}

func (s *server) createJob(ctx context.Context, who caller, r *rest.Request) (*rest.Reply, error) {
	req, err := finetune.ParseRequest(r.Body)
	if err != nil {
		return nil, err
	}
	call, err := who.tunes(r)
	if err != nil {
		return nil, err
	}
	job, err := s.tuning.Create(ctx, call, req)
	return rest.OK(showJob(who.Slug, job)), err
}

func (s *server) jobs(ctx context.Context, who caller, r *rest.Request) (page rest.List[fineTuningJob], err error) {
	limit, after, err := pageOf(r, 20, 100, finetune.JobPrefix)
	if err != nil {
		return page, err
	}
	call, err := who.tunes(r)
	if err != nil {
		return page, err
	}
	list, err := s.tuning.Jobs(ctx, call, tenantdb.JobFilter{After: after, Limit: limit + 1, Metadata: r.QueryMap("metadata")})
	shown := make([]fineTuningJob, len(list))
	for i, j := range list {
		shown[i] = showJob(who.Slug, j)
	}
	return rest.Page(shown, limit, func(j fineTuningJob) string { return j.ID }), err
}

func (s *server) job(ctx context.Context, who caller, r *rest.Request) (out fineTuningJob, err error) {
	id, err := idIn(r, finetune.JobPrefix)
	if err != nil {
		return out, err
	}
	call, err := who.tunes(r)
	if err != nil {
		return out, err
	}
	job, err := s.tuning.Job(ctx, call, id)
	return showJob(who.Slug, job), err
}

func (s *server) cancelJob(ctx context.Context, who caller, r *rest.Request) (out fineTuningJob, err error) {
	id, err := idIn(r, finetune.JobPrefix)
	if err != nil {
		return out, err
	}
	call, err := who.tunes(r)
	if err != nil {
		return out, err
	}
	job, err := s.tuning.Cancel(ctx, call, id)
	return showJob(who.Slug, job), err
}

type fineTuningEvent struct {
	ID        string          `json:"id"`
	Object    string          `json:"object"` // fine_tuning.job.event
	CreatedAt int64           `json:"created_at"`
	Level     string          `json:"level"` // info, warn or error
	Message   string          `json:"message"`
	Type      string          `json:"type"` // message or metrics
	Data      json.RawMessage `json:"data,omitempty"`
}

// eventPrefix and checkpointPrefix begin ids; a uuid follows.
const (
	eventPrefix      = "ft-event-"
	checkpointPrefix = "ftckpt_"
)

func (s *server) jobEvents(ctx context.Context, who caller, r *rest.Request) (page rest.List[fineTuningEvent], err error) {
	id, err := idIn(r, finetune.JobPrefix)
	if err != nil {
		return page, err
	}
	limit, after, err := pageOf(r, 20, 1000, eventPrefix)
	if err != nil {
		return page, err
	}
	call, err := who.tunes(r)
	if err != nil {
		return page, err
	}
	list, err := s.tuning.Events(ctx, call, id, after, limit+1)
	shown := make([]fineTuningEvent, len(list))
	for i, e := range list {
		shown[i] = fineTuningEvent{
			ID: eventPrefix + e.ID.String(), Object: "fine_tuning.job.event", CreatedAt: e.CreatedAt.Unix(),
			Level: e.Level, Message: e.Message, Type: e.Kind, Data: e.Data,
		}
	}
	return rest.Page(shown, limit, func(e fineTuningEvent) string { return e.ID }), err
}

type fineTuningCheckpoint struct {
	ID        string          `json:"id"`
	Object    string          `json:"object"` // fine_tuning.job.checkpoint
	CreatedAt int64           `json:"created_at"`
	Model     string          `json:"fine_tuned_model_checkpoint" doc:"What the state of this step is called. The job's model alone can be asked."`
	Step      int64           `json:"step_number"`
	Metrics   json.RawMessage `json:"metrics"`
	Job       string          `json:"fine_tuning_job_id"`
}

func (s *server) jobCheckpoints(ctx context.Context, who caller, r *rest.Request) (page rest.List[fineTuningCheckpoint], err error) {
	id, err := idIn(r, finetune.JobPrefix)
	if err != nil {
		return page, err
	}
	limit, after, err := pageOf(r, 10, 100, checkpointPrefix)
	if err != nil {
		return page, err
	}
	call, err := who.tunes(r)
	if err != nil {
		return page, err
	}
	job, list, err := s.tuning.Checkpoints(ctx, call, id, after, limit+1)
	shown := make([]fineTuningCheckpoint, len(list))
	for i, c := range list {
		shown[i] = fineTuningCheckpoint{
			ID: checkpointPrefix + c.ID.String(), Object: "fine_tuning.job.checkpoint", CreatedAt: c.CreatedAt.Unix(),
			Model: finetune.CheckpointName(job.Model, c.Step), Step: c.Step, Metrics: c.Metrics, Job: finetune.JobPrefix + id.String(),
		}
	}
	return rest.Page(shown, limit, func(c fineTuningCheckpoint) string { return c.ID }), err
}

// removeModel removes one of the tenant's own models; the platform's are the
// operators' to remove.
func (s *server) removeModel(ctx context.Context, who caller, r *rest.Request) (deleted, error) {
	name := r.Param("name")
	call, err := who.tunes(r)
	if err != nil {
		return deleted{}, err
	}
	if !strings.HasPrefix(name, inference.TunedPrefix) {
		if _, err := s.inference.Model(ctx, call.Call, name); err != nil {
			return deleted{}, err
		}
		return deleted{}, &rest.Error{
			Status: http.StatusForbidden, Code: "model_not_allowed", Type: "invalid_request_error", Param: "model",
			Message: "This model is the platform's; tenants remove their own.",
		}
	}
	// Its base may be gone: nobody can use it then, and it is to be removed all the same.
	if !call.Limits.Allows(name) {
		return deleted{}, inference.ErrModelNotFound
	}
	err = s.tuning.RemoveModel(ctx, call, who.objects, name)
	if errors.Is(err, tenantdb.ErrNotFound) {
		err = inference.ErrModelNotFound
	}
	return deleted{ID: name, Object: "model", Deleted: true}, err
}

// pageOf is Request.Page for lists that are paged by ids with a prefix.
func pageOf(r *rest.Request, def, top int, prefix string) (limit int, after uuid.UUID, err error) {
	limit, from, err := r.Page(def, top)
	if err != nil || from == "" {
		return limit, uuid.Nil, err
	}
	after, ok := finetune.ParseID(prefix, from)
	if !ok {
		return 0, uuid.Nil, rest.Bad("after", "Not an id of this list.")
	}
	return limit, after, nil
}

// idIn reads the path's id. One of another form names nothing.
func idIn(r *rest.Request, prefix string) (uuid.UUID, error) {
	id, ok := finetune.ParseID(prefix, r.Param("id"))
	if !ok {
		return uuid.Nil, tenantdb.ErrNotFound
	}
	return id, nil
}

// jobBody is for the document: the service reads bodies itself.
type jobBody struct {
	Model           string            `json:"model"`
	TrainingFile    string            `json:"training_file"`
	ValidationFile  string            `json:"validation_file,omitempty"`
	Suffix          string            `json:"suffix,omitempty" doc:"1 to 64 letters, digits and . _ - in the model's name."`
	Seed            int64             `json:"seed,omitempty"`
	Method          json.RawMessage   `json:"method,omitempty" doc:"{type: supervised, supervised: {hyperparameters}}"`
	Hyperparameters json.RawMessage   `json:"hyperparameters,omitempty" doc:"n_epochs, batch_size, learning_rate_multiplier: numbers, or auto."`
	Metadata        map[string]string `json:"metadata,omitempty"`
}
