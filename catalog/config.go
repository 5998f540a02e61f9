package catalog

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
)

// Config of a Catalog. URL and Keyset are required; zero means the default
// named beside a field.
type Config struct {
	URL    string  // the admin's; freehold_api and freehold_catalog are taken on by role=
	Keyset *Keyset // master key
	Logger *slog.Logger

	WriterConns int // connections of our own writers and caches; 4
	ReaderConns int // connections of tenant-facing reads, under row-level security; 4
	QueueConns  int // connections of catalog/queue, opened when it asks; 12
}

func (cfg Config) withDefaults() Config {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.WriterConns = orDefault(cfg.WriterConns, 4)
	cfg.ReaderConns = orDefault(cfg.ReaderConns, 4)
	cfg.QueueConns = orDefault(cfg.QueueConns, 12)
	return cfg
}

// validate names every mistake at once, and never the URL, which holds a
// password.
func (cfg Config) validate() error {
	var errs []error
	if _, err := pgx.ParseConfig(cfg.URL); cfg.URL == "" || err != nil {
		errs = append(errs, errors.New("URL: not a Postgres URL"))
	}
	if cfg.Keyset == nil {
		errs = append(errs, errors.New("Keyset: missing"))
	}
	for _, conns := range []struct {
		name string
		n    int
	}{{"WriterConns", cfg.WriterConns}, {"ReaderConns", cfg.ReaderConns}, {"QueueConns", cfg.QueueConns}} {
		if conns.n < 1 || conns.n > 1000 {
			errs = append(errs, fmt.Errorf("%s: %d is not within 1 and 1000", conns.name, conns.n))
		}
	}
	return invalid(errs...)
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
