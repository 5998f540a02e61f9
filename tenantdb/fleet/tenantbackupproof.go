package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/tenantdb/fleet/dump"
	"freehold/tenantdb/fleet/replica"
)

// proofTime bounds a proof: a little less than the longest time of periodic work.
const proofTime = 50 * time.Minute

// ProveBackups restores one backup on trial that is due for it by its tenant's plan:
// of all servers the one that waits longest, and the next server's when that can't be
// worked on. What a proof finds is on record; the error is of what kept one from being
// made.
func (f *Fleet) ProveBackups(ctx context.Context) error {
	owed, err := f.cat.ProofsOwed(ctx)
	if err != nil {
		return fmt.Errorf("prove backups: %w", err)
	}
	var errs []error
	for _, b := range owed {
		err := f.ProveBackup(ctx, b)
		switch {
		case err == nil, errors.Is(err, ErrBackupBroken):
			return errors.Join(errs...)
		case ctx.Err() != nil:
			return fmt.Errorf("prove backups: %w", ctx.Err())
		}
		errs = append(errs, fmt.Errorf("prove backups: tenant %s: %s", b.Tenant, reason(ctx, err)))
	}
	return errors.Join(errs...)
}

// ProveBackup restores a backup into a database that is dropped again, on the server
// where its tenant lives, compares what every table holds with what it held when the
// backup was made, and records what came out. ErrBackupBroken when it isn't what was
// backed up; any other error says that nobody knows: catalog.ErrConflict without room
// or for a server that is older than the backup's, localpg.ErrNotFound, ErrStore.
func (f *Fleet) ProveBackup(ctx context.Context, b catalog.TenantBackup) error {
	bounded, cancel := context.WithTimeout(ctx, proofTime)
	defer cancel()
	err := f.proveBackup(bounded, b)
	if err != nil && ctx.Err() == nil && bounded.Err() != nil {
		err = fmt.Errorf("%w: it isn't restored within %s", ErrBackupBroken, proofTime)
	}
	failure := ""
	switch {
	case err == nil:
	case errors.Is(err, ErrBackupBroken):
		failure = reason(ctx, err)
	default:
		return fmt.Errorf("prove backup: %w", err)
	}
	wctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout) // it was much work
	defer cancel()
	if rerr := f.cat.ProveTenantBackup(wctx, b.ID, failure); rerr != nil && !errors.Is(rerr, catalog.ErrNotFound) {
		return errors.Join(err, rerr)
	}
	if err != nil {
		f.log.ErrorContext(ctx, "backup proof failed", "tenant", b.TenantID.String(), "backup", b.ID, "reason", failure)
		return fmt.Errorf("prove backup: %w", err)
	}
	f.log.InfoContext(ctx, "backup proved", "tenant", b.TenantID.String(), "backup", b.ID, "made_at", b.MadeAt)
	return nil
}

func (f *Fleet) proveBackup(ctx context.Context, b catalog.TenantBackup) error {
	t, err := f.cat.Tenant(ctx, b.TenantID)
	if err != nil {
		return err
	}
	server, err := f.cat.Server(ctx, t.Server)
	if err != nil {
		return err
	}
	if server.Version/versionUnit < b.ServerVersion/versionUnit {
		return fmt.Errorf("the backup is of Postgres %d, server %s has %d: %w",
			b.ServerVersion/versionUnit, server.Name, server.Version/versionUnit, catalog.ErrConflict)
	}
	h, err := f.headerOf(ctx, b.TenantID, b.Key)
	if err != nil {
		return brokenBackup(err)
	}
	if left := server.DiskBytes - server.UsedBytes; server.DiskBytes > 0 && h.Bytes > left {
		return fmt.Errorf("server %s has %d bytes left, the tenant had %d: %w", server.Name, max(0, left), h.Bytes, catalog.ErrConflict)
	}
	name, drop, err := f.scratch(ctx, t.Server)
	if err != nil {
		return err
	}
	defer drop()
	f.dieAt("proof/restore")
	return f.fillFrom(ctx, t.Server, name, b.TenantID, b.Key)
}

// brokenBackup marks what is the backup's fault.
func brokenBackup(err error) error {
	if errors.Is(err, catalog.ErrSealBroken) || errors.Is(err, catalog.ErrNotFound) {
		return fmt.Errorf("%w: %w", ErrBackupBroken, err)
	}
	return err
}

// whoFailed tells a backup that can't be restored from a server that went away.
func (f *Fleet) whoFailed(ctx context.Context, server string, err error) error {
	if !errors.Is(err, dump.ErrFailed) {
		return brokenBackup(err)
	}
	conn, cerr := f.admin(ctx, server, maintenance)
	if cerr != nil {
		return cerr
	}
	closeConn(ctx, conn)
	return fmt.Errorf("%w: %w", ErrBackupBroken, err)
}

// holds compares what a database holds with what a backup says. ErrBackupBroken names
// the first tables that differ.
func holds(ctx context.Context, conn *pgx.Conn, want []BackupTable) error {
	if err := replica.Settle(ctx, conn); err != nil {
		return translate(ctx, err)
	}
	tables, err := replica.Tables(ctx, conn)
	if err != nil {
		return translate(ctx, err)
	}
	have, err := tableSums(ctx, conn, tables)
	if err != nil {
		return err
	}
	if differ := differing(have, want); len(differ) > 0 {
		more := ""
		if n := len(differ) - catalog.Sample; n > 0 {
			more = fmt.Sprintf(" and %d more", n)
			differ = differ[:catalog.Sample]
		}
		return fmt.Errorf("%w: restored, %s%s hold something else", ErrBackupBroken, strings.Join(differ, ", "), more)
	}
	return nil
}

// differing are the tables that one list has and the other hasn't, or has otherwise.
func differing(have, want []BackupTable) []string {
	left := map[string]replica.Sum{}
	for _, t := range want {
		left[t.Table] = t.Sum
	}
	var differ []string
	for _, t := range have {
		if sum, there := left[t.Table]; !there || sum != t.Sum {
			differ = append(differ, t.Table)
		}
		delete(left, t.Table)
	}
	for name := range left {
		differ = append(differ, name)
	}
	slices.Sort(differ)
	return differ
}
