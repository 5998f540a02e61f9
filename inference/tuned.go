package inference

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"freehold/catalog"
	"freehold/inference/engine"
	"freehold/tenantdb"
)

// TunedPrefix begins the names of tenants' own models.
const TunedPrefix = "ft:"

// TunedSchema is the first schema of a tenant's database that has own models.
const TunedSchema = 5

const (
	// tunedTime is how long a tenant's own model is known without asking its database:
	// for so long others may answer after one node has removed it.
	tunedTime = time.Second
	// tunedKept bounds the models that are known at a time.
	tunedKept = 4096
)

// own are the tenants' own models that were asked for lately. A name alone is no
// key: the tenant's id stands before it.
type own struct {
	known *lru.Cache[string, ownModel]
}

type ownModel struct {
	row tenantdb.TunedModel
	at  time.Time
}

func newOwn() (own, error) {
	known, err := lru.New[string, ownModel](tunedKept)
	return own{known}, err
}

// hasOwn reports whether the tenant's database can have models.
func (c Call) hasOwn() bool { return c.Schema >= TunedSchema }

// tuned finds a tenant's own model: ErrModelNotFound for one that isn't there, also
// when it is another tenant's. Its kind, price and bounds are its base's. The
// tenant's allowed_models say nothing of it, the key's do.
func (s *Service) tuned(ctx context.Context, c Call, name string) (served, error) {
	if !c.hasOwn() || !strings.HasPrefix(name, TunedPrefix) {
		return served{}, ErrModelNotFound
	}
	row, err := s.ownModel(ctx, c, name)
	if errors.Is(err, tenantdb.ErrNotFound) {
		return served{}, ErrModelNotFound
	}
	if err != nil {
		return served{}, err
	}
	m, err := s.cfg.Model(ctx, row.Base)
	switch {
	case errors.Is(err, catalog.ErrNotFound):
		return served{}, ErrModelNotFound // nobody could serve it
	case err != nil:
		return served{}, err
	case !c.Limits.Allows(name):
		return served{}, ErrModelNotAllowed
	}
	return s.asTuned(c, m, row), nil
}

// asTuned is the base as the tenant's own model of it. What it is called upstream is
// in the row that a worker wrote, never in a request.
func (s *Service) asTuned(c Call, base catalog.Model, row tenantdb.TunedModel) served {
	m := served{Model: base}
	m.Name, m.Aliases, m.Fallbacks, m.CreatedAt = row.Name, nil, nil, row.CreatedAt
	if m.Upstream = base.Upstream; m.Upstream == "" {
		m.Upstream = base.Name
	}
	if row.Engine != "" {
		m.Engine = row.Engine
	}
	if row.Upstream != "" {
		m.Upstream = row.Upstream
		return m
	}
	m.artifact = &engine.Tuned{
		Key: c.Scope + "/" + row.Artifact, Name: row.Name,
		Read: func(ctx context.Context, file string) (io.ReadCloser, int64, error) {
			return s.cfg.Artifact(ctx, c.Scope, row.Artifact+file)
		},
	}
	return m
}

// ownModel reads the row, or remembers it.
func (s *Service) ownModel(ctx context.Context, c Call, name string) (tenantdb.TunedModel, error) {
	key := c.Scope + " " + name
	if known, ok := s.own.known.Get(key); ok && time.Since(known.at) < tunedTime {
		return known.row, nil
	}
	at := time.Now() // what it says was true then, at the earliest
	var row tenantdb.TunedModel
	err := c.Tenant.Borrow(ctx, tenantdb.Interactive, func(ctx context.Context, db *tenantdb.DB) (err error) {
		row, err = db.TunedModelByName(ctx, name)
		return err
	})
	if err != nil {
		s.own.known.Remove(key)
		return row, err
	}
	row.Card = nil // a trainer may have written much there, and nobody answers with it
	s.own.known.Add(key, ownModel{row, at})
	return row, nil
}

// OwnModels lists the tenant's own models, newest first, as far as the key may use
// them and their bases are there.
func (s *Service) OwnModels(ctx context.Context, c Call) ([]tenantdb.TunedModel, error) {
	list := []tenantdb.TunedModel{}
	if !c.hasOwn() {
		return list, nil
	}
	platform, err := s.cfg.Models(ctx)
	if err != nil {
		return nil, err
	}
	bases := make(map[string]bool, len(platform))
	for _, m := range platform {
		bases[m.Name] = true
	}
	err = c.Tenant.Borrow(ctx, tenantdb.Interactive, func(ctx context.Context, db *tenantdb.DB) error {
		rows, err := db.TunedModels(ctx)
		list = list[:0]
		for _, row := range rows {
			if bases[row.Base] && c.Limits.Allows(row.Name) {
				list = append(list, row)
			}
		}
		return err
	})
	return list, err
}

// ForgetModel has the tenant's own model asked for anew: it was removed.
func (s *Service) ForgetModel(c Call, name string) { s.own.known.Remove(c.Scope + " " + name) }
