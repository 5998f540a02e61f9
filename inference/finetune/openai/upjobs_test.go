package openai_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// wanted is a job's creation as OpenAI's own reads it.
type wanted struct {
	Model          string            `json:"model"`
	TrainingFile   string            `json:"training_file"`
	ValidationFile *string           `json:"validation_file"`
	Suffix         *string           `json:"suffix"`
	Seed           *int64            `json:"seed"`
	Metadata       map[string]string `json:"metadata"`
	Method         *struct {
		Type       string `json:"type"`
		Supervised *struct {
			Hyperparameters *struct {
				Epochs json.RawMessage `json:"n_epochs"`
				Batch  json.RawMessage `json:"batch_size"`
				Rate   json.RawMessage `json:"learning_rate_multiplier"`
			} `json:"hyperparameters"`
		} `json:"supervised"`
	} `json:"method"`
}

func (u *upstream) create(w http.ResponseWriter, r *http.Request) {
	var want wanted
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&want); err != nil || r.Header.Get("Content-Type") != "application/json" {
		u.strange(w, "a job: %v", err)
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	has := func(id string) bool { return slices.ContainsFunc(u.files, func(f *upFile) bool { return f.ID == id }) }
	switch {
	case want.Model != "gpt-up":
		refuse(w, 404, "model_not_found", "model", "The model `"+want.Model+"` does not exist")
		return
	case !has(want.TrainingFile), want.ValidationFile != nil && !has(*want.ValidationFile):
		refuse(w, 400, "invalid_file", "training_file", "invalid training_file: "+want.TrainingFile)
		return
	case want.Suffix != nil && (*want.Suffix == "" || len(*want.Suffix) > 64), want.Seed != nil && (*want.Seed < 0 || *want.Seed > 1<<31-1):
		u.strange(w, "suffix or seed")
		return
	case want.Method == nil || want.Method.Type != "supervised" || want.Method.Supervised == nil || want.Method.Supervised.Hyperparameters == nil:
		u.strange(w, "method")
		return
	}
	h := want.Method.Supervised.Hyperparameters
	for name, raw := range map[string]json.RawMessage{"n_epochs": h.Epochs, "batch_size": h.Batch, "learning_rate_multiplier": h.Rate} {
		var n float64
		if string(raw) != `"auto"` && (json.Unmarshal(raw, &n) != nil || n <= 0) {
			u.strange(w, "%s is %s", name, raw)
			return
		}
	}
	j := u.addJob(want.TrainingFile, want.Metadata)
	j.Model, j.ValidationFile, j.key = want.Model, want.ValidationFile, r.Header.Get("Idempotency-Key")
	if want.Suffix != nil {
		j.suffix = *want.Suffix
	}
	if want.Seed != nil {
		j.Seed = *want.Seed
	}
	j.Method = json.RawMessage(`{"type":"supervised","supervised":{"hyperparameters":{"n_epochs":3,"batch_size":1,"learning_rate_multiplier":1.8}}}`)
	j.Hyper = json.RawMessage(`{"n_epochs":"auto","batch_size":"auto","learning_rate_multiplier":"auto"}`)
	answer(w, j)
}

// addJob makes a job; who calls holds the lock.
func (u *upstream) addJob(file string, metadata map[string]string) *upJob {
	if u.keepsNoMetadata {
		metadata = nil
	}
	j := &upJob{
		ID: id("ftjob-"), Object: "fine_tuning.job", CreatedAt: time.Now().Unix(), Status: "validating_files", Organization: "org-ours",
		TrainingFile: file, Metadata: metadata, ResultFiles: []string{}, Integrations: []string{}, Error: map[string]any{},
		Method: json.RawMessage("null"), Hyper: json.RawMessage("{}"),
	}
	j.say("info", "Created fine-tuning job: "+j.ID)
	j.say("info", "Validating training file: "+file)
	u.jobs = append(u.jobs, j)
	return j
}

func (j *upJob) say(level, message string) {
	j.events = append(j.events, map[string]any{
		"id": id("ft-event-"), "object": "fine_tuning.job.event", "created_at": time.Now().Unix(), "level": level, "message": message,
		"type": "message", "data": map[string]any{},
	})
}

