package catalog

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// resealPage is how many rows are locked at a time.
	resealPage = 100
	// resealPause is waited for rows that somebody else held.
	resealPause = 100 * time.Millisecond
)

// sealedTable is where secrets lie, sealed. Its rows are locked before they are
// read, in the order of their keys; one that somebody else has locked is left for
// the next pass.
type sealedTable struct {
	name, first    string // the key before the first one
	choose, update string
	aad            func(key string) (string, error)
}

const (
	chooseTenants = `
select id::text, secret from tenants
 where id > $2::text::uuid and secret_key_id <> $1 and secret <> ''
 order by id limit $3 for no key update skip locked`
	resealTenants = `
update tenants t set secret = s.sealed, secret_key_id = $1
  from unnest($2::text[], $3::bytea[], $4::bytea[]) as s (id, was, sealed)
 where t.id = s.id::uuid and t.secret = s.was`

	chooseReady = `
select id::text, secret from ready_databases
 where id > $2::text::uuid and secret_key_id <> $1 and secret <> ''
 order by id limit $3 for no key update skip locked`
	resealReady = `
update ready_databases t set secret = s.sealed, secret_key_id = $1
  from unnest($2::text[], $3::bytea[], $4::bytea[]) as s (id, was, sealed)
 where t.id = s.id::uuid and t.secret = s.was`

	chooseServers = `
select id::text, admin_secret from servers
 where id > $2::text::uuid and secret_key_id <> $1
 order by id limit $3 for no key update skip locked`
	resealServers = `
update servers t set admin_secret = s.sealed, secret_key_id = $1
  from unnest($2::text[], $3::bytea[], $4::bytea[]) as s (id, was, sealed)
 where t.id = s.id::uuid and t.admin_secret = s.was`

	chooseEngines = `
select name, secret from engines
 where name > $2 and secret_key_id <> $1 and secret is not null
 order by name limit $3 for no key update skip locked`
	resealEngines = `
update engines t set secret = s.sealed, secret_key_id = $1
  from unnest($2::text[], $3::bytea[], $4::bytea[]) as s (name, was, sealed)
 where t.name = s.name and t.secret = s.was`
)

func sealedTables() []sealedTable {
	const none = "00000000-0000-0000-0000-000000000000"
	tenant := func(key string) (string, error) {
		id, err := ParseTenantID(key)
		return tenantAAD(id), err
	}
	return []sealedTable{
		{"server", none, chooseServers, resealServers, func(key string) (string, error) { return serverAAD(key), nil }},
		{"engine", "", chooseEngines, resealEngines, func(key string) (string, error) { return engineAAD(key), nil }},
		{"ready database", none, chooseReady, resealReady, tenant},
		{"tenant", none, chooseTenants, resealTenants, tenant},
	}
}

// One snapshot: a ready database that is claimed is in one table or the other.
const countSealed = `
select (select count(*) from servers where secret_key_id <> $1)
     + (select count(*) from engines where secret_key_id <> $1 and secret is not null)
     + (select count(*) from ready_databases where secret_key_id <> $1 and secret <> '')
     + (select count(*) from tenants where secret_key_id <> $1 and secret <> '')`

// reseal is a walk through all that is sealed with another key than keyID.
type reseal struct {
	*Catalog
	keyID      int64
	progress   func(done, total int)
	done       int
	unreadable []string // what no key of the keyset opens
}

// run reseals until nothing is left but what can't be read. No epoch moves: the
// secrets themselves stay.
func (r *reseal) run(ctx context.Context) error {
	for {
		left, err := r.left(ctx)
		if err != nil || left <= len(r.unreadable) {
			return err
		}
		total := r.done + left
		r.progress(r.done, total)
		r.unreadable = nil
		before := r.done
		for _, table := range sealedTables() {
			if err := r.table(ctx, table, total); err != nil {
				return err
			}
		}
		if r.done == before && len(r.unreadable) < left && !pause(ctx, resealPause) {
			return wrap("reseal", ctx.Err())
		}
	}
}

func (r *reseal) left(ctx context.Context) (n int, err error) {
	return n, wrap("reseal", r.writer.QueryRow(ctx, countSealed, r.keyID).Scan(&n))
}

func (r *reseal) table(ctx context.Context, t sealedTable, total int) error {
	for after, more := t.first, true; more; {
		var done int
		err := pgx.BeginFunc(ctx, r.writer, func(tx pgx.Tx) (err error) {
			after, done, more, err = r.page(ctx, tx, t, after)
			return err
		})
		if err != nil {
			return wrap("reseal", err)
		}
		r.done += done
		r.progress(r.done, max(total, r.done))
	}
	return nil
}

// page reseals the rows behind a key, in one transaction.
func (r *reseal) page(ctx context.Context, tx pgx.Tx, t sealedTable, after string) (last string, done int, more bool, err error) {
	rows, err := tx.Query(ctx, t.choose, r.keyID, after, resealPage)
	if err != nil {
		return after, 0, false, err
	}
	type row struct {
		Key    string
		Secret []byte
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
	if err != nil || len(list) == 0 {
		return after, 0, false, err
	}
	var names []string
	var was, sealed [][]byte
	for _, s := range list {
		aad, err := t.aad(s.Key)
		if err != nil {
			return after, 0, false, err
		}
		plain, err := r.keyset.Open(s.Secret, aad)
		if err != nil {
			r.unreadable = append(r.unreadable, t.name+" "+s.Key)
			continue
		}
		fresh, keyID, err := r.keyset.Seal(plain, aad)
		if err == nil && keyID != r.keyID {
			err = fmt.Errorf("reseal: the master key's file changed meanwhile: %w", ErrConflict)
		}
		if err != nil {
			return after, 0, false, err
		}
		names, was, sealed = append(names, s.Key), append(was, s.Secret), append(sealed, fresh)
	}
	last = list[len(list)-1].Key
	tag, err := tx.Exec(ctx, t.update, r.keyID, names, was, sealed)
	return last, int(tag.RowsAffected()), len(list) == resealPage, err
}

const updateSeal = `update catalog_seal set sealed = $1 where sealed = $2`

// moveSeal ends a rotation, and writes down who did it: one happens with the
// other. The seal is last, so that the key which it is sealed with tells whether
// everything else is done.
func (c *Catalog) moveSeal(ctx context.Context, was []byte, actor string, r Rotation) error {
	sealed, keyID, err := c.keyset.Seal([]byte(sealText), sealAAD)
	if err == nil && keyID != r.New {
		err = fmt.Errorf("rotate keyset: the master key's file changed meanwhile: %w", ErrConflict)
	}
	if err != nil {
		return err
	}
	detail := map[string]any{"old": r.Old, "new": r.New, "resealed": r.Resealed, "unreadable": len(r.Unreadable)}
	return wrap("rotate keyset", pgx.BeginFunc(ctx, c.writer, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, updateSeal, sealed, was)
		if err == nil && tag.RowsAffected() == 0 {
			err = fmt.Errorf("rotate keyset: somebody else has ended it: %w", ErrConflict)
		}
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, appendAudit, actor, "keyset.rotate", nil, detail)
		return err
	}))
}
