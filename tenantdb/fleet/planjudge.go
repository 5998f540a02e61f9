package fleet

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"freehold/catalog"
	"freehold/migrations"
)

// Refused is why a rollout may not begin. It is an ErrConflict, and is each of its
// causes: *catalog.OpenRollout, *catalog.EditedFile, *TooEarly, *NoRoom, *Misnumbered.
type Refused struct {
	Problems []string
	causes   []error
}

func (e *Refused) Error() string { return strings.Join(e.Problems, "; ") }

func (e *Refused) Unwrap() []error { return e.causes }

// Is reports whether target is catalog.ErrConflict.
func (e *Refused) Is(target error) bool { return target == catalog.ErrConflict }

// TooEarly is a migration that takes away what somebody still uses: nodes of an older
// release, or tenants that don't have yet what replaces it.
type TooEarly struct {
	Stream  catalog.Stream
	File    string
	Needs   int64    // the version at which all must be, at least
	Nodes   []string // that are of a release before it
	Tenants []string // slugs, below it
	First   int64    // the target of the rollout that is to be done before; 0: there is none
}

func (e *TooEarly) Error() string {
	var behind []string
	if len(e.Nodes) > 0 {
		behind = append(behind, fmt.Sprintf("nodes of an older release: %s", some(e.Nodes)))
	}
	if len(e.Tenants) > 0 {
		behind = append(behind, fmt.Sprintf("tenants below it: %s", some(e.Tenants)))
	}
	text := fmt.Sprintf("%s takes away what the release before version %d uses, and not all are there: %s",
		e.File, e.Needs, strings.Join(behind, "; "))
	if e.First > 0 {
		text += fmt.Sprintf(": begin with --to %d", e.First)
	}
	return text
}

// Is reports whether target is catalog.ErrConflict.
func (e *TooEarly) Is(target error) bool { return target == catalog.ErrConflict }

// NoRoom is a server whose reserve of connections is too small for the parallelism
// that was asked for.
type NoRoom struct {
	Server            string
	Parallel, Reserve int
}

func (e *NoRoom) Error() string {
	return fmt.Sprintf("server %s has a reserve of %d connections, %d in parallel want %d: --parallel %d, or a greater --reserve",
		e.Server, e.Reserve, e.Parallel, e.Parallel+beside, max(1, e.Reserve-beside))
}

// Is reports whether target is catalog.ErrConflict.
func (e *NoRoom) Is(target error) bool { return target == catalog.ErrConflict }

// Misnumbered is a migration that came, or went, below versions that databases have.
type Misnumbered struct {
	Version int64
	Name    string
	Gone    bool // it was rolled out, and isn't there any more
}

func (e *Misnumbered) Error() string {
	if e.Gone {
		return fmt.Sprintf("%s was rolled out, and is missing: databases have it, and new ones want it", e.Name)
	}
	return fmt.Sprintf("%s is new, and databases are beyond its number: give it one after the last", e.Name)
}

// Is reports whether target is catalog.ErrConflict.
func (e *Misnumbered) Is(target error) bool { return target == catalog.ErrConflict }

// judge finds what forbids the rollout.
func (p *Plan) judge(ctx context.Context, f *Fleet, files []migrations.File, tenants []catalog.Tenant) error {
	open, err := f.cat.OpenRollouts(ctx)
	if err != nil {
		return err
	}
	for _, r := range open {
		if r.Stream == p.Stream {
			p.problem(&catalog.OpenRollout{Rollout: r})
		}
	}
	kept, err := f.cat.MigrationFiles(ctx, p.Stream)
	if err != nil {
		return err
	}
	p.compare(files, kept, tenants)
	return p.contractions(ctx, f, tenants)
}

// compare holds the files against those that were rolled out.
func (p *Plan) compare(files []migrations.File, kept []catalog.MigrationFile, tenants []catalog.Tenant) {
	highest := int64(0) // that any database has
	for _, t := range tenants {
		highest = max(highest, versionOf(p.Stream, catalog.Versions{Freehold: t.SchemaVersion, Product: t.ProductVersion}))
	}
	known, last := map[int64]bool{}, int64(0)
	for _, k := range kept {
		known[k.Version] = true
		if k.Version > highest {
			continue // nobody has it: it may be changed
		}
		last = max(last, k.Version)
		i := slices.IndexFunc(files, func(file migrations.File) bool { return file.Version == k.Version })
		switch {
		case i < 0 && k.Version <= p.Latest:
			p.problem(&Misnumbered{Version: k.Version, Name: k.Name, Gone: true})
		case i >= 0 && string(k.Sum) != string(files[i].Sum[:]):
			p.problem(&catalog.EditedFile{Stream: p.Stream, Version: k.Version, Name: k.Name})
		}
	}
	for _, file := range files {
		if file.Version < last && !known[file.Version] {
			p.problem(&Misnumbered{Version: file.Version, Name: file.Name})
		}
	}
}

// contractions refuses what would take away from somebody what it uses. Binaries
// use Freehold's tables alone, so that only tenants count for the product's.
func (p *Plan) contractions(ctx context.Context, f *Fleet, tenants []catalog.Tenant) error {
	var nodes []catalog.Node
	asked := false
	for _, file := range p.Files {
		if file.Contracts == 0 {
			continue
		}
		early := &TooEarly{Stream: p.Stream, File: file.Name, Needs: file.Contracts}
		if p.Stream == catalog.StreamFreehold {
			if !asked {
				var err error
				if nodes, err = f.liveNodes(ctx); err != nil {
					return err
				}
				asked = true
			}
			for _, n := range nodes {
				if n.SchemaMax < file.Contracts { // one that doesn't say is of a release before that
					early.Nodes = append(early.Nodes, cmp.Or(n.Name, n.ID))
				}
			}
		}
		for _, t := range tenants {
			has := versionOf(p.Stream, catalog.Versions{Freehold: t.SchemaVersion, Product: t.ProductVersion})
			if (t.State == catalog.Active || t.State == catalog.Moving) && has < file.Contracts {
				early.Tenants = append(early.Tenants, t.Slug)
			}
		}
		if len(early.Tenants) > 0 && file.Contracts < file.Version {
			early.First = file.Contracts
		}
		if len(early.Nodes) > 0 || len(early.Tenants) > 0 {
			p.problem(early)
		}
	}
	return nil
}

// liveNodes are the processes that work on tenants' databases, or may: those that
// gave a sign of life.
func (f *Fleet) liveNodes(ctx context.Context) ([]catalog.Node, error) {
	return f.cat.LiveRanges(ctx, f.dead)
}
