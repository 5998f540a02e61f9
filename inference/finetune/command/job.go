package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"freehold/inference/finetune"
)

// job is FREEHOLD_JOB's content. Members that are not there are the command's to
// choose.
type job struct {
	ID       string          `json:"id"`    // ftjob-<uuid>
	Model    string          `json:"model"` // what it will be called
	Base     base            `json:"base_model"`
	Suffix   string          `json:"suffix,omitempty"`
	Seed     int64           `json:"seed"`
	Method   finetune.Method `json:"method"`
	Examples int             `json:"examples"`
	DataSum  string          `json:"data_sha256"`

	Train       string `json:"train"` // paths
	Validation  string `json:"validation,omitempty"`
	Output      string `json:"output"`
	Checkpoints string `json:"checkpoints"`
}

type base struct {
	Name     string `json:"name"`     // at this platform
	Upstream string `json:"upstream"` // at its engine
	Engine   string `json:"engine"`
}

const (
	trainFile      = "train.jsonl"
	validationFile = "validation.jsonl"
)

// prepare fills a folder with what a command is given, and returns its environment.
func prepare(dir string, run *finetune.Run) ([]string, error) {
	data, temp := filepath.Join(dir, "data"), filepath.Join(dir, "tmp")
	if err := errors.Join(os.Mkdir(data, 0o700), os.Mkdir(temp, 0o700)); err != nil {
		return nil, fmt.Errorf("make command's folders: %w", err)
	}
	j := job{
		ID: run.Job.ID, Model: run.Job.Model, Suffix: run.Job.Suffix, Seed: run.Job.Seed, Method: run.Job.Method,
		Base:     base{run.Job.Base.Name, run.Job.Base.Upstream, run.Job.Base.Engine},
		Examples: run.Examples, DataSum: run.DataSum, Output: run.Out, Checkpoints: run.Checkpoints,
		Train: filepath.Join(data, trainFile),
	}
	if j.Base.Upstream == "" {
		j.Base.Upstream = j.Base.Name
	}
	if err := lay(run.Train, j.Train); err != nil {
		return nil, err
	}
	if run.Validation != "" {
		j.Validation = filepath.Join(data, validationFile)
		if err := lay(run.Validation, j.Validation); err != nil {
			return nil, err
		}
	}
	b, err := json.MarshalIndent(j, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write job's file: %w", err)
	}
	path := filepath.Join(dir, "job.json")
	if err := os.WriteFile(path, append(b, '\n'), 0o600); err != nil {
		return nil, fmt.Errorf("write job's file: %w", err)
	}
	env := []string{
		"TMPDIR=" + temp,
		"FREEHOLD_JOB=" + path,
		"FREEHOLD_JOB_ID=" + j.ID,
		"FREEHOLD_DATA=" + data,
		"FREEHOLD_OUTPUT=" + run.Out,
		"FREEHOLD_CHECKPOINTS=" + run.Checkpoints,
		"FREEHOLD_BASE_MODEL=" + j.Base.Upstream,
		"FREEHOLD_MODEL=" + j.Model,
		"FREEHOLD_SEED=" + strconv.FormatInt(j.Seed, 10),
	}
	if j.Method.Epochs > 0 {
		env = append(env, "FREEHOLD_EPOCHS="+strconv.Itoa(j.Method.Epochs))
	}
	if j.Method.BatchSize > 0 {
		env = append(env, "FREEHOLD_BATCH_SIZE="+strconv.Itoa(j.Method.BatchSize))
	}
	if j.Method.LearningRateMultiplier > 0 {
		env = append(env, "FREEHOLD_LEARNING_RATE_MULTIPLIER="+strconv.FormatFloat(j.Method.LearningRateMultiplier, 'f', -1, 64))
	}
	return env, nil
}

// lay has a file in the command's folder, too: as another name of it where the file
// system can, so that a container that is given the folder finds it there.
func lay(from, to string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	abs, err := filepath.Abs(from)
	if err == nil {
		err = os.Symlink(abs, to)
	}
	if err != nil {
		return fmt.Errorf("lay out data: %w", err)
	}
	return nil
}
