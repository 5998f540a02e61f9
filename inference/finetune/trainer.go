package finetune

import (
	"context"
	"encoding/json"
	"errors"

	"freehold/catalog"
	"freehold/tenantdb/blob"
)

// Trainer makes a model of a job's data. Implementations are safe for concurrent
// use; finetune/trainertest holds what is asked of each.
type Trainer interface {
	// Check refuses what this trainer can't do with a method, before the job is
	// there and without I/O: *Refused.
	Check(m Method) error
	// Train works until the model is made, ctx ends, or it fails: with *Failure
	// when trying again would end the same. Any other error has it called again
	// later, in another process perhaps, with what Run.Saved has kept; it must not
	// leave a second model or a process behind. When ctx ends it stops what it began
	// elsewhere only if context.Cause(ctx) is ErrCancelled; one that has ended so before
	// Train is called has what an earlier try left elsewhere taken away, and run has no
	// data then.
	Train(ctx context.Context, run *Run) (Result, error)
}

// Method is how a job is to be done, as OpenAI has it. Zero fields are the
// trainer's to choose ("auto").
type Method struct {
	Type string `json:"type"` // supervised

	Epochs                 int     `json:"n_epochs,omitempty"`                 // 1–50
	BatchSize              int     `json:"batch_size,omitempty"`               // 1–256
	LearningRateMultiplier float64 `json:"learning_rate_multiplier,omitempty"` // above 0
}

// Job is what a trainer may know of one.
type Job struct {
	ID     string // ftjob-<uuid>
	Model  string // what the model will be called: ft:<base>:<slug>:<suffix>:<id>
	Base   catalog.Model
	Suffix string
	Seed   int64
	Method Method
}

// Run is one try at a job: its data, and whom to tell. Folders are the run's own
// and go with it.
type Run struct {
	Job Job

	// Train and Validation are files of chat examples, one JSON object a line, with
	// personal data hidden; Validation is empty when there is none. Examples counts
	// Train's.
	Train, Validation string
	Examples          int
	DataSum           string // sha-256 of both, in hex: what was saved of other data is of no use

	Out string // folder for what is to be kept of the model; empty at first
	// Checkpoints is a folder with what earlier tries have saved. Saved keeps a file
	// of it, by its name there, for the next one.
	Checkpoints string
	Saved       func(ctx context.Context, name string) error

	// Report tells the tenant. An error means that the job isn't this worker's any
	// more, or was cancelled: stop.
	Report func(ctx context.Context, e Event) error

	// Upstream is the job's id at another server, once SetUpstream has noted it.
	Upstream    string
	SetUpstream func(ctx context.Context, id string) error

	// Objects are the tenant's, and Staging is a prefix there that is this run's, for
	// trainers on other machines; it is emptied when the job has ended.
	Objects *blob.Objects
	Staging string

	Slot int // of the worker's, from 0: runs of different ones go on side by side
}

// Result is a model that was made. What lies in Run.Out is its artifact.
type Result struct {
	// Engine and Upstream say who serves the model and by what name. Empty: the
	// base's engine, by the artifact.
	Engine, Upstream string
	TrainedTokens    int64
	// Card is what the trainer says of the model: hyperparameters, metrics, version.
	Card map[string]any
	// Evaluation, when there is one, becomes the job's result file.
	Evaluation json.RawMessage
}

// Event is a line of a job's diary. A checkpoint is one with Step and Metrics that
// a model could be made of.
type Event struct {
	Level      string // info (default), warn or error
	Message    string // without what is in the data
	Step       int64
	Metrics    map[string]float64 // nil: a message alone; names as OpenAI's: train_loss, valid_loss …
	Checkpoint bool
	Data       map[string]any // of a message
}

// Failure is how a job fails for good: its code, and for the tenant why.
type Failure struct{ Code, Message, Param string }

func (f *Failure) Error() string { return "job failed: " + f.Code }

// Codes of failures.
const (
	CodeInvalidTraining   = "invalid_training_file"
	CodeInvalidValidation = "invalid_validation_file"
	CodeTrainer           = "trainer_error"
	CodeModel             = "model_not_found"
	CodeInternal          = "internal_error"
)

// Refused is a request that can't be met; Param names the member at fault.
type Refused struct{ Param, Message string }

func (r *Refused) Error() string {
	if r.Param == "" {
		return r.Message
	}
	return r.Param + " " + r.Message
}

// Errors of this package.
var (
	// ErrCancelled is the cause of a run's context when the tenant has cancelled it.
	ErrCancelled = errors.New("the job was cancelled")
	// ErrLost is the cause when another worker has the job.
	ErrLost = errors.New("the job is another worker's by now")
	// ErrStore is wrapped by errors of the object store. They pass: no try is counted.
	ErrStore = errors.New("object store")
	// ErrNotTunable is returned for a model that isn't fine-tuned here.
	ErrNotTunable = errors.New("this model can't be fine-tuned")
)
