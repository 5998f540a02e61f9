package lint

import (
	"cmp"
	"fmt"
	"slices"

	"freehold/migrations"
)

// Severity says what a finding asks for.
type Severity string

// The severities.
const (
	Error   Severity = "error"   // to be changed, or allowed with a reason
	Warning Severity = "warning" // to be thought about
)

// The streams of migrations that have rules of their own.
const (
	StreamProduct  = "product"  // the operator's tables: Freehold's own are out of bounds
	StreamFreehold = "freehold" // Freehold's schema in a tenant's database
	StreamCatalog  = "catalog"  // the catalog's
)

// Options of Check.
type Options struct {
	Stream string // one of the streams above; empty is the product's
}

// Finding is one thing in one file that a rule is against.
type Finding struct {
	Rule      string   `json:"rule"`
	Severity  Severity `json:"severity"`
	File      string   `json:"file"`
	Line      int      `json:"line"`      // from 1: where the statement begins, or the part of it that is meant
	Statement string   `json:"statement"` // its beginning, without the texts in quotes; may be empty
	Why       string   `json:"why"`
	Safe      string   `json:"safe"`
}

// Check judges files, which are all those of a stream in the order of their versions,
// since what one made a later one may rely on. The findings are in the files' order.
//
// A comment silences a rule for the statement below it (or around it), and above the
// line "-- +goose Up" for the whole file:
//
//	-- freehold:allow RULE reason
//
// A file with "freehold:contracts" takes away on purpose what the previous release
// used: the rules that are against just that leave it alone.
//
// A file that can't be parsed is a finding. An error means that the parser doesn't run,
// or that the stream isn't known.
func Check(files []migrations.File, o Options) ([]Finding, error) {
	stream := cmp.Or(o.Stream, StreamProduct)
	if !slices.Contains([]string{StreamProduct, StreamFreehold, StreamCatalog}, stream) {
		return nil, fmt.Errorf("lint: no stream is called %q", o.Stream)
	}
	if len(files) == 0 {
		return nil, nil
	}
	if err := start(); err != nil {
		return nil, fmt.Errorf("lint: %w", err)
	}
	r := &run{stream: stream, world: newWorld()}
	for _, file := range files {
		if err := r.check(file); err != nil {
			return nil, fmt.Errorf("lint %s: %w", file.Name, err)
		}
	}
	return r.findings, nil
}
