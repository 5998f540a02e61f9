package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"freehold/migrations"
)

const (
	adminRole     = "freehold_admin_test"
	adminPassword = "admin-password" // the file beside the cluster
)

// template is a migrated database that others are cloned from.
type template struct {
	name  string
	build func(context.Context) error // nil: it is given when the template is asked for
	there bool                        // the server began with it
	once  sync.Once
	err   error
}

// ensure builds the template at the first call. The context is its own: what
// is built serves other tests than the one that comes first.
func (t *template) ensure(build func(context.Context) error) error {
	t.once.Do(func() {
		if t.there {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), setupTime)
		defer cancel()
		if t.err = build(ctx); t.err != nil {
			t.err = fmt.Errorf("build %s: %w", t.name, t.err)
		}
	})
	return t.err
}

// prepare makes the admin with exactly what production's has, and does what a
// superuser does there once for each server. A copy of a cluster where that is done
// has the admin's password beside it, and the templates in it.
func (s *server) prepare(ctx context.Context) error {
	var err error
	if s.super, err = openPool(ctx, s.pg.URL("postgres")); err != nil {
		return fmt.Errorf("connect as superuser: %w", err)
	}
	file := filepath.Join(s.folder, adminPassword)
	content, err := os.ReadFile(file)
	if err == nil {
		s.catalog.there, s.tenant.there = true, true
		s.admin, err = openPool(ctx, s.as(url.UserPassword(adminRole, string(content)), "postgres"))
		return err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read admin's password: %w", err)
	}
	password := rand.Text()
	secret, err := verifier(password)
	if err != nil {
		return err
	}
	own, err := verifier(s.super.Config().ConnConfig.Password)
	if err != nil {
		return err
	}
	for _, statement := range []string{
		"alter role " + pgx.Identifier{s.super.Config().ConnConfig.User}.Sanitize() + " password '" + own + "'",
		"create role " + adminRole + " login createdb createrole password '" + secret + "'",
		"revoke connect on database postgres, template1 from public",
		"grant connect on database postgres to " + adminRole,
	} {
		if _, err := s.super.Exec(ctx, statement); err != nil {
			return fmt.Errorf("prepare server: %w", err)
		}
	}
	if s.admin, err = openPool(ctx, s.as(url.UserPassword(adminRole, password), "postgres")); err != nil {
		return fmt.Errorf("connect as admin: %w", err)
	}
	conn, err := s.admin.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect as admin: %w", err)
	}
	defer conn.Release()
	if err := migrations.EnsureCatalogRoles(ctx, conn.Conn()); err != nil {
		return err
	}
	if err := migrations.EnsureServerRoles(ctx, conn.Conn()); err != nil {
		return err
	}
	return os.WriteFile(file, []byte(password), 0o600)
}

func openPool(ctx context.Context, address string) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(address)
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = 8
	return pgxpool.NewWithConfig(ctx, cfg)
}

// as is the URL of a database for another user.
func (s *server) as(user *url.Userinfo, database string) string {
	u, err := url.Parse(s.pg.URL(database))
	if err != nil {
		panic(err) // localpg's own
	}
	u.User = user
	return u.String()
}

// adminURL is the URL of a database for the admin.
func (s *server) adminURL(database string) string {
	cfg := s.admin.Config().ConnConfig
	return s.as(url.UserPassword(cfg.User, cfg.Password), database)
}

// ownerURL is the same, with the rights of the objects' owner.
func (s *server) ownerURL(database string) string {
	return s.adminURL(database) + "&role=" + migrations.RoleOwner
}

func (s *server) buildCatalog(ctx context.Context) error {
	name := pgx.Identifier{s.catalog.name}.Sanitize()
	if err := s.createClosed(ctx, name, "create database "+name); err != nil {
		return err
	}
	return s.seal(ctx, &s.catalog, s.adminURL(s.catalog.name), migrations.Catalog())
}

func (s *server) buildFrom(ctx context.Context, build func(ctx context.Context, url string) error) error {
	if err := s.catalog.ensure(s.catalog.build); err != nil {
		return err
	}
	name := pgx.Identifier{s.built.name}.Sanitize()
	if err := s.createClosed(ctx, name, "create database "+name+" template "+s.catalog.name); err != nil {
		return err
	}
	return errors.Join(build(ctx, s.adminURL(s.built.name)), s.shut(ctx, &s.built))
}

func (s *server) buildTenant(ctx context.Context) error {
	name := pgx.Identifier{s.tenant.name}.Sanitize()
	if err := s.createClosed(ctx, name, "create database "+name+" owner "+migrations.RoleOwner); err != nil {
		return err
	}
	return s.seal(ctx, &s.tenant, s.ownerURL(s.tenant.name), migrations.Tenant())
}

// createClosed makes a database that no stranger can connect to: tests beside this
// one look for databases that are open to everybody.
func (s *server) createClosed(ctx context.Context, name, statement string) error {
	if _, err := s.admin.Exec(ctx, statement); err != nil {
		return err
	}
	_, err := s.admin.Exec(ctx, "revoke all on database "+name+" from public")
	return err
}

// seal migrates a template and closes it.
func (s *server) seal(ctx context.Context, t *template, address string, set migrations.Set) error {
	cfg, err := pgx.ParseConfig(address)
	if err != nil {
		return err
	}
	if _, err := migrations.Apply(ctx, cfg, set); err != nil {
		return err
	}
	return s.shut(ctx, t)
}

// shut closes a template: a session in it would stop clones.
func (s *server) shut(ctx context.Context, t *template) error {
	name := pgx.Identifier{t.name}.Sanitize()
	_, err := s.admin.Exec(ctx, "alter database "+name+" with is_template true allow_connections false")
	return err
}
