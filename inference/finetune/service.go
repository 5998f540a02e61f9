package finetune

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"

	"freehold/catalog"
	"freehold/inference"
	"freehold/tenantdb"
	"freehold/tenantdb/blob"
)

// ServiceConfig of a Service. All fields are required.
type ServiceConfig struct {
	// Allowed returns a model that the caller may use, by its name or an alias, and
	// inference.ErrModelNotFound otherwise; Model the platform's as it is registered.
	Allowed func(ctx context.Context, c inference.Call, name string) (catalog.Model, error)
	Model   func(ctx context.Context, name string) (catalog.Model, error)
	// Check refuses what a kind of trainer can't do: *Refused.
	Check func(trainer string, m Method) error
	// The catalog's work queue.
	Enqueue func(ctx context.Context, spec catalog.WorkSpec) error
	Cancel  func(ctx context.Context, id string) error
	Drop    func(ctx context.Context, id string) error
	// Forget has nodes ask anew for a model that was removed.
	Forget func(c inference.Call, name string)
	Logger *slog.Logger
}

func (c ServiceConfig) validate() error {
	var errs []error
	for _, f := range []struct {
		missing bool
		name    string
	}{
		{c.Allowed == nil, "Allowed"}, {c.Model == nil, "Model"}, {c.Check == nil, "Check"},
		{c.Enqueue == nil, "Enqueue"}, {c.Cancel == nil, "Cancel"}, {c.Drop == nil, "Drop"},
		{c.Forget == nil, "Forget"}, {c.Logger == nil, "Logger"},
	} {
		if f.missing {
			errs = append(errs, errors.New("finetune: ServiceConfig."+f.name+" is required"))
		}
	}
	return errors.Join(errs...)
}

// Service takes jobs and tells of them, for all tenants. It is safe for concurrent
// use and keeps nothing. Errors of Borrow and of Config's functions come up
// unchanged.
type Service struct{ cfg ServiceConfig }

// NewService checks cfg.
func NewService(cfg ServiceConfig) (*Service, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Service{cfg}, nil
}

// Call is who asks.
type Call struct {
	inference.Call
	ID   catalog.TenantID
	Slug string
	// Again says that the client's library sends this request once more, which may
	// have been done: without an Idempotency-Key, one that the same key has asked for
	// within a minute is answered with the job that it made.
	Again bool
}

// again is how long such a request is taken for the one before.
const again = time.Minute

func (c Call) actor() tenantdb.Actor {
	return tenantdb.Actor{Actor: "key:" + c.KeyID, RequestID: c.RequestID, Audit: c.Config.AuditLogEnabled}
}

// dropTime bounds the taking back of what couldn't be begun.
const dropTime = 5 * time.Second

// Create begins a job. The same request under the same Idempotency-Key is answered
// with the job that it made. Errors: *Refused, ErrNotTunable,
// inference.ErrModelNotFound, *tenantdb.MissingFile, tenantdb.ErrMismatch,
// *catalog.TooMuchWork.
func (s *Service) Create(ctx context.Context, c Call, req Request) (tenantdb.Job, error) {
	job, err := s.job(ctx, c, req)
	if err != nil {
		return tenantdb.Job{}, err
	}
	id := job.ID.String()
	within := time.Duration(0)
	if c.Again {
		within = again
	}
	// The queue first: work without a job is dropped, a job without work would wait
	// for ever.
	err = s.cfg.Enqueue(ctx, catalog.WorkSpec{ID: id, Tenant: c.ID, Trainer: job.Trainer})
	if full, ok := errors.AsType[*catalog.TooMuchWork](err); ok && (c.IdempotencyKey != "" || c.Again) {
		return s.asked(ctx, c, job, within, full)
	}
	if err != nil {
		return tenantdb.Job{}, err
	}
	var made tenantdb.Job
	var created bool
	err = c.Tenant.Borrow(ctx, tenantdb.Interactive, func(ctx context.Context, db *tenantdb.DB) (err error) {
		made, created, err = db.CreateJob(ctx, c.actor(), job, within)
		return err
	})
	if err != nil && unsure(err) {
		return tenantdb.Job{}, err // it may be there: the worker looks
	}
	if err != nil || !created {
		s.drop(ctx, id)
	}
	return made, err
}

