// Package schema holds River's own tables: where they are in the catalog
// database, and how they get there. It is apart from queue so that catalog, which
// queue stands on, can migrate without importing it.
package schema

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// Name of the schema that River's tables are in.
const Name = "river"

// Create makes the schema, as a role that may make schemas in the database and
// give one to freehold_catalog. River's tables belong to the role that works on
// them: it also reindexes.
const Create = `create schema if not exists river authorization freehold_catalog`

// Migrate brings the tables up to this binary's River. The pool's role is
// freehold_catalog. It is idempotent; the caller sees to it that one process
// does it at a time.
func Migrate(ctx context.Context, pool *pgxpool.Pool) error {
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{
		Schema: Name, Logger: slog.New(slog.DiscardHandler),
	})
	if err == nil {
		_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	}
	if err != nil {
		return fmt.Errorf("migrate queue's tables: %w", err)
	}
	return nil
}
