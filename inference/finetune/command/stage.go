package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"time"

	"freehold/inference/finetune"
	"freehold/tenantdb/blob"
)

const (
	outputFile = "output.tar"
	// urlsLive is how long a command's addresses are good; S3 allows no more.
	urlsLive = 7 * 24 * time.Hour
)

// stage puts the data where other machines can get it, and returns the addresses as
// environment. Doing it again replaces what is there; the tar that an earlier try may
// have been waiting for stays.
func stage(ctx context.Context, run *finetune.Run) ([]string, error) {
	if run.Objects == nil || run.Staging == "" {
		return nil, nil
	}
	put, err := run.Objects.PresignPut(ctx, path.Join(run.Staging, outputFile), urlsLive)
	if err != nil {
		return nil, fmt.Errorf("stage output: %w", err)
	}
	env := []string{"FREEHOLD_OUTPUT_URL=" + put}
	for _, f := range []struct{ path, name, env string }{
		{run.Train, trainFile, "FREEHOLD_TRAIN_URL"}, {run.Validation, validationFile, "FREEHOLD_VALIDATION_URL"},
	} {
		if f.path == "" {
			continue
		}
		key := path.Join(run.Staging, f.name)
		if err := putFile(ctx, run.Objects, key, f.path); err != nil {
			return nil, fmt.Errorf("stage data: %w: %w", finetune.ErrStore, err)
		}
		url, err := run.Objects.PresignGet(ctx, key, urlsLive)
		if err != nil {
			return nil, fmt.Errorf("stage data: %w", err)
		}
		env = append(env, f.env+"="+url)
	}
	return env, nil
}

func putFile(ctx context.Context, objects *blob.Objects, key, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return objects.Put(ctx, key, f)
}

// fetch unpacks the tar that the command put, unless it left its files here.
func (t *Trainer) fetch(ctx context.Context, run *finetune.Run) error {
	empty, err := emptyDir(run.Out)
	if err != nil || !empty || run.Objects == nil || run.Staging == "" {
		return err
	}
	body, _, err := run.Objects.Get(ctx, path.Join(run.Staging, outputFile))
	if errors.Is(err, blob.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("fetch output: %w: %w", finetune.ErrStore, err)
	}
	defer func() { _ = body.Close() }()
	return unpack(body, run.Out, t.cfg.MostBytes)
}
