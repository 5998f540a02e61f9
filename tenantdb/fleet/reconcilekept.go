package fleet

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/tenantdb/fleet/replica"
)

const (
	findAlone = "alone" // of an operation that has ended
)

// Things of operations.
const (
	thingReplication = "replication"
	thingKept        = "kept"
)

const (
	selectAside = `
select d.datname, coalesce(shobj_description(d.oid, 'pg_database'), '')
  from pg_database d where d.datname ~ '^freehold_(kept|restore)_[0-9a-f]{32}'`
	// A slot keeps its server from removing log, whether anybody reads it or not.
	selectMoves = `
select left(s.slot_name, length($1) + 16) from pg_replication_slots s where starts_with(s.slot_name, $1)
 union
select left(r.rolname, length($1) + 16) from pg_roles r where starts_with(r.rolname, $1)`
)

// lookAside looks at what operations set aside on a server.
func (s *sighting) lookAside(ctx context.Context, conn *pgx.Conn, links string) error {
	s.aside = map[string]string{}
	var name, mark string
	rows, _ := conn.Query(ctx, selectAside) // its error is in rows
	_, err := pgx.ForEachRow(rows, []any{&name, &mark}, func() error {
		s.aside[name] = mark
		return nil
	})
	if err != nil {
		return err
	}
	rows, _ = conn.Query(ctx, selectMoves, links) // its error is in rows
	s.moves, err = pgx.CollectRows(rows, pgx.RowTo[string])
	return err
}

// readKept reads which databases are kept, and who is at work.
func (r *reconciliation) readKept(ctx context.Context) error {
	r.kept, r.keeps, r.working = map[[2]string]bool{}, map[[2]string]bool{}, map[string]bool{}
	list, err := r.cat.KeptDatabases(ctx, catalog.KeptFilter{})
	if err != nil {
		return err
	}
	for _, k := range list {
		r.kept[[2]string{k.Server, k.Database}] = true
		r.keeps[[2]string{k.Server, k.TenantID.String()}] = true
	}
	for _, state := range []string{catalog.OperationRunning, catalog.OperationWaiting} {
		moves, err := r.cat.Operations(ctx, catalog.OperationFilter{Kind: catalog.KindMove, State: state})
		if err != nil {
			return err
		}
		for _, o := range moves {
			r.working[linkOf(r.links, o.ID)] = true
		}
	}
	return nil
}

// judgeAside finds what operations have left behind.
func (r *reconciliation) judgeAside(s sighting) {
	for name, mark := range s.aside {
		id, ok := tenantNamed("t_" + strings.TrimPrefix(strings.TrimPrefix(name, keptPrefix), restorePrefix)[:32])
		one, known := r.residents[id]
		if mark != r.ours || !ok || known && one.Busy || r.kept[[2]string{s.name, name}] {
			continue
		}
		whose := "a tenant that this catalog doesn't know"
		if known {
			whose = called(one)
		}
		f := catalog.Finding{
			Kind: thingKept + "_" + findUnknown, Object: s.name + "/" + name, Server: s.name,
			What: fmt.Sprintf("database %s on server %s was set aside by an operation of %s, and nobody keeps it", name, s.name, whose),
			Fix:  "if nobody needs it, as the server's admin: drop database " + name,
		}
		if known {
			f.Tenant = id
		}
		r.findings = append(r.findings, f)
	}
	for _, name := range s.moves {
		if !r.working[name] {
			r.findings = append(r.findings, catalog.Finding{
				Kind: thingReplication + "_" + findAlone, Object: s.name + "/" + name, Server: s.name,
				What: "slot or role " + name + " on server " + s.name + " is of a move that has ended",
			})
		}
	}
}

// endReplications takes from the servers what moves have left there that ended: a slot
// that nobody reads fills its server's disk.
func (r *reconciliation) endReplications(ctx context.Context, known []catalog.Finding) (mended []catalog.Finding) {
	for _, f := range known {
		if f.Kind != thingReplication+"_"+findAlone || f.Age < youngLeftover || ctx.Err() != nil {
			continue
		}
		_, name, _ := strings.Cut(f.Object, "/")
		if err := r.endReplication(ctx, f.Server, name); err != nil {
			r.log.WarnContext(ctx, "leftover not removed", "kind", f.Kind, "object", f.Object, "reason", reason(ctx, err))
			continue
		}
		mended = append(mended, f)
	}
	return mended
}

func (r *reconciliation) endReplication(ctx context.Context, server, name string) error {
	conn, err := r.admin(ctx, server, maintenance)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	if err := replica.DropSlots(ctx, conn, name, ""); err != nil {
		return translate(ctx, err)
	}
	return translate(ctx, replica.DropLogin(ctx, conn, name))
}
