package files

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"

	"freehold/tenantdb"
	"freehold/tenantdb/blob"
)

const (
	// MaxBytes is how long a file may be.
	MaxBytes = 512 << 20
	// UploadTime bounds an upload: a sweep takes what began an hour ago for dead.
	UploadTime = 45 * time.Minute

	// sweepAfter is when a visit finds what an upload or a deletion has left.
	sweepAfter = 65 * time.Minute
	// cleanTime bounds what is done for a caller who may be gone.
	cleanTime = 10 * time.Second
	// Each upload holds parts of its file in memory, about 30 MB.
	uploads, uploadsOfTenant = 16, 4
)

// Config of a Service. Logger is required.
type Config struct {
	Logger *slog.Logger
	// MaxBytes is how long a file may be; MaxBytes when 0.
	MaxBytes int64
}

// Who asks, and what they hold of their tenant: identity is an argument.
type Who struct {
	// Scope tells tenants apart, in this process alone.
	Scope string
	// Lend lends the tenant's database.
	Lend func(ctx context.Context, fn func(ctx context.Context, db *tenantdb.DB) error) error
	// Tidy lends it too, to remove what is left of a file: also when whoever asks may
	// not ask any more.
	Tidy func(ctx context.Context, fn func(ctx context.Context, db *tenantdb.DB) error) error
	// Objects is the tenant's prefix; nil: there is no object store.
	Objects *blob.Objects
	// Due has a worker visit the tenant in that time, or sooner.
	Due func(ctx context.Context, in time.Duration) error
	// Again decides anew who asks, after tenantdb.ErrFenced: an upload whose body has
	// been read can't be sent again by anybody here. Its error is what ends the trying:
	// it refuses when that was decided often enough.
	Again func(ctx context.Context) (Who, error)

	Actor  tenantdb.Actor
	APIKey string // id
	Limit  int64  // bytes of all files together
}

// Service keeps files. It is safe for concurrent use.
type Service struct {
	log *slog.Logger
	max int64

	mu      sync.Mutex     // guards what follows
	all     int            // uploads at work
	ofScope map[string]int // and of each tenant
}

// New makes a service.
func New(cfg Config) (*Service, error) {
	if cfg.Logger == nil || cfg.MaxBytes < 0 {
		return nil, errors.New("configure files: Config needs a Logger, and MaxBytes of 0 or more")
	}
	return &Service{log: cfg.Logger, max: cmp.Or(cfg.MaxBytes, MaxBytes), ofScope: map[string]int{}}, nil
}

// enter counts an upload in, or refuses with ErrBusy.
func (s *Service) enter(scope string) (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all >= uploads || s.ofScope[scope] >= uploadsOfTenant {
		return nil, ErrBusy
	}
	s.all++
	s.ofScope[scope]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all--
		if s.ofScope[scope]--; s.ofScope[scope] == 0 {
			delete(s.ofScope, scope)
		}
	}, nil
}

// key is where a file's bytes are, under the tenant's prefix.
func key(id uuid.UUID) string { return "files/" + id.String() }

// again has fn run with the tenant's database, and anew as who asks is by now for as
// long as they were decided on too early.
func (who *Who) again(ctx context.Context, fn func(ctx context.Context, db *tenantdb.DB, who Who) error) error {
	for {
		err := who.Lend(ctx, func(ctx context.Context, db *tenantdb.DB) error { return fn(ctx, db, *who) })
		if !errors.Is(err, tenantdb.ErrFenced) {
			return err
		}
		now, err := who.Again(ctx)
		if err != nil {
			return err
		}
		*who = now
	}
}

// List reads up to want.Limit files, and whether there are more.
func (s *Service) List(ctx context.Context, who Who, want tenantdb.FileFilter) (list []tenantdb.File, more bool, err error) {
	limit := want.Limit
	want.Limit++
	err = who.Lend(ctx, func(ctx context.Context, db *tenantdb.DB) (err error) {
		list, err = db.Files(ctx, want)
		return err
	})
	if len(list) > limit {
		list, more = list[:limit], true
	}
	return list, more, err
}

// Get reads a file's row. tenantdb.ErrNotFound.
func (s *Service) Get(ctx context.Context, who Who, id uuid.UUID) (file tenantdb.File, err error) {
	err = who.Lend(ctx, func(ctx context.Context, db *tenantdb.DB) (err error) {
		file, err = db.FileByID(ctx, id)
		return err
	})
	return file, err
}

// Content reads a file's row, and returns what opens its bytes, from up to, not
// including, to. The caller closes what that returns. tenantdb.ErrNotFound, ErrStore.
func (s *Service) Content(ctx context.Context, who Who, id uuid.UUID) (tenantdb.File, func(ctx context.Context, from, to int64) (io.ReadCloser, error), error) {
	if who.Objects == nil {
		return tenantdb.File{}, nil, ErrStore
	}
	file, err := s.Get(ctx, who, id)
	return file, func(ctx context.Context, from, to int64) (io.ReadCloser, error) {
		if from >= to { // an empty file has no range
			return http.NoBody, nil
		}
		body, _, err := who.Objects.GetRange(ctx, key(id), from, to-1)
		switch {
		case errors.Is(err, blob.ErrNotFound): // deleted since its row was read
			return nil, tenantdb.ErrNotFound
		case err != nil:
			return nil, fmt.Errorf("%w: %w", ErrStore, err)
		}
		return body, nil
	}, err
}

// Delete removes a file: it can't be seen from then on, and what isn't removed at once
// a worker removes. tenantdb.ErrNotFound, tenantdb.ErrInUse, ErrStore.
func (s *Service) Delete(ctx context.Context, who Who, id uuid.UUID) error {
	if who.Objects == nil {
		return ErrStore
	}
	// One that isn't there needs no visit.
	if _, err := s.Get(ctx, who, id); err != nil {
		return err
	}
	if err := who.Due(ctx, sweepAfter); err != nil {
		return err
	}
	err := who.Lend(ctx, func(ctx context.Context, db *tenantdb.DB) error { return db.RemoveFile(ctx, who.Actor, id) })
	if err == nil {
		s.clear(ctx, who, id)
	}
	return err
}

// clear removes what is stored of an id that is no file, or not any more, and then its
// row. Its caller may be gone.
func (s *Service) clear(ctx context.Context, who Who, id uuid.UUID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
	defer cancel()
	err := who.Objects.AbortUploads(ctx, key(id))
	if err == nil {
		err = who.Objects.Delete(ctx, key(id))
	}
	if err == nil {
		err = who.Tidy(ctx, func(ctx context.Context, db *tenantdb.DB) error { return db.DropFile(ctx, id) })
	}
	if err != nil {
		s.log.WarnContext(ctx, "what is left of a file is removed by a visit", "tenant", who.Scope, "request_id", who.Actor.RequestID, "error", err)
	}
}