// step is what a job does between two looks.
func (u *upstream) step(j *upJob, holds bool) {
	if j.FinishedAt != nil || holds && j.looks > 2 {
		return
	}
	j.looks++
	now := time.Now().Unix()
	switch {
	case j.looks == 1:
		j.Status = "queued"
		j.say("warn", "Files validated,\nmoving job to queued state")
	case j.looks == 2 && u.fails:
		j.Status, j.FinishedAt = "failed", &now
		j.Error = map[string]any{"code": "exceeded_quota", "param": nil, "message": "Out of quota, says " + key + "\nof " + j.ID}
		j.say("error", "The job failed")
	case j.looks <= 4:
		j.Status = "running"
		step := j.looks - 1
		j.events = append(j.events, map[string]any{
			"id": id("ft-event-"), "object": "fine_tuning.job.event", "created_at": now, "level": "info",
			"message": fmt.Sprintf("Step %d/3: training loss=0.50", step), "type": "metrics",
			"data": map[string]any{"step": step, "train_loss": 0.5, "total_steps": 3, "train_mean_token_accuracy": 0.75, "who": j.ID},
		})
		j.checkpoints = append(j.checkpoints, map[string]any{
			"id": id("ftckpt_"), "object": "fine_tuning.job.checkpoint", "created_at": now, "fine_tuning_job_id": j.ID, "step_number": step,
			"fine_tuned_model_checkpoint": "ft:gpt-up:org-ours:" + j.suffix + ":x:ckpt-step-1",
			"metrics":                     map[string]any{"step": step, "train_loss": 0.5, "full_valid_loss": 0.25},
		})
	default:
		j.finish()
		u.models = append(u.models, *j.FineTunedModel)
	}
}

func (j *upJob) finish() {
	now, tokens := time.Now().Unix(), int64(4321)
	name := "ft:gpt-up:org-ours:" + j.suffix + ":" + strings.TrimPrefix(j.ID, "ftjob-")
	j.Status, j.FinishedAt, j.TrainedTokens, j.FineTunedModel = "succeeded", &now, &tokens, &name
	j.say("info", "New fine-tuned model created: "+name)
	j.say("info", "The job has successfully completed")
}

// job is the one that is asked for, with the lock held, or nil and refused.
func (u *upstream) job(w http.ResponseWriter, r *http.Request) *upJob {
	for _, j := range u.jobs {
		if j.ID == r.PathValue("id") {
			return j
		}
	}
	refuse(w, 404, "fine_tune_not_found", "fine_tune_id", "Could not find fine tune: "+r.PathValue("id"))
	return nil
}

func (u *upstream) getJob(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if j := u.job(w, r); j != nil {
		u.step(j, u.holds || r.Header.Get(holdsHeader) != "")
		answer(w, j)
	}
}

func (u *upstream) cancel(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	defer u.mu.Unlock()
	j := u.job(w, r)
	switch {
	case j == nil:
	case j.FinishedAt != nil:
		refuse(w, 400, "", "", "Job has already completed: "+j.ID)
	default:
		now := time.Now().Unix()
		j.Status, j.FinishedAt = "cancelled", &now
		answer(w, j)
	}
}

func (u *upstream) listJobs(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	defer u.mu.Unlock()
	all, known := u.jobs, []string{"metadata"}
	for name, v := range r.URL.Query() {
		pair, ok := strings.CutPrefix(name, "metadata[")
		switch {
		case !ok || u.ignoresFilter:
		case u.refusesFilter:
			refuse(w, 422, "", "", "extra parameter")
			return
		default:
			all = slices.DeleteFunc(slices.Clone(all), func(j *upJob) bool { return j.Metadata[strings.TrimSuffix(pair, "]")] != v[0] })
		}
	}
	list(u, w, r.URL.Query(), known, all, func(j *upJob) string { return j.ID })
}

func byID(v map[string]any) string { return v["id"].(string) }

func (u *upstream) listEvents(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if j := u.job(w, r); j != nil {
		list(u, w, r.URL.Query(), nil, j.events, byID)
	}
}

func (u *upstream) listCheckpoints(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if j := u.job(w, r); j != nil {
		list(u, w, r.URL.Query(), nil, j.checkpoints, byID)
	}
}
