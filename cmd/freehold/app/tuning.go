package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"freehold/catalog"
	"freehold/cmd/freehold/api"
	"freehold/inference"
	"freehold/inference/finetune"
	"freehold/inference/finetune/builtin"
	"freehold/inference/finetune/command"
	"freehold/inference/finetune/openai"
	"freehold/tenantdb/blob"
)

// Trainers, by their names in a model's row. A command's is behind the prefix.
const (
	trainerBuiltin = "builtin"
	trainerOpenAI  = "openai"
	trainerCommand = "command:"
)

// newTuning is the tenants' side of fine-tuning: it takes jobs and tells of them.
func newTuning(p *Platform, cache *catalog.Cache, inf *inference.Service, log *slog.Logger) (*finetune.Service, error) {
	return finetune.NewService(finetune.ServiceConfig{
		Allowed: inf.Model, Model: cache.Model, Check: checkMethod, Forget: inf.ForgetModel,
		Enqueue: p.Catalog.Enqueue, Cancel: p.Catalog.CancelWork, Drop: p.Catalog.DropWork, Logger: log,
	})
}

// tenantObjects is how the tenants' door and the pipeline come to objects.
func tenantObjects(p *Platform) api.Objects {
	return func(id catalog.TenantID) *blob.Objects { return p.Blob.Tenant(id) }
}

// artifact opens an object of a tenant's own model.
func artifact(p *Platform) func(ctx context.Context, tenant, key string) (io.ReadCloser, int64, error) {
	return func(ctx context.Context, tenant, key string) (io.ReadCloser, int64, error) {
		id, err := catalog.ParseTenantID(tenant)
		if err != nil {
			return nil, 0, err
		}
		body, o, err := p.Blob.Tenant(id).Get(ctx, key)
		return body, o.Size, err
	}
}

// checkMethod asks the kind of trainer: which commands there are, workers know.
func checkMethod(trainer string, m finetune.Method) error {
	switch {
	case trainer == trainerBuiltin:
		return builtin.Check(m)
	case trainer == trainerOpenAI:
		return openai.Check(m)
	case strings.HasPrefix(trainer, trainerCommand):
		return command.Check(m)
	}
	return finetune.ErrNotTunable
}

// trainers are those of this process.
type trainers struct {
	p         *Platform
	set       trainingSet
	dir, logs string
	log       *slog.Logger
	unread    *atomic.Bool // it was said that dir can't be read
}

func (t trainers) names() []string {
	list := []string{trainerBuiltin, trainerOpenAI}
	if t.dir == "" {
		return list
	}
	found, err := command.Names(t.dir)
	if failed := err != nil; t.unread.Swap(failed) != failed && failed { // it is read again and again
		t.log.Warn("trainers' folder can't be read", "error", err)
	}
	for _, name := range found {
		list = append(list, trainerCommand+name)
	}
	return list
}

func (t trainers) make(ctx context.Context, name string, base catalog.Model) (finetune.Trainer, error) {
	own, err := os.Executable()
	if err != nil {
		return nil, err
	}
	switch name {
	case trainerBuiltin:
		return builtin.New(builtin.Config{Path: own, Cores: t.set.cores, Eager: t.set.eager}), nil
	case trainerOpenAI:
		return t.upstream(ctx, base)
	default:
		return command.New(command.Config{
			Dir: t.dir, Name: strings.TrimPrefix(name, trainerCommand), Cores: t.set.cores, Eager: t.set.eager,
			Logs: t.logs,
		})
	}
}

// upstream is the trainer at the base's engine.
func (t trainers) upstream(ctx context.Context, base catalog.Model) (finetune.Trainer, error) {
	rows, err := t.p.Catalog.Engines(ctx)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(rows, func(e catalog.Engine) bool { return e.Name == base.Engine })
	if at < 0 || rows[at].Kind != "openai" {
		return nil, &finetune.Failure{Code: finetune.CodeModel, Message: "The base model's engine offers no fine-tuning any more."}
	}
	key := ""
	if rows[at].HasKey {
		if key, err = t.p.Catalog.EngineKey(ctx, base.Engine); err != nil {
			return nil, err
		}
	}
	return openai.New(openai.Config{
		BaseURL: rows[at].BaseURL, Key: key, Engine: base.Engine, Timeout: rows[at].Timeout, Logger: t.log.With("engine", base.Engine),
	})
}

// newTrainingWorker is the workers' side; nil for a machine that trains nothing, which
// needs no folder either. The caller calls leave when the worker has ended.
func newTrainingWorker(p *Platform, cfg Config, log *slog.Logger) (w *finetune.Worker, leave func(), err error) {
	set, err := cfg.Training.parse()
	if err != nil {
		return nil, nil, fmt.Errorf("%w:\n%w", ErrConfig, err)
	}
	if set.jobs == 0 {
		return nil, nil, nil
	}
	name, err := processName()
	if err != nil {
		return nil, nil, err
	}
	dir, leave, err := runsFolder(cfg.DataDir)
	if err != nil {
		return nil, nil, err
	}
	t := trainers{p: p, set: set, dir: cfg.Training.Dir, logs: cfg.Training.Logs, log: log, unread: new(atomic.Bool)}
	w, err = finetune.NewWorker(finetune.WorkerConfig{
		Take: p.Catalog.TakeWork, Keep: p.Catalog.KeepWork, Release: p.Catalog.ReleaseWork, End: p.Catalog.EndWork,
		InTenant: p.Fleet.InTenant, Policy: p.Catalog.TenantConfig, Model: modelOf(p), Objects: p.Blob.Tenant,
		Trainers: t.names, Trainer: t.make, Worker: name, Dir: dir, Slots: set.jobs, Logger: log,
	})
	if err != nil {
		leave()
		return nil, nil, err
	}
	return w, leave, nil
}

// modelOf looks a platform model up in the catalog itself: a worker has no cache.
func modelOf(p *Platform) func(ctx context.Context, name string) (catalog.Model, error) {
	return func(ctx context.Context, name string) (catalog.Model, error) {
		list, err := p.Catalog.Models(ctx)
		if err != nil {
			return catalog.Model{}, err
		}
		at := slices.IndexFunc(list, func(m catalog.Model) bool { return m.Name == name })
		if at < 0 {
			return catalog.Model{}, fmt.Errorf("model %s: %w", name, catalog.ErrNotFound)
		}
		return list[at], nil
	}
}