// asked is the job that was made for the same request before, which no full queue
// keeps from being told; else the refusal.
func (s *Service) asked(ctx context.Context, c Call, job tenantdb.Job, within time.Duration, full error) (earlier tenantdb.Job, err error) {
	err = c.Tenant.Borrow(ctx, tenantdb.Interactive, func(ctx context.Context, db *tenantdb.DB) (err error) {
		earlier, err = db.AskedJob(ctx, job, within)
		return err
	})
	if errors.Is(err, tenantdb.ErrNotFound) {
		err = full
	}
	return earlier, err
}

// unsure reports whether a write that failed may have been done.
func unsure(err error) bool {
	return errors.Is(err, tenantdb.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

func (s *Service) drop(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropTime)
	defer cancel()
	if err := s.cfg.Drop(ctx, id); err != nil {
		s.cfg.Logger.WarnContext(ctx, "work not taken back: a worker will", "job", JobPrefix+id, "error", err)
	}
}

// job is the row of a request.
func (s *Service) job(ctx context.Context, c Call, req Request) (tenantdb.Job, error) {
	if strings.HasPrefix(req.Model, inference.TunedPrefix) {
		if _, err := s.cfg.Allowed(ctx, c.Call, req.Model); err != nil {
			return tenantdb.Job{}, err
		}
		return tenantdb.Job{}, ErrNotTunable
	}
	if _, err := s.cfg.Allowed(ctx, c.Call, req.Model); err != nil {
		return tenantdb.Job{}, err
	}
	base, err := s.cfg.Model(ctx, req.Model)
	if err != nil {
		return tenantdb.Job{}, err
	}
	if base.Trainer == "" {
		return tenantdb.Job{}, ErrNotTunable
	}
	if err := s.cfg.Check(base.Trainer, req.Method); err != nil {
		return tenantdb.Job{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return tenantdb.Job{}, err
	}
	method, err := json.Marshal(req.Method)
	if err != nil {
		return tenantdb.Job{}, err
	}
	job := tenantdb.Job{
		ID: id, Base: base.Name, Trainer: base.Trainer, Model: modelName(base.Name, c.Slug, req.Suffix, id), Suffix: req.Suffix,
		Seed: seedOf(id), Method: method, Metadata: req.Metadata, TrainingFile: req.TrainingFile,
		APIKey: c.KeyID, RequestID: c.RequestID, IdempotencyKey: c.IdempotencyKey, RequestHash: c.RequestHash,
	}
	if req.Seed != nil {
		job.Seed = *req.Seed
	}
	if req.ValidationFile != uuid.Nil {
		job.ValidationFile = &req.ValidationFile
	}
	return job, nil
}

// modelName is what a job's model is called: in OpenAI's form, with nothing in it
// that another job's could share.
func modelName(base, slug, suffix string, job uuid.UUID) string {
	sum := sha256.Sum256(job[:])
	return fmt.Sprintf("%s%s:%s:%s:%s", inference.TunedPrefix, base, slug, suffix, hex.EncodeToString(sum[:4]))
}

// seedOf is the seed of a job that names none.
func seedOf(job uuid.UUID) int64 {
	sum := sha256.Sum256(append([]byte("seed "), job[:]...))
	return int64(binary.BigEndian.Uint32(sum[:]) & maxSeed)
}

// Job reads one; tenantdb.ErrNotFound.
func (s *Service) Job(ctx context.Context, c Call, id uuid.UUID) (job tenantdb.Job, err error) {
	err = c.Tenant.Borrow(ctx, tenantdb.Interactive, func(ctx context.Context, db *tenantdb.DB) (err error) {
		job, err = db.Job(ctx, id)
		return err
	})
	return job, err
}

// Jobs lists newest first.
func (s *Service) Jobs(ctx context.Context, c Call, f tenantdb.JobFilter) (list []tenantdb.Job, err error) {
	err = c.Tenant.Borrow(ctx, tenantdb.Interactive, func(ctx context.Context, db *tenantdb.DB) (err error) {
		list, err = db.Jobs(ctx, f)
		return err
	})
	return list, err
}

// Events lists a job's, newest first; tenantdb.ErrNotFound.
func (s *Service) Events(ctx context.Context, c Call, job, after uuid.UUID, limit int) (list []tenantdb.JobEvent, err error) {
	err = c.Tenant.Borrow(ctx, tenantdb.Interactive, func(ctx context.Context, db *tenantdb.DB) (err error) {
		list, err = db.JobEvents(ctx, job, after, limit)
		return err
	})
	return list, err
}

// Checkpoints lists a job's, newest first, with the job; tenantdb.ErrNotFound.
func (s *Service) Checkpoints(ctx context.Context, c Call, id, after uuid.UUID, limit int) (job tenantdb.Job, list []tenantdb.JobCheckpoint, err error) {
	err = c.Tenant.Borrow(ctx, tenantdb.Interactive, func(ctx context.Context, db *tenantdb.DB) (err error) {
		if job, err = db.Job(ctx, id); err != nil {
			return err
		}
		list, err = db.JobCheckpoints(ctx, id, after, limit)
		return err
	})
	return job, list, err
}

// Cancel ends a job that hasn't ended: when it returns, no model will come of it.
// tenantdb.ErrNotFound, tenantdb.ErrEndedJob.
func (s *Service) Cancel(ctx context.Context, c Call, id uuid.UUID) (job tenantdb.Job, err error) {
	err = c.Tenant.Borrow(ctx, tenantdb.Interactive, func(ctx context.Context, db *tenantdb.DB) (err error) {
		job, err = db.CancelJob(ctx, c.actor(), id)
		return err
	})
	if err != nil {
		return job, err
	}
	// A hint: its worker would find out by the job's row.
	if err := s.cfg.Cancel(ctx, id.String()); err != nil {
		s.cfg.Logger.WarnContext(ctx, "worker not told of a cancelled job", "job", JobPrefix+id.String(), "error", err)
	}
	return job, nil
}

// RemoveModel removes one of the tenant's own models, with its objects; nil objects
// leave those to a visit. Other nodes may answer with it for a second more. What it is
// at another server stays there. tenantdb.ErrNotFound.
func (s *Service) RemoveModel(ctx context.Context, c Call, objects *blob.Objects, name string) error {
	var row tenantdb.TunedModel
	err := c.Tenant.Borrow(ctx, tenantdb.Interactive, func(ctx context.Context, db *tenantdb.DB) (err error) {
		row, err = db.RemoveTunedModel(ctx, c.actor(), name)
		return err
	})
	if err != nil {
		return err
	}
	s.cfg.Forget(c.Call, name)
	// It is gone for everybody; what can't be removed now, a visit removes.
	if objects == nil {
		return nil
	}
	err = objects.DropPrefix(ctx, tenantdb.ModelPrefix(row.ID))
	if err == nil {
		err = c.Tenant.Borrow(ctx, tenantdb.Interactive, func(ctx context.Context, db *tenantdb.DB) error {
			return db.DropTunedModel(ctx, row.ID)
		})
	}
	if err != nil {
		s.cfg.Logger.WarnContext(ctx, "a removed model's objects are left to a visit", "tenant", c.Scope, "error", err)
	}
	return nil
}

// CheckpointName is what a job's state at a step is called.
func CheckpointName(model string, step int64) string {
	return fmt.Sprintf("%s:ckpt-step-%d", model, step)
}
