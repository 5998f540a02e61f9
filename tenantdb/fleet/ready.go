package fleet

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
)

// RefillReady sees to it that every active server has as many ready databases as
// it should, at the fleet's schema version: it goes on with those that a killed
// pass left, migrates those of another version, drops those that are too many, and
// makes what is missing while the server has room. The error names the servers
// where that failed; the next pass tries again.
func (f *Fleet) RefillReady(ctx context.Context) error {
	servers, err := f.cat.Servers(ctx)
	if err != nil {
		return fmt.Errorf("refill ready databases: %w", err)
	}
	version, err := f.cat.Floor(ctx)
	if err != nil {
		return fmt.Errorf("refill ready databases: %w", err)
	}
	if version == 0 {
		version = f.latest
	}
	if version > f.latest {
		return nil // a newer binary's business
	}
	var errs []error
	for _, s := range servers {
		if err := f.refill(ctx, s, version); err != nil {
			errs = append(errs, fmt.Errorf("refill ready databases: server %s: %s", s.Name, reason(ctx, err)))
		}
	}
	return errors.Join(errs...)
}

func (f *Fleet) refill(ctx context.Context, s catalog.Server, version int64) error {
	list, err := f.cat.ReadyDatabases(ctx, s.Name)
	if err != nil {
		return err
	}
	want := s.Ready
	if s.State != string(catalog.Active) {
		want = 0
	}
	if s.State == "down" || want == 0 && len(list) == 0 {
		return nil
	}
	kept := 0
	for _, r := range list {
		switch {
		case r.State != "dropping" && kept < want:
			kept++
			err = f.makeReady(ctx, r, version)
		default:
			err = f.dropReady(ctx, r)
		}
		if err != nil {
			return err
		}
	}
	for ; kept < want && ctx.Err() == nil; kept++ {
		r, added, err := f.cat.AddReady(ctx, s.Name, want)
		if err != nil || !added {
			return err
		}
		if err := f.makeReady(ctx, r, version); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// making are the parts of a ready database, those of an onboarding that need no name.
var making = []struct {
	name string
	do   func(*home, context.Context) error
}{
	{"template", (*home).prepareTemplate},
	{"role", (*home).makeRole},
	{"database", (*home).makeDatabase},
	{"privileges", (*home).setPrivileges},
	{"identity", func(h *home, ctx context.Context) (err error) { _, err = h.writeIdentity(ctx); return err }},
	{"prefix", (*home).makePrefix},
	{"proof", (*home).prove},
}

// makeReady makes a ready database, or what is left of it to do, or brings one to
// another schema version. One that was claimed meanwhile is its tenant's.
func (f *Fleet) makeReady(ctx context.Context, r catalog.ReadyDatabase, version int64) error {
	if r.State == "ready" && r.SchemaVersion == version {
		return nil
	}
	conn, err := f.lockTenant(ctx, r.Server, r.ID)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	h := &home{
		Fleet: f, id: r.ID, server: r.Server, schema: version, conn: conn,
		login: func(ctx context.Context) (*pgx.ConnConfig, error) { return f.cat.ReadyLogin(ctx, r.ID) },
	}
	if r.State == "ready" {
		// Taken out of reach of claims first: they must not meet a migration.
		if err := f.cat.SetReady(ctx, r, "ready", "making"); err != nil {
			return claimedMeanwhile(err)
		}
		r.State = "making"
		if r.SchemaVersion > version {
			return f.dropReady(ctx, r) // the fleet went back, and a database doesn't
		}
	}
	for _, part := range making {
		f.dieAt("ready/" + part.name + ":begun")
		if err := part.do(h, ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		f.dieAt("ready/" + part.name + ":made")
	}
	r.SchemaVersion = version
	return claimedMeanwhile(f.cat.SetReady(ctx, r, "making", "ready"))
}

// claimedMeanwhile is no error: a ready database is there to be claimed.
func claimedMeanwhile(err error) error {
	if errors.Is(err, catalog.ErrConflict) {
		return nil
	}
	return err
}

// dropReady drops one that is too many, out of reach of claims.
func (f *Fleet) dropReady(ctx context.Context, r catalog.ReadyDatabase) error {
	if r.State != "dropping" {
		if err := f.cat.SetReady(ctx, r, r.State, "dropping"); err != nil {
			return claimedMeanwhile(err)
		}
	}
	conn, err := f.lockTenant(ctx, r.Server, r.ID)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	for _, part := range []struct {
		name string
		do   func() error
	}{
		{"database", func() error { return f.dropDatabase(ctx, conn, r.Server, r.ID) }},
		{"role", func() error { return f.dropRole(ctx, conn, r.ID) }},
		{"prefix", func() error { return f.dropPrefix(ctx, r.ID) }},
	} {
		f.dieAt("unready/" + part.name + ":begun")
		if err := part.do(); err != nil {
			return fmt.Errorf("drop %s: %w", part.name, err)
		}
		f.dieAt("unready/" + part.name + ":made")
	}
	return f.cat.RemoveReady(ctx, r.ID)
}
