package fleet

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"freehold/catalog"
	"freehold/migrations"
)

// DriftOptions narrow Drift, and say what it does about what it finds.
type DriftOptions struct {
	Tenants  []string        // slugs; empty: all active ones
	Set      *migrations.Set // the product's, as an operator's folder has it, to be compared with what was rolled out; nil: not looked at
	Rebuild  bool            // indexes that aren't valid
	Parallel int             // databases at once, on each server; 0: 4

	Progress func(done, total int) // may be nil; called by Drift's own goroutine
}

// DriftReport is in what databases aren't as their migrations make them.
type DriftReport struct {
	Compared int `json:"compared"` // tenants
	Same     int `json:"same"`     // whose schema is as it should be, all indexes valid

	Groups  []DriftGroup   `json:"groups"`  // of tenants with the same differences, the largest first
	Invalid []DriftInvalid `json:"invalid"` // indexes; by tenant
	Rebuilt []RebuiltIndex `json:"rebuilt"` // by tenant
	Unseen  []DriftUnseen  `json:"unseen"`  // by tenant
	Edited  []DriftEdited  `json:"edited"`  // migrations
}

// DriftGroup is tenants whose schemas differ in the same way.
type DriftGroup struct {
	Versions    catalog.Versions     `json:"versions"`
	Differences []catalog.Difference `json:"differences"`
	Tenants     []string             `json:"tenants"` // slugs
}

// DriftInvalid is a tenant's indexes that aren't valid.
type DriftInvalid struct {
	Tenant  string   `json:"tenant"`
	Indexes []string `json:"indexes"`
}

// DriftUnseen is a tenant that couldn't be compared.
type DriftUnseen struct {
	Tenant string `json:"tenant"`
	Reason string `json:"reason"` // for people; no secrets, no rows
}

// DriftEdited is a migration that isn't what databases have.
type DriftEdited struct {
	Stream  catalog.Stream `json:"stream"`
	Version int64          `json:"version"`
	Name    string         `json:"name"` // as it was rolled out
}

// clean reports whether there is nothing that a person has to see to.
func (r *DriftReport) clean() bool {
	rebuilt := !slices.ContainsFunc(r.Rebuilt, func(i RebuiltIndex) bool { return i.Done == "" })
	return len(r.Groups)+len(r.Invalid)+len(r.Unseen)+len(r.Edited) == 0 && rebuilt
}

// Drift compares the schemas of tenants' databases with those that their migrations
// make from zero on the same server, and keeps in the catalog what it found. It changes
// nothing, but for indexes that are to be rebuilt. Suspended tenants are compared when
// they are named.
//
// ErrPartial when there is something to report; other errors are the catalog's, ctx's,
// and of names: catalog.ErrNotFound, catalog.ErrConflict for a tenant in no state to be
// compared.
func (f *Fleet) Drift(ctx context.Context, o DriftOptions) (DriftReport, error) {
	tenants, err := f.comparable(ctx, o.Tenants)
	if err != nil {
		return DriftReport{}, fmt.Errorf("drift: %w", err)
	}
	report := DriftReport{Groups: []DriftGroup{}, Invalid: []DriftInvalid{}, Rebuilt: []RebuiltIndex{}, Unseen: []DriftUnseen{}}
	if report.Edited, err = f.edited(ctx, o.Set); err != nil {
		return report, fmt.Errorf("drift: %w", err)
	}
	c := &comparison{Fleet: f, parallel: o.Parallel, rebuilds: o.Rebuild, tidies: true}
	done := 0
	progress := o.Progress
	if progress == nil {
		progress = func(int, int) {}
	}
	progress(0, len(tenants))
	err = c.run(ctx, tenants, func(found compared) {
		report.add(found)
		done++
		progress(done, len(tenants))
	})
	report.sort()
	if err == nil && !report.clean() {
		err = fmt.Errorf("schemas are not as they should be: %w", ErrPartial)
	}
	if err != nil {
		return report, fmt.Errorf("drift: %w", err)
	}
	return report, nil
}

// comparable are the tenants to look at.
func (f *Fleet) comparable(ctx context.Context, slugs []string) ([]catalog.Tenant, error) {
	if len(slugs) == 0 {
		return f.tenants(ctx, func(t catalog.Tenant) bool { return t.State == catalog.Active })
	}
	var list []catalog.Tenant
	for _, slug := range slugs {
		t, err := f.cat.TenantBySlug(ctx, slug)
		if err == nil && t.State != catalog.Active && t.State != catalog.Suspended {
			err = fmt.Errorf("it is %s: %w", t.State, catalog.ErrConflict)
		}
		if err != nil {
			return nil, fmt.Errorf("tenant %s: %w", slug, err)
		}
		if !slices.ContainsFunc(list, func(other catalog.Tenant) bool { return other.ID == t.ID }) {
			list = append(list, t)
		}
	}
	return list, nil
}

