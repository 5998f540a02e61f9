package fleet

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
)

// reconciler is who the audit says it was.
const reconciler = "reconciler"

// mend removes what a deletion of this catalog's left, each thing by itself: what
// fails is logged, stays found, and is tried again at the next run. It returns
// what is gone.
func (r *reconciliation) mend(ctx context.Context, known []catalog.Finding) []catalog.Finding {
	mended := []catalog.Finding{}
	left := slices.Clone(known)
	// A role goes behind its database: it has a grant there.
	order := []string{thingDatabase + "_" + findLeft, thingRole + "_" + findLeft, thingPrefix + "_" + findLeft}
	slices.SortStableFunc(left, func(a, b catalog.Finding) int {
		return cmp.Compare(slices.Index(order, a.Kind), slices.Index(order, b.Kind))
	})
	for _, f := range left {
		one, known := r.residents[f.Tenant]
		if ctx.Err() != nil || !slices.Contains(order, f.Kind) || f.Fix != "" || !known || r.blind[f.Server] {
			continue
		}
		// Of a ready database nobody knows when it was given up.
		if young := f.Age < youngLeftover; young && (one.Ready || one.Changed < youngLeftover) {
			continue
		}
		removed, err := r.remove(ctx, f, one)
		if err != nil {
			r.log.WarnContext(ctx, "leftover not removed", "kind", f.Kind, "object", f.Object, "reason", reason(ctx, err))
		}
		if removed {
			mended = append(mended, f)
		}
	}
	return mended
}

const tryLockName = `select pg_try_advisory_lock(hashtextextended($1, 0))`

// remove looks once more, under the tenant's lock, and removes what is still left.
// Whoever works on the tenant now is left to it.
func (r *reconciliation) remove(ctx context.Context, f catalog.Finding, one catalog.Resident) (removed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	// The lock is where the tenant lived, and what is left may be elsewhere.
	lock, err := r.admin(ctx, one.Server, maintenance)
	if err != nil {
		return false, err
	}
	defer closeConn(ctx, lock)
	var locked bool
	if err := lock.QueryRow(ctx, tryLockName, tenantLock(f.Tenant)).Scan(&locked); err != nil || !locked {
		return false, translate(ctx, err)
	}
	if one, err = r.cat.Resident(ctx, f.Tenant); err != nil || one.Busy || !gone(one) {
		return false, err
	}
	thing, _, _ := strings.Cut(f.Kind, "_")
	r.log.InfoContext(ctx, "removing what was left", "kind", f.Kind, "object", f.Object, "tenant", f.Tenant.String())
	if thing == thingPrefix {
		err = r.blob.Drop(ctx, f.Tenant)
	} else {
		err = r.removeFrom(ctx, f.Server, thing, f.Tenant)
	}
	if err != nil {
		return false, err
	}
	// It is done: it is written down also when the caller has gone meanwhile.
	actx, stop := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer stop()
	return true, r.cat.AppendAudit(actx, reconciler, "reconcile.remove", f.Tenant, map[string]any{
		"kind": f.Kind, "object": f.Object, "server": f.Server,
	})
}

// removeFrom drops a tenant's database or role from a server, if it bears this
// catalog's mark.
func (r *reconciliation) removeFrom(ctx context.Context, server, thing string, id catalog.TenantID) error {
	conn, err := r.admin(ctx, server, maintenance)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	mark, there, err := markOf(ctx, conn, thing, id.DatabaseName())
	switch {
	case err != nil || !there:
		return err
	case mark != r.ours:
		return fmt.Errorf("%s %s bears another mark by now", thing, id.DatabaseName())
	}
	if thing == thingDatabase {
		return r.dropDatabase(ctx, conn, server, id)
	}
	return r.dropRole(ctx, conn, id)
}

const (
	selectDatabaseMark = `
select coalesce(shobj_description(oid, 'pg_database'), '') from pg_database where datname = $1`
	selectRoleMark = `
select coalesce(shobj_description(oid, 'pg_authid'), '') from pg_roles where rolname = $1`
)

func markOf(ctx context.Context, conn *pgx.Conn, thing, name string) (mark string, there bool, err error) {
	sql := selectDatabaseMark
	if thing == thingRole {
		sql = selectRoleMark
	}
	found, err := names(ctx, conn, sql, name)
	if err != nil || len(found) == 0 {
		return "", false, err
	}
	return found[0], true, nil
}
