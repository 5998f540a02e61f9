package fleet

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/migrations"
	"freehold/tenantdb"
)

// RefillReady sees to it that every active server has as many ready databases as
// it should, at the fleet's versions: it goes on with those that a killed
// pass left, migrates those of other versions, drops those that are too many, and
// makes what is missing while the server has room. One that can't be made leaves
// the others to be. The error names servers and databases where that failed; the
// next pass tries again.
func (f *Fleet) RefillReady(ctx context.Context) error {
	servers, err := f.cat.Servers(ctx)
	if err != nil {
		return fmt.Errorf("refill ready databases: %w", err)
	}
	at, err := f.begins(ctx)
	if err != nil {
		return fmt.Errorf("refill ready databases: %w", err)
	}
	if at.Freehold > f.latest {
		return nil // a newer binary's business
	}
	var errs []error
	for _, s := range servers {
		if err := f.refill(ctx, s, at); err != nil {
			errs = append(errs, fmt.Errorf("refill ready databases: server %s: %w", s.Name, err))
		}
	}
	return errors.Join(errs...)
}

// refill's error can be shown.
func (f *Fleet) refill(ctx context.Context, s catalog.Server, at catalog.Versions) error {
	list, err := f.cat.ReadyDatabases(ctx, s.Name)
	if err != nil {
		return because(ctx, err)
	}
	want := s.Ready
	if s.State != catalog.ServerActive {
		want = 0
	}
	if s.State == catalog.ServerDown {
		return nil
	}
	var errs []error
	// failed reports whether there is no use in going on with this server.
	failed := func(r catalog.ReadyDatabase, err error) bool {
		if err != nil {
			errs = append(errs, fmt.Errorf("ready database %s: %w", r.ID, because(ctx, err)))
		}
		return ctx.Err() != nil || errors.Is(err, errAway) || errors.Is(err, catalog.ErrUnavailable)
	}
	kept := 0
	for _, r := range list {
		if r.State != "dropping" && kept < want {
			kept++
			err = f.makeReady(ctx, r, at)
		} else {
			err = f.dropReady(ctx, r)
		}
		if failed(r, err) {
			return errors.Join(errs...)
		}
	}
	for range want {
		r, added, err := f.cat.AddReady(ctx, s.Name, want)
		if err != nil {
			return errors.Join(append(errs, because(ctx, err))...)
		}
		if !added || failed(r, f.makeReady(ctx, r, at)) {
			break
		}
	}
	return errors.Join(append(errs, ctx.Err())...)
}

// errAway marks that the server of a ready database couldn't be worked on at all.
var errAway = errors.New("its server can't be worked on")

// lockReady takes the lock of a ready database and looks what became of it until
// then: nil without an error when another process was at it, or it was claimed.
func (f *Fleet) lockReady(ctx context.Context, r catalog.ReadyDatabase) (*pgx.Conn, error) {
	conn, err := f.lockTenant(ctx, r.Server, r.ID)
	if errors.Is(err, tenantdb.ErrUnavailable) {
		err = fmt.Errorf("%w: %w", errAway, err)
	}
	if err != nil {
		return nil, err
	}
	now, err := f.cat.Resident(ctx, r.ID)
	if err == nil && now.Ready && now.State == r.State {
		return conn, nil
	}
	closeConn(ctx, conn)
	if errors.Is(err, catalog.ErrNotFound) {
		err = nil // dropped
	}
	return nil, err
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
	{"identity", (*home).identify},
	{"prefix", (*home).makePrefix},
	{"proof", (*home).prove},
}

// makeReady makes a ready database, or what is left of it to do, or brings one to
// other versions. One that was claimed meanwhile is its tenant's.
func (f *Fleet) makeReady(ctx context.Context, r catalog.ReadyDatabase, at catalog.Versions) error {
	if r.State == "ready" && r.Versions() == at {
		return nil
	}
	if r.State == "ready" && at.Below(r.Versions()) {
		return f.dropReady(ctx, r) // the fleet went back, and a database doesn't
	}
	err := f.tryReady(ctx, r, at)
	if errors.Is(err, migrations.ErrAhead) {
		r.State = "making"
		return f.dropReady(ctx, r)
	}
	return err
}

// identify refuses a database that a newer binary had begun: the catalog must not
// say that it is at a version that it isn't at.
func (h *home) identify(ctx context.Context) error {
	has, err := h.writeIdentity(ctx)
	if err == nil && has != h.at {
		err = fmt.Errorf("it is at schema %s: %w", has, migrations.ErrAhead)
	}
	return err
}

func (f *Fleet) tryReady(ctx context.Context, r catalog.ReadyDatabase, at catalog.Versions) error {
	conn, err := f.lockReady(ctx, r)
	if err != nil || conn == nil {
		return err
	}
	defer closeConn(ctx, conn)
	h := &home{
		Fleet: f, id: r.ID, server: r.Server, at: at, conn: conn,
		login: func(ctx context.Context) (*pgx.ConnConfig, error) { return f.cat.ReadyLogin(ctx, r.ID) },
	}
	if r.State == "ready" {
		// Taken out of reach of claims first: they must not meet a migration.
		if err := f.cat.SetReady(ctx, r, "ready", "making"); err != nil {
			return claimedMeanwhile(err)
		}
	}
	for _, part := range making {
		f.dieAt("ready/" + part.name + ":begun")
		if err := part.do(h, ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		f.dieAt("ready/" + part.name + ":made")
	}
	r.SchemaVersion, r.ProductVersion = at.Freehold, at.Product
	if r.SchemaNeeds, err = f.needs(at.Freehold); err != nil {
		return err
	}
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
		r.State = "dropping"
	}
	conn, err := f.lockReady(ctx, r)
	if err != nil || conn == nil {
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