// edited are the migrations of this binary, and of an operator's folder, that differ
// from those that were rolled out.
func (f *Fleet) edited(ctx context.Context, product *migrations.Set) ([]DriftEdited, error) {
	list := []DriftEdited{}
	for _, s := range []struct {
		stream catalog.Stream
		set    *migrations.Set
	}{{catalog.StreamFreehold, &f.set}, {catalog.StreamProduct, product}} {
		if s.set == nil {
			continue
		}
		kept, err := f.cat.MigrationFiles(ctx, s.stream)
		if err != nil {
			return list, err
		}
		files, err := s.set.Files()
		if err != nil {
			return list, err
		}
		for _, file := range files {
			if slices.ContainsFunc(kept, func(k catalog.MigrationFile) bool {
				return k.Version == file.Version && !bytes.Equal(k.Sum, file.Sum[:])
			}) {
				list = append(list, DriftEdited{s.stream, file.Version, file.Name})
			}
		}
	}
	return list, nil
}

// CheckTargets compares the schemas of these tenants' databases with what their
// migrations make, and keeps what it found in the catalog: status tells it from there.
// What differs, and what couldn't be looked at, is logged; the error is the catalog's,
// or ctx's. Tenants that are gone by now, or suspended, are left out.
func (f *Fleet) CheckTargets(ctx context.Context, ids []catalog.TenantID, parallel int) error {
	asked := make(map[catalog.TenantID]bool, len(ids))
	for _, id := range ids {
		asked[id] = true
	}
	tenants, err := f.tenants(ctx, func(t catalog.Tenant) bool { return t.State == catalog.Active && asked[t.ID] })
	if err != nil {
		return fmt.Errorf("compare schemas: %w", err)
	}
	c := &comparison{Fleet: f, parallel: parallel}
	err = c.run(ctx, tenants, func(found compared) {
		t := found.tenant
		switch {
		case found.unseen != "":
			f.log.WarnContext(ctx, "schema not compared", "tenant", t.ID.String(), "slug", t.Slug, "reason", found.unseen)
		case len(found.schema.Differences)+len(found.schema.InvalidIndexes) > 0:
			f.log.WarnContext(ctx, "schema differs from what its migrations make", "tenant", t.ID.String(), "slug", t.Slug,
				"differences", len(found.schema.Differences), "invalid_indexes", len(found.schema.InvalidIndexes))
		}
	})
	if err != nil {
		return fmt.Errorf("compare schemas: %w", err)
	}
	return nil
}

// add takes what was found of one tenant.
func (r *DriftReport) add(found compared) {
	slug := found.tenant.Slug
	r.Rebuilt = append(r.Rebuilt, found.rebuilt...)
	if found.unseen != "" {
		r.Unseen = append(r.Unseen, DriftUnseen{slug, found.unseen})
		return
	}
	if found.gone {
		return
	}
	r.Compared++
	s := found.schema
	if len(s.Differences)+len(s.InvalidIndexes) == 0 {
		r.Same++
		return
	}
	if len(s.InvalidIndexes) > 0 {
		r.Invalid = append(r.Invalid, DriftInvalid{slug, s.InvalidIndexes})
	}
	if len(s.Differences) == 0 {
		return
	}
	for i := range r.Groups {
		if g := &r.Groups[i]; g.Versions == s.Versions && slices.Equal(g.Differences, s.Differences) {
			g.Tenants = append(g.Tenants, slug)
			return
		}
	}
	r.Groups = append(r.Groups, DriftGroup{s.Versions, s.Differences, []string{slug}})
}

func (r *DriftReport) sort() {
	for _, g := range r.Groups {
		slices.Sort(g.Tenants)
	}
	slices.SortFunc(r.Groups, func(a, b DriftGroup) int {
		return cmp.Or(cmp.Compare(len(b.Tenants), len(a.Tenants)), strings.Compare(a.Tenants[0], b.Tenants[0]))
	})
	slices.SortFunc(r.Invalid, func(a, b DriftInvalid) int { return strings.Compare(a.Tenant, b.Tenant) })
	slices.SortStableFunc(r.Rebuilt, func(a, b RebuiltIndex) int { return strings.Compare(a.Tenant, b.Tenant) })
	slices.SortFunc(r.Unseen, func(a, b DriftUnseen) int { return strings.Compare(a.Tenant, b.Tenant) })
}
